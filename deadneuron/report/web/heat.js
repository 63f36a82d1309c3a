// Layers × steps: how large the share of dead units is. One row a layer, deaths as ticks at its foot.

import { el, paint } from "./dom.js";
import { DEAD, css, shareColour, stateColours } from "./palette.js";
import { columnAt, percent, shareAt, span } from "./scale.js";

export const ROW = 26;
const BAR = 17;

export function heatRow(site, scale, handlers) {
  const canvas = el("canvas", { class: "dn-heat", "aria-hidden": "true" });
  paint(canvas, scale.width, ROW, (context, width) => drawHeat(context, site, scale, width));
  const at = (event) => columnAt(site, scale.step(event.offsetX));
  canvas.addEventListener("pointermove", (event) => handlers.hover(event, told(site, at(event))));
  canvas.addEventListener("pointerleave", () => handlers.hover(null));
  return canvas;
}

// Pixel by pixel, so that no seam shows between columns; of several columns under one pixel the worst is drawn.
function drawHeat(context, site, scale, width) {
  let drawn = null;
  let from = 0;
  const end = (x) => {
    if (drawn !== null) {
      context.fillStyle = css(shareColour(drawn / 255));
      context.fillRect(from, 0, x - from, BAR);
    }
    from = x;
  };
  for (let x = 0; x < width; x += 1) {
    const share = shareBetween(site, scale.step(x), scale.step(x + 1));
    if (share !== drawn) {
      end(x);
      drawn = share;
    }
  }
  end(width);
  drawDeaths(context, site, scale, width);
}

function shareBetween(site, low, high) {
  const middle = columnAt(site, (low + high) / 2);
  if (middle < 0) return null;
  let most = site.dead[middle];
  for (let c = middle; c >= 0 && site.last[c] >= low; c -= 1) most = Math.max(most, site.dead[c]);
  for (let c = middle; c < site.first.length && site.first[c] < high; c += 1) most = Math.max(most, site.dead[c]);
  return most;
}

function drawDeaths(context, site, scale, width) {
  context.fillStyle = css(stateColours()[DEAD]);
  const deaths = site.lives?.deaths ?? site.deaths;
  for (const [, first, , , born, latest] of deaths) {
    if (born) continue;
    const left = scale.x(first);
    if (left < 0 || left > width) continue;
    context.globalAlpha = 0.55;
    context.fillRect(Math.round(left), BAR + 3, latest === null ? 1 : Math.max(scale.x(latest) - left, 1), 5);
  }
  if (site.ticks && !site.lives) {
    const [low, high] = site.span;
    const edge = (bin) => Math.round(scale.x(low + ((high + 1 - low) * bin) / site.ticks.length));
    site.ticks.forEach((count, bin) => {
      const [left, right] = [edge(bin), edge(bin + 1)];
      if (!count || right < 0 || left > width) return;
      context.globalAlpha = Math.min(0.4 + 0.15 * count, 1);
      context.fillRect(left, BAR + 3, Math.max(right - left, 1), 5);
    });
  }
  context.globalAlpha = 1;
}

export function told(site, column) {
  if (column < 0 || column >= site.first.length) return null;
  const share = (kind) => percent(shareAt(site, kind, column));
  return {
    title: site.name,
    lines: [
      span(site.first[column], site.last[column]),
      `dead ${share("dead")}, silent ${share("silent")}, rare ${share("rare")} of ${site.units.toLocaleString("en")} units`,
    ],
  };
}
