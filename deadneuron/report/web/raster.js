// Units × steps: the life of every unit of one layer. One pixel row a unit where there is room.

import { el, paint } from "./dom.js";
import { DEAD, STATES, UNSEEN, stateColours } from "./palette.js";
import { columnAt, short } from "./scale.js";

const TALLEST = 420;
const THICKEST = 6; // pixels a row, where a layer has few units

export const ORDERS = {
  unit: "by unit",
  death: "by death",
  silence: "by time dead",
};

// What of a site the raster draws: the tab fetches it apart, with columns of its own.
function lives(site) {
  return site.lives ?? site;
}

export function rowOrder(given, order) {
  const site = lives(given);
  const rows = [...Array(site.rows).keys()];
  if (order === "unit") return rows;
  const columns = site.first.length;
  const dead = rows.map((row) => {
    let count = 0;
    for (let c = 0; c < columns; c += 1) count += site.states[row * columns + c] === 3;
    return count;
  });
  if (order === "silence") return rows.sort((a, b) => dead[b] - dead[a] || a - b);
  const died = rows.map((row) => firstDeath(site, row));
  return rows.sort((a, b) => died[a] - died[b] || dead[b] - dead[a] || a - b);
}

// The step that the first lasting death of a row's units is dated to; born dead before all, the living last.
function firstDeath(site, row) {
  let first = Infinity;
  for (const [unit, step, last, , born] of site.deaths) {
    if (Math.floor(unit / site.perRow) === row && last === null) first = Math.min(first, born ? -1 : step);
  }
  return first;
}

export function raster(given, scale, order, handlers) {
  const site = lives(given);
  const rows = rowOrder(site, order);
  const thick = Math.max(Math.min(Math.floor(TALLEST / site.rows), THICKEST), 1);
  const height = site.rows * thick;
  const canvas = el("canvas", { class: "dn-raster", tabindex: "0", role: "img" });
  canvas.setAttribute("aria-label", `states of the ${site.units} units of ${site.name} over the steps`);
  canvas.dataset.rows = site.rows;
  canvas.dataset.thick = thick;
  paint(canvas, scale.width, height, (context, width) => drawRaster(context, site, scale, rows, thick, width));
  const tell = (x, y, event) => {
    const row = rows[Math.min(Math.floor(y / thick), rows.length - 1)];
    const column = columnAt(site, scale.step(x));
    handlers.hover(event, row === undefined || column < 0 ? null : toldUnit(site, row, column));
  };
  canvas.addEventListener("pointermove", (event) => tell(event.offsetX, event.offsetY, event));
  canvas.addEventListener("pointerleave", () => handlers.hover(null));
  canvas.addEventListener("keydown", keys(canvas, site, scale, thick, tell));
  return canvas;
}

function drawRaster(context, site, scale, rows, thick, width) {
  const colours = stateColours();
  const columns = site.first.length;
  // Drawn cell by cell into an image of one pixel a step-column and row, then stretched: a window may be wide or narrow.
  const image = new ImageData(Math.max(Math.round(width), 1), rows.length);
  const column = new Int32Array(image.width).map((_, x) => columnAt(site, Math.floor(scale.step(x + 0.5))));
  rows.forEach((row, y) => {
    for (let x = 0; x < image.width; x += 1) {
      const state = column[x] < 0 ? UNSEEN : site.states[row * columns + column[x]];
      const [r, g, b] = colours[state];
      image.data.set([r, g, b, 255], 4 * (y * image.width + x));
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
function keys(canvas, site, scale, thick, tell) {
  let [x, y] = [0, 0];
  const moves = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  return (event) => {
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    x = Math.min(Math.max(x + move[0], 0), scale.width - 1);
    y = Math.min(Math.max(y + move[1] * thick, 0), site.rows * thick - 1);
    const box = canvas.getBoundingClientRect();
    tell(x, y, { clientX: box.left + x, clientY: box.top + y });
  };
}

function toldUnit(site, row, column) {
  const first = row * site.perRow;
  const last = Math.min(first + site.perRow, site.units) - 1;
  const state = STATES[site.states[row * site.first.length + column]];
  const title = first === last ? `${site.name}, unit ${first}` : `${site.name}, units ${first}–${last}`;
  const steps = `steps ${site.first[column].toLocaleString("en")}–${site.last[column].toLocaleString("en")}`;
  const lives = site.deaths.filter(([unit]) => unit >= first && unit <= last);
  const lines = [`${first === last ? "" : "most are "}${state} in ${steps}`, ...lives.slice(0, 4).map(toldLife)];
  if (lives.length > 4) lines.push(`… ${lives.length - 4} more`);
  if (state === "dead" && site.samples) {
    lines.push(`n = ${site.samples.toLocaleString("en")} examples: it fires on at most ${short(site.bound)} of all (95 %)`);
  }
  return { title, lines };
}

function toldLife([unit, first, last, rate, born, latest]) {
  const end = last === null ? "to the end" : `until step ${last.toLocaleString("en")}`;
  if (born) return `unit ${unit}: born dead, ${end}`;
  const when = latest === null ? `step ${first.toLocaleString("en")}` : `steps ${first.toLocaleString("en")}–${latest.toLocaleString("en")}`;
  return `unit ${unit}: died in ${when}${rate === null ? "" : ` at rate ${short(rate)}`}, dead ${end}`;
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

