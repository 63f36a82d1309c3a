// The histogram of pre-activations over time: one column a window, darker where more values lie.

import { el, paint } from "./dom.js";
import { css, inkColour, lineColour } from "./palette.js";
import { columnAt, percent, short, span } from "./scale.js";

const BIN = 4; // pixels
const TOP = 7; // room for half a label

export function histogram(site, scale, left, handlers) {
  const columns = site.first.length;
  const bins = site.histogram.length / columns;
  const filled = [...Array(bins).keys()].filter((bin) => {
    for (let c = 0; c < columns; c += 1) if (site.histogram[bin * columns + c]) return true;
    return false;
  });
  const [low, high] = [filled[0] ?? 0, filled.at(-1) ?? 0];
  const height = (high - low + 1) * BIN;
  const canvas = el("canvas", { class: "dn-histogram", role: "img" });
  canvas.setAttribute("aria-label", `histogram of the pre-activations of ${site.name} over the steps`);
  paint(canvas, left + scale.width, height + 14, (context) => {
    context.translate(0, TOP);
    drawBins(context, site, scale, left, low, high);
    drawEdges(context, site, scale, left, low, high);
  });
  canvas.addEventListener("pointermove", (event) => {
    const column = columnAt(site, scale.step(event.offsetX - left));
    const bin = high - Math.floor((event.offsetY - TOP) / BIN);
    if (event.offsetX < left || column < 0 || bin < low || bin > high) return handlers.hover(event, null);
    const share = (site.histogram[bin * columns + column] / 255) ** 2;
    const [from, to] = [site.edges[bin - 1], site.edges[bin]];
    const where = from === undefined ? `below ${short(to)}` : to === undefined ? `above ${short(from)}` : `from ${short(from)} to ${short(to)}`;
    return handlers.hover(event, {
      title: `${site.name}, ${span(site.first[column], site.last[column])}`,
      lines: [`${percent(share)} of its pre-activations lie ${where}`],
    });
  });
  canvas.addEventListener("pointerleave", () => handlers.hover(null));
  return canvas;
}

function drawBins(context, site, scale, left, low, high) {
  const columns = site.first.length;
  for (let c = 0; c < columns; c += 1) {
    const from = left + Math.round(Math.max(scale.x(site.first[c]), 0));
    const to = left + Math.round(Math.min(scale.x(site.last[c] + 1), scale.width));
    if (to <= left || from >= left + scale.width) continue;
    const wide = Math.max(to - from, 1);
    context.fillStyle = css(inkColour(0));
    context.fillRect(from, 0, wide, (high - low + 1) * BIN);
    for (let bin = low; bin <= high; bin += 1) {
      const value = site.histogram[bin * columns + c];
      if (!value) continue;
      context.fillStyle = css(inkColour(value / 255));
      context.fillRect(from, (high - bin) * BIN, wide, BIN);
    }
  }
}

// Zero as a line; the ends, and -1 and 1 where they are not too near to another label, as numbers.
function drawEdges(context, site, scale, left, low, high) {
  const colour = css(lineColour());
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "right";
  context.textBaseline = "middle";
  const used = [];
  const label = (edge) => {
    const y = (high - edge) * BIN;
    if (edge < low - 1 || edge > high || edge < 0 || edge >= site.edges.length || used.some((other) => Math.abs(other - y) < 13)) return;
    used.push(y);
    context.fillStyle = colour;
    context.fillText(short(site.edges[edge]), left - 8, y);
  };
  const zero = site.edges.indexOf(0);
  if (zero >= low && zero < high) {
    context.fillStyle = colour;
    context.fillRect(left, (high - zero) * BIN - 0.5, scale.width, 1);
  }
  [zero, Math.min(high, site.edges.length - 1), Math.max(low - 1, 0)].forEach(label);
  for (const value of [1, -1]) label(site.edges.findIndex((edge) => Math.abs(edge - value) < 1e-9));
}
