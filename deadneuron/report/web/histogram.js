// The histogram of pre-activations over time: one column a window, darker where more values lie.

import { el, paint } from "./dom.js";
import { css, inkColour } from "./palette.js";
import { columnAt, percent, short } from "./scale.js";

const BIN = 4; // pixels

export function histogram(site, scale, left, handlers) {
  const columns = site.first.length;
  const bins = site.histogram.length / columns;
  const filled = [...Array(bins).keys()].filter((bin) => {
    for (let c = 0; c < columns; c += 1) if (site.histogram[bin * columns + c]) return true;
    return false;
  });
  const [low, high] = [filled[0] ?? 0, filled.at(-1) ?? 0];
  const shown = high - low + 1;
  const canvas = el("canvas", { class: "dn-histogram", role: "img" });
  canvas.setAttribute("aria-label", `histogram of the pre-activations of ${site.name} over the steps`);
  paint(canvas, left + scale.width, shown * BIN + 2, (context, width) => {
    for (let c = 0; c < columns; c += 1) {
      const from = left + Math.max(scale.x(site.first[c]), 0);
      const to = left + Math.min(scale.x(site.last[c] + 1), scale.width);
      if (to <= left || from >= left + scale.width) continue;
      for (let bin = low; bin <= high; bin += 1) {
        const value = site.histogram[bin * columns + c] / 255;
        if (!value) continue;
        context.fillStyle = css(inkColour(value));
        context.fillRect(from, (high - bin) * BIN, Math.max(to - from, 0.5), BIN);
      }
    }
    const zero = site.edges.indexOf(0);
    if (zero >= low && zero < high) {
      const y = (high - zero) * BIN;
      context.fillStyle = getComputedStyle(document.body).color;
      context.fillRect(left, y - 0.5, scale.width, 1);
      context.font = "11px system-ui, sans-serif";
      context.textAlign = "right";
      context.fillText("0", left - 6, y + 4);
      context.fillText(short(site.edges[Math.min(high, site.edges.length - 1)]), left - 6, 10);
      context.fillText(short(site.edges[Math.max(low - 1, 0)]), left - 6, shown * BIN);
    }
  });
  canvas.addEventListener("pointermove", (event) => {
    const column = columnAt(site, scale.step(event.offsetX - left));
    const bin = high - Math.floor(event.offsetY / BIN);
    if (column < 0 || bin < low || bin > high) return handlers.hover(event, null);
    const share = (site.histogram[bin * columns + column] / 255) ** 2;
    const [from, to] = [site.edges[bin - 1] ?? -Infinity, site.edges[bin] ?? Infinity];
    return handlers.hover(event, {
      title: `${site.name}, steps ${site.first[column].toLocaleString("en")}–${site.last[column].toLocaleString("en")}`,
      lines: [`${percent(share)} of its pre-activations lie from ${short(from)} to ${short(to)}`],
    });
  });
  canvas.addEventListener("pointerleave", () => handlers.hover(null));
  return canvas;
}
