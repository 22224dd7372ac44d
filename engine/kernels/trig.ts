/**
 * WGSL of sine, cosine and tangent. WGSL asks of `sin` and `cos` an absolute error of 2^-11 within
 * [-π, π] and nothing beyond; SwiftShader gives no more than that.
 *
 * Bounds, for |x| <= 32,768: sine and cosine within 2 ulp or 2^-36, tangent within 5 ulp or 2^-35,
 * whichever is more. Beyond 32,768 sine and cosine are within 5 ulp, tangent within 11. Infinity and NaN give NaN.
 * `tests/engine/elementary_test.ts` checks it.
 *
 * Sources: argument reduction in parts by Cody and Waite, "Software Manual for the Elementary
 * Functions", 1980; beyond it with the digits of 2/π that matter, as Payne and Hanek, "Radian reduction for
 * trigonometric functions", SIGNUM Newsletter 18 (1), 1983; polynomials of Cephes (`sinf`, `cosf`), S. L. Moshier.
 */

/** 2/π = 0.a2f9836e… in base 2^32, after 32 zeros in front of the point: as many as the largest f32 needs. */
const TWO_OVER_PI = [
  "0x00000000u",
  "0xa2f9836eu",
  "0x4e441529u",
  "0xfc2757d1u",
  "0xf534ddc0u",
  "0xdb629599u",
  "0x3c439041u",
  "0xfe5163abu",
];

/** `quarter_sine(r)`, `quarter_cosine(r)` for |r| <= π/4, and `turned(q, r)`: sine and cosine of r + q π/2. */
export const QUARTER = `
fn quarter_sine(r: f32) -> f32 {
  let z = r * r;
  return r + r * z * (-0.16666654611 + z * (0.0083321608736 + z * -0.00019515295891));
}
fn quarter_cosine(r: f32) -> f32 {
  let z = r * r;
  return 1.0 - (0.5 * z - z * z * (0.04166664568298827 + z * (-0.001388731625493765 +
    z * 0.00002443315711809948)));
}
fn turned(q: u32, r: f32) -> vec2<f32> {
  let s = quarter_sine(r);
  let c = quarter_cosine(r);
  let odd = (q & 1u) == 1u;
  let sine = select(s, c, odd);
  let cosine = select(c, s, odd);
  return vec2<f32>(
    select(sine, -sine, (q & 2u) == 2u),
    select(cosine, -cosine, ((q + 1u) & 2u) == 2u),
  );
}`;

/** `sine(x)`, `cosine(x)` and `tangent(x)`, for a module that has {@linkcode QUARTER}. */
export const WHOLE = `
fn reduced_trig(x: f32) -> vec2<f32> {
  let j = round(x * 0.63661977);
  // π/2 in three parts of 9 bits, whose products with |j| < 2^15 are exact, and a rest.
  let r = (((x - j * 1.5703125) - j * 0.00048351287841796875) - j * 3.1385570764541626e-7) -
    j * 6.07710062827671e-11;
  return turned(u32(i32(clamp(j, -32768.0, 32768.0))), r);
}
fn beyond_reduction(x: f32) -> bool {
  return abs(x) > 32768.0 && (bitcast<u32>(x) & 0x7fffffffu) < 0x7f800000u;
}
fn word_of_two_over_pi(i: u32) -> u32 {
  var word = 0u;
${TWO_OVER_PI.map((word, i) => `  if (i == ${i}u) { word = ${word}; }`).slice(1).join("\n")}
  return word;
}
// The upper half of a · b, for a < 2^24.
fn high_product(a: u32, b: u32) -> u32 {
  let inner = (a >> 16u) * (b & 0xffffu);
  let outer = (a & 0xffffu) * (b >> 16u);
  let middle = (((a & 0xffffu) * (b & 0xffffu)) >> 16u) + (inner & 0xffffu) + (outer & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (inner >> 16u) + (outer >> 16u) + (middle >> 16u);
}
// |x| = m 2^e with 24 bits m: of 2/π the 96 bits from weight 2^(1 - e) on, times m, are quarters of a turn modulo 4.
fn far_trig(x: f32) -> vec2<f32> {
  let bits = bitcast<u32>(x) & 0x7fffffffu;
  let m = (bits & 0x7fffffu) | 0x800000u;
  let at = (bits >> 23u) - 120u;
  let s = at & 31u;
  let a = word_of_two_over_pi(at >> 5u);
  let b = word_of_two_over_pi((at >> 5u) + 1u);
  let c = word_of_two_over_pi((at >> 5u) + 2u);
  let d = word_of_two_over_pi((at >> 5u) + 3u);
  let w0 = (a << s) | ((b >> 1u) >> (31u - s));
  let w1 = (b << s) | ((c >> 1u) >> (31u - s));
  let w2 = (c << s) | ((d >> 1u) >> (31u - s));
  let p2 = m * w2;
  let p1 = m * w1 + high_product(m, w2);
  let p0 = m * w0 + high_product(m, w1) + select(0u, 1u, p1 < m * w1);
  // Two bits of quarters, and 64 of the rest, which is taken from the next quarter where that is nearer.
  var high = (p0 << 2u) | (p1 >> 30u);
  var low = (p1 << 2u) | (p2 >> 30u);
  let over = high >> 31u;
  if (over == 1u) {
    low = ~low + 1u;
    high = ~high + select(0u, 1u, low == 0u);
  }
  let rest = (f32(high) * ${2 ** -32} + f32(low) * ${2 ** -64}) * 1.5707964;
  let quarters = (p0 >> 30u) + over;
  let positive = (bitcast<u32>(x) >> 31u) == 0u;
  return turned(select(0u - quarters, quarters, positive), select(rest, -rest, (over == 1u) == positive));
}
fn whole_trig(x: f32) -> vec2<f32> {
  if (beyond_reduction(x)) { return far_trig(x); }
  return reduced_trig(x);
}
fn sine(x: f32) -> f32 { return whole_trig(x).x; }
fn cosine(x: f32) -> f32 { return whole_trig(x).y; }
fn tangent(x: f32) -> f32 {
  let v = whole_trig(x);
  return v.x / v.y;
}`;

/** {@linkcode WHOLE} with what it needs. */
export const TRIG = QUARTER + WHOLE;
