// Steps to pixels and back, and what a person wants to read along an axis.

export class Scale {
  constructor(low, high, width) {
    Object.assign(this, { low, high: Math.max(high, low + 1), width });
  }

  x(step) {
    return ((step - this.low) / (this.high - this.low)) * this.width;
  }

  step(x) {
    return this.low + (x / this.width) * (this.high - this.low);
  }
}

export function ticks(low, high, most) {
  const rough = (high - low) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1e-300)));
  const size = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough);
  const out = [];
  for (let value = Math.ceil(low / size) * size; value <= high + size * 1e-9; value += size) out.push(value);
  return out;
}

export function short(number) {
  if (number === null || number === undefined) return "–";
  return Math.abs(number) >= 1e5 ? number.toLocaleString("en") : String(Number(number.toPrecision(3)));
}

export function percent(share) {
  if (!(share > 0)) return "0 %";
  return share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`;
}

// A share of a layer's units, which comes as a byte that was rounded up: of up to 255 units exactly.
export function shareAt(site, kind, column) {
  const byte = site[kind][column] ?? 0;
  return Math.floor((byte * site.units) / 255 + 1e-9) / site.units || byte / 255;
}

export function span(first, last) {
  const [from, to] = [first.toLocaleString("en"), last.toLocaleString("en")];
  return first === last ? `step ${from}` : `steps ${from}–${to}`;
}

// The column (index into first/last) that holds a step; -1 for none.
export function columnAt(site, step) {
  let low = 0;
  let high = site.first.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (step < site.first[middle]) high = middle - 1;
    else if (step >= site.last[middle] + 1) low = middle + 1;
    else return middle;
  }
  return -1;
}
