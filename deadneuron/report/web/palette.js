// Colours of the states. Chosen near Okabe and Ito's palette, which people with any common colour blindness can tell
// apart; dark mode swaps only what stands for "nothing happens here".

export const STATES = ["active", "rare", "silent", "dead", "not seen"];
export const DEAD = 3;
export const UNSEEN = 4;

export const LIGHT = [[226, 233, 238], [116, 192, 238], [218, 143, 0], [165, 15, 40], [255, 255, 255]];
export const DARK = [[38, 50, 60], [86, 180, 233], [240, 180, 40], [222, 45, 60], [18, 22, 26]];

const paper = { printed: false };

export function stateColours() {
  return isDark() ? DARK : LIGHT;
}

export function css([r, g, b]) {
  return `rgb(${r} ${g} ${b})`;
}

// A share from 0 to 1 between "active" and "dead"; a little is told from nothing.
export function shareColour(share) {
  const [low, , , high] = stateColours();
  const t = share <= 0 ? 0 : 0.12 + 0.88 * Math.sqrt(share);
  return low.map((from, i) => Math.round(from + t * (high[i] - from)));
}

export function inkColour(share) {
  const [low] = stateColours();
  const high = isDark() ? [214, 232, 245] : [20, 60, 90];
  return low.map((from, i) => Math.round(from + share * (high[i] - from)));
}

export function lineColour() {
  return isDark() ? [227, 235, 241] : [27, 42, 53];
}

// What is printed is drawn for white paper, whatever the screen looks like.
export function onPaper(printed) {
  paper.printed = printed;
}

export function isPrinted() {
  return paper.printed;
}

export function isDark() {
  if (paper.printed) return false;
  const asked = document.documentElement.dataset.theme;
  return asked ? asked === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
