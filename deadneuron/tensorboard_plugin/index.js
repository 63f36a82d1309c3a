// The tab: a picker of runs, one or two of them side by side, drawn by the code that draws the report page.

import { show } from "./app.js";
import { el } from "./dom.js";
import { unpack, unpackPicture } from "./unpack.js";

const RELOAD = 30000; // milliseconds

export async function render() {
  const head = document.head;
  head.append(
    el("link", { rel: "stylesheet", href: "./style.css" }),
    el("link", { rel: "stylesheet", href: "./tab.css" }),
  );
  const tab = el("main", { class: "tab" });
  document.body.append(tab);
  try {
    await start(tab);
  } catch (error) {
    fail(tab, error);
  }
}

async function start(tab) {
  const state = { chosen: [], views: new Map() };
  const picker = el("div", { class: "tab-picker" });
  const pictures = el("div", { class: "tab-pictures" });
  tab.replaceChildren(picker, pictures);

  async function refresh() {
    const runs = await ask("runs");
    if (!state.chosen.length) state.chosen = runs.slice(0, 1);
    picker.replaceChildren(...pick(runs, state, draw));
    if (!runs.length) pictures.replaceChildren(nothing());
    else await draw();
  }

  async function draw() {
    const boxes = await Promise.all(state.chosen.map((run) => column(run, state)));
    pictures.replaceChildren(...boxes);
    pictures.classList.toggle("tab-two", boxes.length > 1);
  }

  await refresh();
  setInterval(() => document.hidden || refresh().catch((error) => fail(tab, error)), RELOAD);
}

function pick(runs, state, draw) {
  const options = (chosen, none) => {
    const items = runs.map((run) => el("option", { value: run, selected: run === chosen }, run));
    return none ? [el("option", { value: "" }, none), ...items] : items;
  };
  const change = (place) => (event) => {
    const value = event.target.value;
    state.chosen = place === 0 ? [value, ...state.chosen.slice(1)] : [state.chosen[0], value].filter(Boolean);
    draw();
  };
  return [
    el("label", {}, "run ", el("select", { onchange: change(0), "data-pick": "0" }, ...options(state.chosen[0]))),
    el("label", {}, "beside ", el("select", { onchange: change(1), "data-pick": "1" }, ...options(state.chosen[1], "no other"))),
  ];
}

async function column(run, state) {
  const box = el("section", { class: "tab-run", "data-run": run }, el("h2", {}, run));
  const root = el("div", {});
  box.append(root);
  try {
    const payload = await ask("overview", { run });
    const picture = await unpackPicture(payload);
    requestAnimationFrame(() => show(root, picture, { states: (site) => lives(run, site), key: run, kept: state.views }));
  } catch (error) {
    fail(root, error);
  }
  return box;
}

async function lives(run, site) {
  const found = await ask("site", { run, place: site.number });
  const states = await unpack(found.states);
  return { states, lives: { ...site, ...found, states } };
}

async function ask(route, query = {}) {
  const answer = await fetch(`./${route}?${new URLSearchParams(query)}`);
  const body = await answer.json().catch(() => ({ error: `TensorBoard answered ${answer.status}` }));
  if (body.error) throw new Error(body.error);
  return body;
}

function nothing() {
  return el("p", {}, "No run in this log folder has records of dead neurons. Give watch() a sink: ",
    el("code", {}, 'sinks=[deadneuron.TensorBoard("tb/first")]'), ", or replay a run: ",
    el("code", {}, "deadneuron report RUN --to tensorboard tb/first"));
}

function fail(root, error) {
  root.replaceChildren(el("p", { class: "tab-error", role: "alert" }, `This cannot be shown: ${error.message}`));
}
