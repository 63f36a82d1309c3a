// The tab: a picker of runs, one or two of them side by side, drawn by the code that draws the report page.

import { show } from "./app.js";
import { largest } from "./curves.js";
import { el, plain } from "./dom.js";
import { followTheme } from "./theme.js";
import { unpack, unpackPicture } from "./unpack.js";

const RELOAD = 30000; // milliseconds

export async function render() {
  await Promise.all(["./style.css", "./tab.css"].map(styled)); // widths are measured with them in place
  const tab = el("main", { class: "tab" });
  document.body.append(tab);
  const state = { chosen: [], runs: null, views: new Map(), texts: "", shown: [] };
  followTheme(() => state.shown.forEach((one) => one.redraw()));
  const picker = el("div", { class: "tab-picker" });
  const pictures = el("div", { class: "tab-pictures" });
  tab.append(picker, pictures);
  const refresh = () => load(state, picker, pictures).catch((error) => fail(pictures, state, error));
  await refresh();
  setInterval(() => document.hidden || refresh(), RELOAD);
  tab.addEventListener("refresh", refresh); // TensorBoard tells a tab of this kind nothing of its reloads
}

function styled(href) {
  return new Promise((done) => {
    document.head.append(el("link", { rel: "stylesheet", href, onload: done, onerror: done }));
  });
}

async function load(state, picker, pictures) {
  const runs = await ask("runs");
  state.chosen = state.chosen.filter((run) => runs.includes(run));
  if (!state.chosen.length) state.chosen = runs.slice(0, 1);
  if (JSON.stringify(runs) !== state.runs) {
    state.runs = JSON.stringify(runs);
    picker.replaceChildren(...pick(runs, state, () => draw(state, pictures).catch((error) => fail(pictures, state, error))));
  }
  if (runs.length) await draw(state, pictures);
  else replace(state, pictures, [nothing()]);
}

function pick(runs, state, draw) {
  const options = (chosen, none) => {
    const items = runs.map((run) => el("option", { value: run, selected: run === chosen }, plain(run)));
    return none ? [el("option", { value: "" }, none), ...items] : items;
  };
  const change = (place) => (event) => {
    const value = event.target.value;
    state.chosen = place === 0 ? [value, ...state.chosen.slice(1)] : [state.chosen[0], value].filter(Boolean);
    draw();
  };
  if (!runs.length) return [];
  const select = (place, none) => el("select", { onchange: change(place), "data-pick": place }, ...options(state.chosen[place], none));
  return [el("label", {}, "run", select(0)), el("label", {}, "beside it", select(1, "no other"))];
}

// What has not changed since the last time is left as it is.
async function draw(state, pictures) {
  const chosen = [...state.chosen];
  const answers = await Promise.all(chosen.map((run) => ask("overview", { run }).catch((error) => ({ error }))));
  const texts = JSON.stringify([chosen, answers.map((answer) => (answer.error ? answer.error.message : answer))]);
  if (texts === state.texts || chosen.join() !== state.chosen.join()) return;
  const found = await Promise.all(answers.map((answer) => (answer.error ? answer : unpackPicture(answer).catch((error) => ({ error })))));
  const drawn = found.filter((picture) => !picture.error);
  const axes = {
    steps: [Math.min(...drawn.map((one) => one.steps[0])), Math.max(...drawn.map((one) => one.steps[1]))],
    top: Math.max(...drawn.map((one) => largest(one.rates))),
    zoomed: (span) => state.shown.forEach((one) => one.zoom(span)),
  };
  const roots = chosen.map(() => el("div"));
  replace(state, pictures, chosen.map((run, i) => el("section", { class: "tab-run", "data-run": run }, el("h2", {}, plain(run)), roots[i])));
  pictures.classList.toggle("tab-two", chosen.length > 1);
  state.texts = texts;
  found.forEach((picture, i) => {
    if (picture.error) return roots[i].append(said(picture.error));
    const states = (site) => fetchLives(chosen[i], site);
    return state.shown.push(show(roots[i], picture, { ...axes, states, key: chosen[i], kept: state.views }));
  });
}

function replace(state, pictures, children) {
  state.shown.forEach((one) => one.end());
  state.shown = [];
  state.texts = "";
  pictures.classList.remove("tab-two");
  pictures.replaceChildren(...children);
}

async function fetchLives(run, site) {
  const found = await ask("site", { run, place: site.number });
  const states = await unpack(found.states);
  return { ...site, ...found, states, lives: undefined };
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

function said(error) {
  return el("p", { class: "tab-error", role: "alert" }, `This cannot be shown: ${error.message}`);
}

function fail(pictures, state, error) {
  replace(state, pictures, [said(error)]);
}
