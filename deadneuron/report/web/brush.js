// Drag along the steps to look closer; Escape, a double click or the button show all again.

import { el } from "./dom.js";

const LEAST = 5; // pixels: less is a click

export function brushable(node, left, scaleOf, choose) {
  let from = null;
  let mark = null;
  const x = (event) => event.clientX - node.getBoundingClientRect().left - left;
  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || x(event) < 0 || event.target.closest("button, a, label, select")) return;
    from = x(event);
    mark = el("div", { class: "dn-brush" });
    node.append(mark);
  });
  const move = (event) => {
    if (from === null) return;
    const width = scaleOf().width;
    const [a, b] = [from, Math.min(Math.max(x(event), 0), width)].sort((p, q) => p - q);
    Object.assign(mark.style, { left: `${left + a}px`, width: `${b - a}px` });
  };
  const end = (event) => {
    if (from === null) return;
    const scale = scaleOf();
    const [a, b] = [from, Math.min(Math.max(x(event), 0), scale.width)].sort((p, q) => p - q);
    from = null;
    mark.remove();
    if (b - a >= LEAST) choose(Math.round(scale.step(a)), Math.round(scale.step(b)));
  };
  window.addEventListener("pointermove", move);
  window.addEventListener("pointerup", end);
  node.addEventListener("dblclick", () => choose(null, null));
  return () => {
    window.removeEventListener("pointermove", move);
    window.removeEventListener("pointerup", end);
  };
}
