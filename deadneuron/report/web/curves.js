// The learning rate over the steps, and the deaths below it as ticks: SVG on the axis that the pictures share.

import { svg } from "./dom.js";
import { short, ticks } from "./scale.js";

const HEIGHT = 74;
const TOP = 8;
const DASHES = ["", "5 3", "2 3", "8 3 2 3"]; // groups are told apart without colour, too

export function drawRates(rates, scale, left) {
  const root = svg("svg", { class: "dn-rates", width: left + scale.width, height: HEIGHT + 16, role: "img" });
  root.append(svg("title", {}, "learning rate of each parameter group over the steps"));
  const values = rates.flatMap((group) => group.points.map(([, value]) => value)).filter((v) => v !== null);
  const high = Math.max(...values, 0);
  if (!(high > 0)) {
    root.append(svg("text", { x: left, y: HEIGHT / 2, class: "dn-dim" }, "no learning rate was recorded"));
    return root;
  }
  const y = (value) => TOP + (HEIGHT - TOP) * (1 - value / high);
  for (const value of ticks(0, high, 2)) {
    root.append(
      svg("line", { x1: left, x2: left + scale.width, y1: y(value), y2: y(value), class: "dn-grid" }),
      svg("text", { x: left - 6, y: y(value) + 4, class: "dn-axis", "text-anchor": "end" }, short(value)),
    );
  }
  rates.forEach((group, index) => {
    const points = visible(group.points, scale).map(([step, value]) => `${left + scale.x(step)},${y(value)}`);
    const line = svg("polyline", {
      points: points.join(" "), class: "dn-rate", "stroke-dasharray": DASHES[index % DASHES.length],
    });
    line.append(svg("title", {}, group.group));
    root.append(line);
  });
  root.append(svg("text", { x: left - 6, y: HEIGHT + 13, class: "dn-axis", "text-anchor": "end" }, "rate"));
  const names = rates.slice(0, 4).map((group) => group.group).join(", ") + (rates.length > 4 ? " …" : "");
  root.append(svg("text", { x: left, y: HEIGHT + 13, class: "dn-dim" }, names));
  return root;
}

// Points inside the scale, and the nearest one beyond either end, so that the line reaches the edge.
function visible(points, scale) {
  const known = points.filter(([, value]) => value !== null);
  const inside = known.filter(([step]) => step >= scale.low && step <= scale.high);
  const before = known.filter(([step]) => step < scale.low).at(-1);
  const after = known.find(([step]) => step > scale.high);
  const at = (from, to, step) => [step, from[1] + ((to[1] - from[1]) * (step - from[0])) / (to[0] - from[0])];
  const first = before ? at(before, inside[0] ?? after ?? [scale.high + 1, before[1]], scale.low) : null;
  const last = after ? at(inside.at(-1) ?? before ?? [scale.low - 1, after[1]], after, scale.high) : null;
  return [first, ...inside, last].filter((point) => point !== null);
}

export function drawAxis(scale, left) {
  const root = svg("svg", { class: "dn-steps", width: left + scale.width, height: 22, "aria-hidden": "true" });
  for (const step of ticks(scale.low, scale.high, Math.max(Math.floor(scale.width / 90), 2))) {
    const x = left + scale.x(step);
    const anchor = x > left + scale.width - 20 ? "end" : "middle";
    root.append(
      svg("line", { x1: x, x2: x, y1: 0, y2: 4, class: "dn-tick" }),
      svg("text", { x, y: 16, class: "dn-axis", "text-anchor": anchor }, step.toLocaleString("en")),
    );
  }
  root.append(svg("text", { x: left - 6, y: 16, class: "dn-axis", "text-anchor": "end" }, "step"));
  return root;
}
