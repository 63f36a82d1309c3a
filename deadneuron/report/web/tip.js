// The box that tells what lies under the pointer or the keyboard's cursor. It never leaves the window.

import { el } from "./dom.js";

export class Tip {
  constructor(root) {
    this.root = root;
    this.node = el("div", { class: "dn-tip", role: "status", hidden: true });
  }

  // `at` has clientX and clientY; `told` a title and lines. Without either the box is hidden.
  show(at, told) {
    this.node.hidden = !at || !told;
    if (this.node.hidden) return;
    this.node.replaceChildren(el("strong", {}, told.title), ...told.lines.map((line) => el("div", {}, line)));
    const box = this.root.getBoundingClientRect();
    const [width, height] = [this.node.offsetWidth, this.node.offsetHeight];
    const x = Math.min(at.clientX + 14, Math.min(box.right, innerWidth) - width - 4);
    const below = at.clientY + 16;
    const y = below + height > innerHeight ? at.clientY - height - 10 : below;
    this.node.style.left = `${Math.max(x - box.left, 0)}px`;
    this.node.style.top = `${Math.max(y, 0) - box.top}px`;
  }
}
