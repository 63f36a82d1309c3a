// The learning rate over the steps, and the axis that all pictures share: SVG.

import { el, svg } from "./dom.js";
import { short, ticks } from "./scale.js";

const HEIGHT = 74;
const TOP = 8;
const DASHES = ["", "6 3", "2 3", "8 3 2 3"]; // groups are told apart without colour, too
const NAMED = 4;

// `top` is the largest rate that is drawn; two runs side by side share it.
export function drawRates(rates, scale, left, top) {
  const root = svg("svg", { class: "dn-rates", width: left + scale.width, height: HEIGHT + 6, role: "img" });
  root.append(svg("title", {}, "learning rate of each parameter group over the steps"));
  const high = top ?? largest(rates);
  if (!(high > 0)) {
    root.append(svg("text", { x: left, y: HEIGHT / 2, class: "dn-dim" }, "no learning rate was recorded"));
    return root;
  }
  const y = (value) => TOP + (HEIGHT - TOP) * (1 - value / high);
  for (const value of ticks(0, high, 2)) {
    root.append(
      svg("line", { x1: left, x2: left + scale.width, y1: y(value), y2: y(value), class: "dn-grid" }),
      svg("text", { x: left - 8, y: y(value) + 4, class: "dn-axis", "text-anchor": "end" }, short(value)),
    );
  }
  rates.forEach((group, index) => {
    const points = visible(group.points, scale).map(([step, value]) => `${left + scale.x(step)},${y(value)}`);
    const line = svg("polyline", { points: points.join(" "), class: "dn-rate", "stroke-dasharray": dash(index) });
    line.append(svg("title", {}, group.group));
    root.append(line);
  });
  return root;
}

export function largest(rates) {
  return rates.reduce((most, group) => group.points.reduce((m, [, value]) => Math.max(m, value ?? 0), most), 0);
}

// What the lines are called; one line needs no mark.
export function ratesLegend(rates) {
  const box = el("div", { class: "dn-legend dn-caption" }, el("span", {}, "learning rate"));
  rates.slice(0, NAMED).forEach((group, index) => {
    const mark = svg("svg", { width: 22, height: 8, "aria-hidden": "true" });
    mark.append(svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, class: "dn-rate", "stroke-dasharray": dash(index) }));
    box.append(el("span", { class: "dn-group" }, mark, group.group));
  });
  if (rates.length > NAMED) box.append(el("span", {}, `… ${rates.length - NAMED} more`));
  return box;
}

function dash(index) {
  return DASHES[index % DASHES.length];
}

// Points inside the scale, and where the line crosses either end, so that it reaches the edge.
function visible(points, scale) {
  const known = points.filter(([, value]) => value !== null);
  const inside = known.filter(([step]) => step >= scale.low && step <= scale.high);
  const before = known.filter(([step]) => step < scale.low).at(-1);
  const after = known.find(([step]) => step > scale.high);
  const at = (from, to, step) => [step, from[1] + ((to[1] - from[1]) * (step - from[0])) / (to[0] - from[0])];
  const next = inside[0] ?? after;
  const previous = inside.at(-1) ?? before;
  const first = before && next ? at(before, next, scale.low) : null;
  const last = after && previous ? at(previous, after, scale.high) : null;
  return [first, ...inside, last].filter((point) => point !== null);
}

export function drawAxis(scale, left) {
  const root = svg("svg", { class: "dn-steps", width: left + scale.width, height: 22, "aria-hidden": "true" });
  const whole = ticks(scale.low, scale.high, Math.max(Math.floor(scale.width / 90), 2)).filter(Number.isInteger);
  for (const step of whole) {
    const x = left + scale.x(step);
    const anchor = x > left + scale.width - 24 ? "end" : x < left + 12 ? "start" : "middle";
    root.append(
      svg("line", { x1: x, x2: x, y1: 0, y2: 4, class: "dn-tick" }),
      svg("text", { x, y: 16, class: "dn-axis", "text-anchor": anchor }, step.toLocaleString("en")),
    );
  }
  root.append(svg("text", { x: left - 8, y: 16, class: "dn-axis", "text-anchor": "end" }, "step"));
  return root;
}
