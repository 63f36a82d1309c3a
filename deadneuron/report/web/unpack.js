// Bytes that were deflated and written in base64: see deadneuron/report/payload.py.

import { plain } from "./dom.js";

export async function unpack(text) {
  const raw = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A payload with all its arrays unpacked. Layers that were drained together share their columns.
export async function unpackPicture(payload) {
  if (payload.version !== 1) {
    throw new Error(`this picture has format ${payload.version}, which a later deadneuron made: update deadneuron`);
  }
  const sites = await Promise.all(payload.sites.map(async (site) => ({
    ...site,
    name: plain(site.name),
    first: payload.columns[site.columns].first,
    last: payload.columns[site.columns].last,
    dead: await unpack(site.dead),
    silent: await unpack(site.silent),
    rare: await unpack(site.rare),
    states: site.states === null ? null : await unpack(site.states),
    ticks: site.ticks === undefined ? null : await unpack(site.ticks),
    histogram: site.histogram === null ? null : await unpack(site.histogram),
  })));
  return { ...payload, rates: payload.rates.map((rate) => ({ ...rate, group: plain(rate.group) })), sites };
}
