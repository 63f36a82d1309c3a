// The whole picture: rates above layers × steps, and below each layer, when it is opened, the lives of its units.

import { brushable } from "./brush.js";
import { drawAxis, drawRates, ratesLegend } from "./curves.js";
import { el } from "./dom.js";
import { heatRow, told } from "./heat.js";
import { histogram } from "./histogram.js";
import { css, isPrinted, onPaper, shareColour } from "./palette.js";
import { ORDERS, legend, lives, raster } from "./raster.js";
import { Scale, percent, shareAt, span } from "./scale.js";
import { Tip } from "./tip.js";

const NARROWEST = 160;
const MARGIN = 4;
const PAGE = 660; // pixels across a sheet of paper
const HOW = "Each row is a layer from the first step to the last: the redder, the more of its units are dead. "
  + "Click a layer for the life of every unit; drag along the steps to look closer.";

// `options`: states(site) fetches the states of a layer that came without them; `kept` (a Map) and `key` keep what is
// open and zoomed when the same picture is drawn anew; `steps` and `top` are the axes, where several pictures share
// them; zoomed(span) is told what was chosen here.
export function show(root, picture, options = {}) {
  const view = options.kept?.get(options.key) ?? { span: null, open: new Set(worst(picture)), order: "death", lives: new Map() };
  options.kept?.set(options.key, view);
  const gone = new AbortController();
  const { signal } = gone;
  const tip = new Tip(root);
  const body = el("div", { class: "dn-body" });
  root.replaceChildren(body, tip.node);
  root.classList.add("dn");
  const handlers = { hover: (at, text) => tip.show(at, text) };
  for (const site of picture.sites) {
    site.span = picture.steps;
    if (view.lives.has(site.number)) site.lives = view.lives.get(site.number); // the old ones until the new ones come
  }
  let [scale, left, width] = [null, 0, 0];

  function draw() {
    width = isPrinted() ? PAGE : root.clientWidth;
    const longest = Math.max(...picture.sites.map((site) => site.name.length), 8);
    left = Math.round(Math.min(longest * 7.4 + 72, 270, Math.max(width * 0.36, 110)));
    const [low, high] = view.span ?? options.steps ?? picture.steps;
    scale = new Scale(low, high + 1, Math.max(Math.floor(width - left - MARGIN), NARROWEST));
    tip.show(null);
    if (!picture.sites.length) {
      body.replaceChildren(el("p", { class: "dn-dim" }, "No layer was seen: there is nothing to draw."));
      return;
    }
    const inset = (node) => {
      node.style.marginLeft = `${left}px`;
      return node;
    };
    body.replaceChildren(
      el("p", { class: "dn-how dn-dim" }, HOW),
      toolbar(), inset(ratesLegend(picture.rates)), drawRates(picture.rates, scale, left, options.top),
      ...picture.sites.flatMap(layer), drawAxis(scale, left), inset(scaleLegend()),
    );
  }

  function toolbar() {
    const all = view.span === null;
    const text = el("span", { class: "dn-dim", "aria-live": "polite" }, all ? "all steps" : span(...view.span));
    const button = el("button", { type: "button", class: "dn-all", disabled: all, onclick: () => choose(null) }, "show all steps");
    return el("div", { class: "dn-bar" }, text, button);
  }

  function layer(site) {
    const open = view.open.has(site.number);
    const name = el("button", {
      type: "button", class: "dn-name", "aria-expanded": String(open), title: site.name,
      style: { width: `${left - 10}px` }, onclick: () => toggle(site),
    }, el("span", { class: "dn-site" }, el("bdi", {}, site.name)), el("span", { class: "dn-share" }, percent(shareAt(site, "dead", site.dead.length - 1))));
    const heat = heatRow(site, scale, handlers);
    keyboard(name, heat, site);
    const row = el("div", { class: "dn-row", "data-site": site.number }, name, heat);
    return open ? [row, opened(site)] : [row];
  }

  // On the name of a layer: its numbers at the end, and with the arrows at every window and on every layer.
  function keyboard(name, heat, site) {
    let column = site.first.length - 1;
    const tell = () => {
      const box = heat.getBoundingClientRect();
      const x = Math.min(Math.max(scale.x((site.first[column] + site.last[column] + 1) / 2), 0), scale.width);
      tip.show({ clientX: box.left + x, clientY: box.top + 8 }, told(site, column));
    };
    name.addEventListener("focus", () => name.matches(":focus-visible") && tell());
    name.addEventListener("blur", () => tip.show(null));
    name.addEventListener("keydown", (event) => {
      const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const across = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!along && !across) return;
      event.preventDefault();
      if (across) {
        const names = [...body.querySelectorAll(".dn-name")];
        names[names.indexOf(name) + across]?.focus();
      } else {
        column = Math.min(Math.max(column + along, 0), site.first.length - 1);
        tell();
      }
    });
  }

  function opened(site) {
    const box = el("div", { class: "dn-open", "data-open": site.number, style: { paddingLeft: `${left}px` } });
    if (site.states === null) fetchStates(site);
    if (lives(site).states === null) {
      box.append(el("p", { class: "dn-dim" }, site.trouble ?? "reading the units …"));
      return box;
    }
    const select = el("select", { class: "dn-select", "aria-label": "order of the units", onchange: (event) => reorder(site, event.target.value) });
    for (const [value, label] of Object.entries(ORDERS)) {
      select.append(el("option", { value, selected: value === view.order }, label));
    }
    box.append(
      el("div", { class: "dn-tools" }, el("span", {}, `${site.units.toLocaleString("en")} units`), select, legend(site)),
      raster(site, scale, view.order, handlers),
    );
    if (site.histogram) {
      const drawn = histogram(site, scale, left, handlers);
      drawn.style.marginLeft = `${-left}px`;
      box.append(el("p", { class: "dn-caption" }, "pre-activations over time: the darker, the more of them"), drawn);
    }
    return box;
  }

  // Once a layer; what fails is said in its place.
  function fetchStates(site) {
    if (site.asked) return;
    site.asked = true;
    const found = options.states ? options.states(site) : Promise.reject(new Error("they are not at hand here"));
    found.then((fresh) => {
      Object.assign(site, { states: fresh.states, lives: fresh });
      view.lives.set(site.number, fresh);
    }, (error) => { site.trouble = `no units: ${error.message}`; }).then(() => signal.aborted || refocus(draw));
  }

  function scaleLegend() {
    const box = el("div", { class: "dn-legend" }, el("span", {}, "share of units that are dead:"));
    for (const share of [0, 0.1, 0.25, 0.5, 1]) {
      const mark = el("span", { class: "dn-mark" });
      mark.style.background = css(shareColour(share));
      box.append(el("span", {}, mark, percent(share)));
    }
    box.append(el("span", { class: "dn-dim" }, "ticks below a layer: deaths"));
    return box;
  }

  function toggle(site) {
    if (!view.open.delete(site.number)) view.open.add(site.number);
    refocus(draw);
  }

  // Everything is drawn anew; who was on a layer's name, its raster or its menu is there again.
  function refocus(change) {
    const at = document.activeElement;
    const row = body.contains(at) ? at.closest("[data-site], [data-open]") : null;
    const kind = [".dn-name", ".dn-raster", ".dn-select"].find((one) => at?.matches(one));
    change();
    if (!row || !kind) return;
    const key = row.dataset.site === undefined ? `[data-open="${row.dataset.open}"]` : `[data-site="${row.dataset.site}"]`;
    body.querySelector(`${key} ${kind}`)?.focus({ preventScroll: true });
  }

  function reorder(site, order) {
    view.order = order;
    refocus(draw);
  }

  function zoom(chosen) {
    view.span = chosen === null ? null : [chosen[0], Math.max(...chosen)];
    refocus(draw);
  }

  function choose(chosen) {
    zoom(chosen);
    options.zoomed?.(view.span);
  }

  function print(printed) {
    onPaper(printed);
    draw();
  }

  brushable(body, () => left, () => scale, choose, signal);
  root.addEventListener("keydown", (event) => event.key === "Escape" && choose(null), { signal });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal });
  window.addEventListener("beforeprint", () => print(true), { signal });
  window.addEventListener("afterprint", () => print(false), { signal });
  const resized = new ResizeObserver(() => root.clientWidth !== width && !isPrinted() && draw());
  draw();
  resized.observe(root);
  signal.addEventListener("abort", () => resized.disconnect());
  return { redraw: draw, zoom, end: () => gone.abort() };
}

// The layer with the largest dead share is open from the beginning, if any unit is dead at all.
function worst(picture) {
  const share = (site) => site.dead.at(-1) ?? 0;
  const [first] = [...picture.sites].sort((a, b) => share(b) - share(a));
  return first && share(first) > 0 ? [first.number] : [];
}
