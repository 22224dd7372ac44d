/** Special functions in float64, for references. */

/** Error function 2/√π ∫₀ˣ exp(-t²) dt; series of positive terms, so nothing cancels. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (!(a > 0)) return x;
  if (a > 6) return Math.sign(x);
  if (a > 3) return Math.sign(x) * (1 - erfc(a));
  let term = x;
  let total = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(total); n++) {
    term *= 2 * x * x / (2 * n + 1);
    total += term;
  }
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * total;
}

/** 1 - erf(x) with a small relative error: the continued fraction where erf is near 1. */
export function erfc(x: number): number {
  if (x < 2) return 1 - erf(x);
  let tail = x;
  for (let n = 120; n >= 1; n--) tail = x + n / 2 / tail;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * tail);
}

/** Distribution function of the standard normal. */
export function normalCdf(x: number): number {
  return 0.5 * erfc(-x / Math.SQRT2);
}

/** The x whose error function is y: Newton's method from 0, whose steps never pass the root; ±∞ at ±1. */
export function erfInverse(y: number): number {
  const a = Math.abs(y);
  if (!(a < 1)) return a === 1 ? y * Infinity : NaN;
  let x = 0;
  for (let turn = 0; turn < 60; turn++) {
    // Where erf is near 1 the difference of erfc does not cancel.
    const off = a < 0.5 ? a - erf(x) : erfc(x) - (1 - a);
    x += off * Math.sqrt(Math.PI) / 2 * Math.exp(x * x);
  }
  return Math.sign(y) * x;
}
