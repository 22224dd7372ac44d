/**
 * WGSL of sine, cosine and tangent. WGSL asks of `sin` and `cos` an absolute error of 2^-11 within
 * [-π, π] and nothing beyond; SwiftShader gives no more than that.
 *
 * Bounds, for |x| <= 32,768: sine and cosine within 2 ulp or 2^-36, tangent within 5 ulp or 2^-35,
 * whichever is more. Beyond 32,768 the adapter's own functions answer. Infinity and NaN give NaN.
 * `tests/engine/elementary_test.ts` checks it.
 *
 * Sources: argument reduction in parts by Cody and Waite, "Software Manual for the Elementary
 * Functions", 1980; polynomials of Cephes (`sinf`, `cosf`), S. L. Moshier.
 */

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
fn sine(x: f32) -> f32 { return select(reduced_trig(x).x, sin(x), beyond_reduction(x)); }
fn cosine(x: f32) -> f32 { return select(reduced_trig(x).y, cos(x), beyond_reduction(x)); }
fn tangent(x: f32) -> f32 {
  let v = reduced_trig(x);
  return select(v.x / v.y, tan(x), beyond_reduction(x));
}`;

/** {@linkcode WHOLE} with what it needs. */
export const TRIG = QUARTER + WHOLE;
