// Layers × steps: how large the share of dead units is. One row a layer, deaths as ticks at its foot.

import { el, paint } from "./dom.js";
import { css, shareColour, stateColours, DEAD } from "./palette.js";
import { columnAt, percent } from "./scale.js";

export const ROW = 26;
const BAR = 17;

export function heatRow(site, scale, handlers) {
  const canvas = el("canvas", { class: "dn-heat", tabindex: "-1" });
  paint(canvas, scale.width, ROW, (context, width) => drawHeat(context, site, scale, width));
  const at = (event) => columnAt(site, scale.step(event.offsetX));
  canvas.addEventListener("pointermove", (event) => handlers.hover(event, told(site, at(event))));
  canvas.addEventListener("pointerleave", () => handlers.hover(null));
  return canvas;
}

function drawHeat(context, site, scale, width) {
  context.clearRect(0, 0, width, ROW);
  for (let column = 0; column < site.first.length; column += 1) {
    const left = Math.max(scale.x(site.first[column]), 0);
    const right = Math.min(scale.x(site.last[column] + 1), width);
    if (right <= 0 || left >= width) continue;
    context.fillStyle = css(shareColour(site.dead[column] / 255));
    context.fillRect(left, 0, Math.max(right - left, 0.5), BAR);
  }
  context.fillStyle = css(stateColours()[DEAD]);
  for (const [, first, , , born, latest] of site.deaths) {
    if (born) continue;
    const left = scale.x(first);
    if (left < 0 || left > width) continue;
    context.globalAlpha = 0.55;
    context.fillRect(left, BAR + 3, latest === null ? 1 : Math.max(scale.x(latest) - left, 1), 5);
  }
  context.globalAlpha = 1;
}

function told(site, column) {
  if (column < 0) return null;
  const share = (of) => percent(site[of][column] / 255);
  return {
    title: site.name,
    lines: [
      `steps ${site.first[column].toLocaleString("en")}–${site.last[column].toLocaleString("en")}`,
      `dead ${share("dead")}, silent ${share("silent")}, rare ${share("rare")} of ${site.units} units`,
    ],
  };
}
