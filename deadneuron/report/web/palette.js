// Colours of the states. Chosen from Okabe and Ito's palette, which people with any common colour blindness can tell
// apart; dark mode swaps only what stands for "nothing happens here".

export const STATES = ["active", "rare", "silent", "dead", "not seen"];
export const DEAD = 3;
export const UNSEEN = 4;

const LIGHT = [[232, 238, 242], [86, 180, 233], [230, 159, 0], [178, 24, 43], [255, 255, 255]];
const DARK = [[38, 50, 60], [86, 180, 233], [230, 159, 0], [240, 78, 78], [18, 22, 26]];

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

export function isDark() {
  const asked = document.documentElement.dataset.theme;
  return asked ? asked === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
