// The whole picture: rates above layers × steps, and below each layer, when it is opened, the lives of its units.

import { brushable } from "./brush.js";
import { drawAxis, drawRates } from "./curves.js";
import { el } from "./dom.js";
import { heatRow } from "./heat.js";
import { histogram } from "./histogram.js";
import { css, shareColour } from "./palette.js";
import { ORDERS, legend, raster } from "./raster.js";
import { Scale, percent } from "./scale.js";

const NARROWEST = 240;
const MARGIN = 12;

// `options.states(site)` fetches the states of a layer that came without them; `options.kept` (a Map) and `options.key`
// keep what is open and zoomed when the same picture is drawn anew.
export function show(root, picture, options = {}) {
  const view = options.kept?.get(options.key) ?? { span: null, open: new Set(worst(picture)), order: "death" };
  options.kept?.set(options.key, view);
  const tip = el("div", { class: "dn-tip", role: "status", hidden: true });
  const body = el("div", { class: "dn-body" });
  root.replaceChildren(body, tip);
  root.classList.add("dn");
  const left = Math.min(Math.max(...picture.sites.map((site) => site.name.length), 8) * 7.4 + 70, 260);
  const handlers = { hover: (event, told) => hover(tip, root, event, told) };
  let scale = null;

  function draw() {
    const width = Math.max(root.clientWidth - left - MARGIN, NARROWEST);
    const [low, high] = view.span ?? picture.steps;
    scale = new Scale(low, high + 1, width);
    const parts = [toolbar(), drawRates(picture.rates, scale, left)];
    for (const site of picture.sites) parts.push(...layer(site));
    parts.push(drawAxis(scale, left), scaleLegend());
    body.replaceChildren(...parts);
  }

  function toolbar() {
    const all = view.span === null;
    const text = all ? "drag along the steps to look closer" : `steps ${view.span[0].toLocaleString("en")}–${view.span[1].toLocaleString("en")}`;
    const button = el("button", { type: "button", class: "dn-all", disabled: all, onclick: () => choose(null) }, "show all steps");
    return el("div", { class: "dn-bar" }, el("span", { class: "dn-dim" }, text), button);
  }

  function layer(site) {
    const open = view.open.has(site.number);
    const dead = site.dead.at(-1) / 255;
    const name = el("button", {
      type: "button", class: "dn-name", "aria-expanded": String(open), title: site.name,
      style: { width: `${left - 10}px` }, onclick: () => toggle(site),
    }, el("span", { class: "dn-site" }, site.name), el("span", { class: "dn-share" }, percent(dead)));
    const row = el("div", { class: "dn-row", "data-site": site.number }, name, heatRow(site, scale, handlers));
    return open ? [row, opened(site)] : [row];
  }

  function opened(site) {
    const box = el("div", { class: "dn-open", style: { paddingLeft: `${left}px` } });
    if (site.states === null) {
      box.append(el("p", { class: "dn-dim" }, site.trouble ?? "reading the units …"));
      fetchStates(site);
      return box;
    }
    const select = el("select", { onchange: (event) => reorder(event.target.value) });
    for (const [value, label] of Object.entries(ORDERS)) {
      select.append(el("option", { value, selected: value === view.order }, label));
    }
    box.append(
      el("div", { class: "dn-tools" }, el("label", {}, `${site.units} units `, select), legend(site)),
      raster(site, scale, view.order, handlers),
    );
    if (site.histogram) {
      const picture = histogram(site, scale, left, handlers);
      picture.style.marginLeft = `${-left}px`;
      box.append(el("p", { class: "dn-caption" }, "pre-activations over time"), picture);
    }
    return box;
  }

  // Once a layer; what fails is said in its place.
  function fetchStates(site) {
    if (site.asked) return;
    site.asked = true;
    const found = options.states ? options.states(site) : Promise.reject(new Error("they are not at hand here"));
    found.then((states) => Object.assign(site, states), (error) => { site.trouble = `no units: ${error.message}`; }).then(draw);
  }

  function scaleLegend() {
    const box = el("div", { class: "dn-legend", style: { marginLeft: `${left}px` } }, el("span", {}, "share of units that are dead:"));
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
    draw();
    body.querySelector(`[data-site="${site.number}"] .dn-name`)?.focus();
  }

  function reorder(order) {
    view.order = order;
    draw();
  }

  function choose(low, high) {
    view.span = low === null || low === undefined ? null : [low, Math.max(high, low + 1)];
    draw();
  }

  brushable(body, left, () => scale, choose);
  root.addEventListener("keydown", (event) => event.key === "Escape" && choose(null));
  new ResizeObserver(() => draw()).observe(root);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  window.addEventListener("beforeprint", draw);
  draw();
  return { redraw: draw, choose };
}

// The layer with the largest dead share is open from the beginning, if any unit is dead at all.
function worst(picture) {
  const sorted = [...picture.sites].sort((a, b) => b.dead.at(-1) - a.dead.at(-1));
  return sorted.length && sorted[0].dead.at(-1) > 0 ? [sorted[0].number] : [];
}

function hover(tip, root, event, told) {
  tip.hidden = !event || !told;
  if (tip.hidden) return;
  tip.replaceChildren(el("strong", {}, told.title), ...told.lines.map((line) => el("div", {}, line)));
  const box = root.getBoundingClientRect();
  const x = event.clientX - box.left;
  const y = event.clientY - box.top;
  tip.style.left = `${Math.min(x + 14, Math.max(root.clientWidth - tip.offsetWidth - 4, 0))}px`;
  tip.style.top = `${y + 16}px`;
}
