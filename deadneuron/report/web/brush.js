// Drag along the steps to look closer; Escape, a double click or the button show all again.

import { el } from "./dom.js";

const LEAST = 5; // pixels: less is a click

// `signal` (an AbortSignal) takes the listeners off again.
export function brushable(node, left, scaleOf, choose, signal) {
  let from = null;
  let mark = null;
  const x = (event) => event.clientX - node.getBoundingClientRect().left - left();
  const ends = (event) => [from, Math.min(Math.max(x(event), 0), scaleOf().width)].sort((p, q) => p - q);
  const stop = () => {
    from = null;
    mark?.remove();
  };
  node.addEventListener("pointerdown", (event) => {
    const [at, width] = [x(event), scaleOf().width];
    if (event.button !== 0 || at < 0 || at > width || event.target.closest("button, a, label, select")) return;
    stop();
    from = at;
    mark = el("div", { class: "dn-brush", style: { left: `${left() + at}px`, width: "0" } });
    node.append(mark);
  }, { signal });
  window.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const [a, b] = ends(event);
    Object.assign(mark.style, { left: `${left() + a}px`, width: `${b - a}px` });
  }, { signal });
  window.addEventListener("pointerup", (event) => {
    if (from === null) return;
    const [a, b] = ends(event);
    stop();
    if (b - a >= LEAST) choose([Math.floor(scaleOf().step(a)), Math.ceil(scaleOf().step(b)) - 1]);
  }, { signal });
  window.addEventListener("pointercancel", stop, { signal });
  node.addEventListener("dblclick", (event) => event.target.closest("button, select") || choose(null), { signal });
}
