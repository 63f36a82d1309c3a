// Dark or light as TensorBoard around the tab is: its page marks its body in the dark. Where that cannot be known, as
// the system wishes.

export function followTheme(changed) {
  const around = outside();
  const wish = matchMedia("(prefers-color-scheme: dark)");
  const set = () => {
    const dark = around ? around.classList.contains("dark-mode") : wish.matches;
    if (document.documentElement.dataset.theme === (dark ? "dark" : "light")) return;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    changed();
  };
  set();
  wish.addEventListener("change", set);
  if (around) new MutationObserver(set).observe(around, { attributes: true, attributeFilter: ["class"] });
}

function outside() {
  try {
    return window.parent === window ? null : window.parent.document.body;
  } catch {
    return null;
  }
}
