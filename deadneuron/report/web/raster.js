// Units × steps: the life of every unit of one layer. One pixel row a unit where there is room.

import { el, paint } from "./dom.js";
import { DEAD, STATES, UNSEEN, stateColours } from "./palette.js";
import { columnAt, short, span } from "./scale.js";

const TALLEST = 420;
const THICKEST = 6; // pixels a row, where a layer has few units
const STRIDE = 8; // pixels that an arrow key moves the cursor by
const LISTED = 4; // lives in the tip

export const ORDERS = {
  death: "by death",
  silence: "by time dead",
  unit: "by unit",
};

// What of a site the raster draws: the tab fetches it apart, with columns of its own.
export function lives(site) {
  return site.lives ?? site;
}

export function rowOrder(site, order) {
  const rows = [...Array(site.rows).keys()];
  if (order === "unit") return rows;
  const columns = site.first.length;
  const dead = rows.map((row) => {
    let steps = 0;
    for (let c = 0; c < columns; c += 1) {
      if (site.states[row * columns + c] === DEAD) steps += site.last[c] + 1 - site.first[c];
    }
    return steps;
  });
  if (order === "silence") return rows.sort((a, b) => dead[b] - dead[a] || a - b);
  const died = firstDeaths(site);
  // Infinity - Infinity is no number, and no order.
  const earlier = (a, b) => (died[a] === died[b] ? 0 : died[a] - died[b]);
  return rows.sort((a, b) => earlier(a, b) || dead[b] - dead[a] || a - b);
}

// The step that the first lasting death of each row's units is dated to; born dead before all, the living last.
function firstDeaths(site) {
  const first = Array(site.rows).fill(Infinity);
  for (const [unit, step, last, , born] of site.deaths) {
    const row = Math.floor(unit / site.perRow);
    if (last === null && row < site.rows) first[row] = Math.min(first[row], born ? -1 : step);
  }
  return first;
}

export function raster(given, scale, order, handlers) {
  const site = lives(given);
  const rows = rowOrder(site, order);
  const thick = Math.max(Math.min(Math.floor(TALLEST / site.rows), THICKEST), 1);
  const canvas = el("canvas", { class: "dn-raster", tabindex: "0", role: "img" });
  canvas.setAttribute("aria-label", `states of the ${site.units} units of ${site.name} over the steps; arrow keys tell each`);
  canvas.dataset.rows = site.rows;
  canvas.dataset.thick = thick;
  paint(canvas, scale.width, site.rows * thick, (context, width) => drawRaster(context, site, scale, rows, thick, width));
  const tell = (x, y, at) => {
    const row = rows[Math.min(Math.max(Math.floor(y / thick), 0), rows.length - 1)];
    const column = columnAt(site, scale.step(x));
    handlers.hover(at, row === undefined || column < 0 ? null : toldUnit(site, row, column));
  };
  const cursor = el("div", { class: "dn-cursor", hidden: true });
  canvas.addEventListener("pointermove", (event) => tell(event.offsetX, event.offsetY, event));
  canvas.addEventListener("pointerleave", () => handlers.hover(null));
  canvas.addEventListener("blur", () => {
    cursor.hidden = true;
    handlers.hover(null);
  });
  canvas.addEventListener("keydown", keys(canvas, cursor, site, scale, thick, tell));
  return el("div", { class: "dn-lives" }, canvas, cursor);
}

// One pixel a step-column and row, then stretched: a window may be wide or narrow, a row thick or thin.
function drawRaster(context, site, scale, rows, thick, width) {
  const colours = stateColours();
  const columns = site.first.length;
  const image = new ImageData(Math.max(Math.round(width), 1), Math.max(rows.length, 1));
  const column = Array.from({ length: image.width }, (_, x) => columnAt(site, Math.floor(scale.step(x + 0.5))));
  rows.forEach((row, y) => {
    for (let x = 0; x < image.width; x += 1) {
      const state = column[x] < 0 ? UNSEEN : site.states[row * columns + column[x]];
      const [r, g, b] = colours[Math.min(state, UNSEEN)];
      const at = 4 * (y * image.width + x);
      image.data[at] = r;
      image.data[at + 1] = g;
      image.data[at + 2] = b;
      image.data[at + 3] = 255;
    }
  });
  const buffer = document.createElement("canvas");
  buffer.width = image.width;
  buffer.height = image.height;
  buffer.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(buffer, 0, 0, width, rows.length * thick);
}

// Arrow keys move a cursor over the raster, for those who do not point.
function keys(canvas, cursor, site, scale, thick, tell) {
  let [x, row] = [0, -1];
  const moves = { ArrowLeft: [-STRIDE, 0], ArrowRight: [STRIDE, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-1e9, 0], End: [1e9, 0] };
  return (event) => {
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    x = Math.min(Math.max(x + move[0], 0), scale.width - 1);
    row = Math.min(Math.max(row + (row < 0 ? 1 : move[1]), 0), site.rows - 1);
    const y = (row + 0.5) * thick;
    cursor.hidden = false;
    Object.assign(cursor.style, { left: `${x - 4}px`, top: `${y - 4}px` });
    const box = canvas.getBoundingClientRect();
    tell(x, y, { clientX: box.left + x, clientY: box.top + y });
  };
}

function toldUnit(site, row, column) {
  const first = row * site.perRow;
  const last = Math.min(first + site.perRow, site.units) - 1;
  const state = STATES[site.states[row * site.first.length + column]];
  const title = first === last ? `${site.name}, unit ${first}` : `${site.name}, units ${first}–${last}`;
  const episodes = site.deaths.filter(([unit]) => unit >= first && unit <= last);
  const lines = [
    `${first === last ? "" : "most are "}${state} in ${span(site.first[column], site.last[column])}`,
    ...episodes.slice(0, LISTED).map((episode) => toldLife(episode, first === last)),
  ];
  if (episodes.length > LISTED) lines.push(`… ${episodes.length - LISTED} more`);
  if (state === "dead" && site.samples) {
    lines.push(`silent on n ≥ ${site.samples.toLocaleString("en")} examples: it fires on at most ${short(site.bound)} of all (95 %)`);
  }
  return { title, lines };
}

function toldLife([unit, first, last, rate, born, latest], alone) {
  const who = alone ? "" : `unit ${unit}: `;
  const end = last === null ? "to the end" : `until step ${last.toLocaleString("en")}`;
  if (born) return `${who}born dead, ${end}`;
  return `${who}died in ${span(first, latest ?? first)}${rate === null ? "" : ` at rate ${short(rate)}`}, dead ${end}`;
}

export function legend(given) {
  const site = lives(given);
  const colours = stateColours();
  const box = el("div", { class: "dn-legend" });
  STATES.forEach((name, state) => {
    if (state !== 0 && state !== DEAD && !site.states.includes(state)) return;
    const mark = el("span", { class: "dn-mark" });
    mark.style.background = `rgb(${colours[state].join(" ")})`;
    box.append(el("span", {}, mark, name));
  });
  if (site.perRow > 1) box.append(el("span", { class: "dn-dim" }, `${site.perRow} units a row: what most of them are`));
  return box;
}
