/**
 * WGSL of functions that WGSL lacks or computes with a large relative error near their zeros.
 *
 * Bounds are in ulp of the result, for x in the normal range, on top of what the adapter's `exp`,
 * `log` and `sqrt` lose; `tests/engine/special_test.ts` checks them. Both branches are computed and one
 * selected.
 *
 * NaN comes out as NaN, though WGSL lets an adapter give anything for it (SwiftShader's `exp` and `log`
 * do, and its log of 0 is finite): a NaN takes the branch of plain arithmetic, or is told by its bits.
 */

/** `exponential(x)` = exp(x), NaN for NaN. */
export const EXP = `
fn exponential(x: f32) -> f32 {
  return select(exp(x), x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u);
}`;

/**
 * `exp_minus_1(x)` = exp(x) - 1 within 6 ulp: Taylor to x⁸/8! below 1/2 (remainder 1e-8), where the
 * difference would cancel.
 */
export const EXPM1 = `
fn exp_minus_1(x: f32) -> f32 {
  let near = x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666668 + x * (0.008333334 +
    x * (0.0013888889 + x * (0.00019841270 + x * 0.000024801588)))))));
  return select(near, exp(x) - 1.0, abs(x) >= 0.5);
}`;

/**
 * `log_1_plus(x)` = log(1 + x) within 6 ulp: 2 atanh(x / (2 + x)) to the 11th power between
 * √½ - 1 and √2 - 1 (remainder 2e-9). `whole_log(x)` is the adapter's log, but surely -∞ at 0 and NaN
 * for NaN and negative numbers.
 */
export const LOG1P = `
fn whole_log(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let size = bits & 0x7fffffffu;
  let v = select(log(x), bitcast<f32>(0x7fc00000u | bits), bits > 0x7f800000u);
  return select(v, bitcast<f32>(0xff800000u | size), size == 0u);
}
fn log_1_plus(x: f32) -> f32 {
  let s = x / (2.0 + x);
  let q = s * s;
  let near = 2.0 * s * (1.0 + q * (0.33333334 + q * (0.2 + q * (0.14285715 + q * (0.11111111 +
    q * 0.09090909)))));
  return select(whole_log(1.0 + x), near, x > -0.29289 && x < 0.41421);
}`;

/**
 * `natural_log(x)` and `binary_log(x)`: the adapter's, but within 6 ulp also near 1, where WGSL asks for
 * an absolute error of 2^-21 only. x - 1 is exact there.
 */
export const LOG = `${LOG1P}
fn natural_log(x: f32) -> f32 {
  return select(whole_log(x), log_1_plus(x - 1.0), x > 0.70711 && x < 1.41421);
}
fn binary_log(x: f32) -> f32 {
  // log2 of powers of 2 is exact; zero, NaN and negative numbers are for whole_log to tell.
  let outside = select(whole_log(x), log2(x), x > 0.0);
  return select(outside, 1.44269504 * log_1_plus(x - 1.0), x > 0.70711 && x < 1.41421);
}`;

/** `binary_power(x)` = 2^x, NaN for NaN. */
export const EXP2 = `
fn binary_power(x: f32) -> f32 {
  return select(exp2(x), x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u);
}`;

/**
 * `common_log(x)` = log10(x) within 6 ulp, and exact for powers of ten: x = m · 2^e with m between √½ and
 * √2, and log10(2) in two parts, of which the first times e is exact. Subnormal x counts as the adapter has it.
 */
export const LOG10 = `${LOG1P}
fn common_log(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let e = bitcast<i32>(bits - 0x3f3504f3u) >> 23u;
  let m = bitcast<f32>(bits - (bitcast<u32>(e) << 23u));
  let v = f32(e) * 0.30102539 + (f32(e) * 0.000004605038 + 0.4342944819 * log_1_plus(m - 1.0));
  let plain = bits >= 0x00800000u && bits < 0x7f800000u;
  return select(0.4342944819 * whole_log(x), v, plain);
}`;

/** `hyperbolic_sine(x)` within 10 ulp and `hyperbolic_cosine(x)` within 6; no early overflow. */
export const HYPERBOLIC = `${EXP}${EXPM1}
fn hyperbolic_sine(x: f32) -> f32 {
  let a = abs(x);
  let e = exp_minus_1(select(a, 80.0, a > 80.0));
  let h = exp(0.5 * a);
  let r = select(0.5 * (e + e / (e + 1.0)), 0.5 * h * h, a > 80.0);
  return select(r, -r, x < 0.0);
}
fn hyperbolic_cosine(x: f32) -> f32 {
  let a = abs(x);
  let e = exponential(select(a, 80.0, a > 80.0));
  let h = exp(0.5 * a);
  return select(0.5 * e + 0.5 / e, 0.5 * h * h, a > 80.0);
}`;

/** `hyperbolic_tangent(x)` = e / (e + 2) with e = exp(2|x|) - 1, within 8 ulp; ±1 beyond 20. */
export const TANH = `${EXPM1}
fn hyperbolic_tangent(x: f32) -> f32 {
  let a = abs(x);
  let e = exp_minus_1(2.0 * select(a, 20.0, a > 20.0));
  let r = e / (e + 2.0);
  return select(r, -r, x < 0.0);
}`;

/**
 * Inverses of the hyperbolic functions within 10 ulp: `area_sine(x)`, `area_cosine(x)` (NaN below 1) and
 * `area_tangent(x)` (NaN outside [-1, 1]), by log(1 + u), which keeps small results. No early overflow.
 */
export const AREA = `${LOG1P}
fn area_sine(x: f32) -> f32 {
  let a = abs(x);
  let near = log_1_plus(a + a * (a / (1.0 + sqrt(1.0 + a * a))));
  let r = select(near, whole_log(a) + 0.69314718, a > 1e9);
  return select(r, -r, x < 0.0);
}
fn area_cosine(x: f32) -> f32 {
  let t = x - 1.0;
  // Below 1 the log of a negative number, where a root of one would be the adapter's choice.
  let near = log_1_plus(t + sqrt(abs(t) * (2.0 + t)));
  let r = select(near, whole_log(x) + 0.69314718, x > 1e9);
  return select(r, whole_log(-abs(x) - 1.0), x < 1.0);
}
fn area_tangent(x: f32) -> f32 {
  let a = abs(x);
  let r = 0.5 * log_1_plus(2.0 * a / (1.0 - a));
  return select(r, -r, x < 0.0);
}`;

/** `arc_tan(x)` within 4 ulp and `arc_tan2(y, x)` within 8. Polynomial: Cephes, atanf. */
export const ATAN = `
fn arc_tan_core(x: f32) -> f32 {
  let q = x * x;
  return (((0.080537446 * q - 0.13877685) * q + 0.19977711) * q - 0.33332950) * q * x + x;
}
fn arc_tan(x: f32) -> f32 {
  let a = abs(x);
  let far = a > 2.4142137;
  let middle = a > 0.41421357;
  let t = select(select(a, (a - 1.0) / (a + 1.0), middle), -1.0 / a, far);
  let r = select(select(0.0, 0.78539819, middle), 1.5707964, far) + arc_tan_core(t);
  return select(r, -r, x < 0.0);
}
fn arc_tan2(y: f32, x: f32) -> f32 {
  let ay = abs(y);
  let ax = abs(x);
  let steep = ay > ax;
  // Equal sizes have the slope 1, also both 0 (which gives an angle of 0) and both infinite.
  let slope = select(select(ay / ax, ax / ay, steep), select(1.0, 0.0, ay == 0.0), ax == ay);
  let first = arc_tan(slope);
  let half = select(first, 1.5707964 - first, steep);
  let whole = select(half, 3.1415927 - half, (bitcast<u32>(x) >> 31u) == 1u);
  return select(whole, -whole, (bitcast<u32>(y) >> 31u) == 1u);
}`;

/** `arc_sin(x)` within 4 ulp and `arc_cos(x)` within 6. Polynomial: Cephes, asinf. */
export const ASIN = `
fn arc_sin_core(x: f32, q: f32) -> f32 {
  return ((((0.042163200 * q + 0.024181311) * q + 0.045470026) * q + 0.074953003) * q +
    0.16666752) * q * x + x;
}
fn arc_sin(x: f32) -> f32 {
  let a = abs(x);
  let h = 0.5 * (1.0 - a);
  let near = arc_sin_core(a, a * a);
  let far = 1.5707964 - 2.0 * arc_sin_core(sqrt(h), h);
  let r = select(near, far, a > 0.5);
  return select(r, -r, x < 0.0);
}
fn arc_cos(x: f32) -> f32 {
  let a = abs(x);
  let h = 0.5 * (1.0 - a);
  let far = 2.0 * arc_sin_core(sqrt(h), h);
  return select(1.5707964 - arc_sin_core(x, x * x), select(far, 3.1415927 - far, x < 0.0), a > 0.5);
}`;

/** `error_function(x)` within 6 ulp; rational function of Eigen's `erf`, ±1 beyond 4. */
export const ERF = `
fn error_function(x: f32) -> f32 {
  let a = select(select(x, 4.0, x > 4.0), -4.0, x < -4.0);
  let q = a * a;
  let top = a * (-1.60960333262415e-2 + q * (-2.95459980854025e-3 + q * (-7.34990630326855e-4 +
    q * (-5.69250639462346e-5 + q * (-2.10102402082508e-6 + q * (2.77068142495902e-8 +
    q * -2.72614225801306e-10))))));
  let bottom = -1.42647390514189e-2 + q * (-7.37332916720468e-3 + q * (-1.68282697438203e-3 +
    q * (-2.13374055278905e-4 + q * -1.45660718464996e-5)));
  return top / bottom;
}`;

/**
 * `inverse_error_function(x)` within 10 ulp; ±∞ at ±1, NaN outside. Polynomials: M. Giles, Approximating
 * the erfinv function, 2010, table 5.
 */
export const ERFINV = `${LOG1P}
fn inverse_error_function(x: f32) -> f32 {
  let a = abs(x);
  let w = -select(whole_log((1.0 - a) * (1.0 + a)), log_1_plus(-a * a), a < 0.5);
  let n = w - 2.5;
  let near = 1.50140941 + n * (0.246640727 + n * (-0.00417768164 + n * (-0.00125372503 +
    n * (0.00021858087 + n * (-0.00000439150654 + n * (-0.0000035233877 + n * (0.000000343273939 +
    n * 0.0000000281022636)))))));
  let t = sqrt(abs(w)) - 3.0;
  let far = 2.83297682 + t * (1.00167406 + t * (0.00943887047 + t * (-0.0076224613 +
    t * (0.00573950773 + t * (-0.00367342844 + t * (0.00134934322 + t * (0.000100950558 +
    t * -0.000200214257)))))));
  let r = x * select(near, far, w >= 5.0);
  // Outside [-1, 1] and at NaN w is NaN; at its ends it is infinite, and so is the result.
  return select(r, x * w, a >= 1.0);
}`;

/** log of erfc(x) exp(x²) / t with t = 1 / (1 + x/2), x >= 0. Chebyshev fit: Numerical Recipes, erfcc. */
const ERFC_FIT = `(-1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 +
    t * (-0.18628806 + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 +
    t * 0.17087277)))))))))`;

/** `error_complement(x)` = 1 - erf(x), with a relative error of 1.2e-7 + 2^-23 · x² also where it is tiny. */
export const ERFC = `
fn error_complement(x: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.5 * abs(x));
  let tail = t * exp(-x * x + ${ERFC_FIT});
  return select(tail, 2.0 - tail, x < 0.0);
}`;

/** `normal_cdf(x)` = ½ erfc(-x / √2) with a relative error of 1.2e-7 + 2^-24 · x² also where it is tiny. */
export const NORMAL_CDF = `
fn normal_cdf(x: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.35355339 * abs(x));
  let tail = 0.5 * t * exp(-0.5 * x * x + ${ERFC_FIT});
  return select(tail, 1.0 - tail, x > 0.0);
}`;

/**
 * `float_mod(a, b)`: what is left of a after whole multiples of b, with the sign of a; exact, as C's
 * fmod. Long division of the significands, 8 bits a turn. b below 2^-126 counts as 0; b = 0 and infinite a
 * give NaN.
 */
export const FLOAT_MOD = `
fn float_mod(a: f32, b: f32) -> f32 {
  let ia = bitcast<u32>(a) & 0x7fffffffu;
  let ib = bitcast<u32>(b) & 0x7fffffffu;
  let sign = bitcast<u32>(a) & 0x80000000u;
  if (ia >= 0x7f800000u || ib > 0x7f800000u || ib < 0x00800000u) {
    return bitcast<f32>(0x7fc00000u | sign);
  }
  if (ia < ib) { return a; }
  let unit = (ib & 0x7fffffu) | 0x800000u;
  var left = (ia >> 23u) - (ib >> 23u);
  var r = ((ia & 0x7fffffu) | 0x800000u) % unit;
  while (left > 0u && r > 0u) {
    let step = min(left, 8u);
    r = (r << step) % unit;
    left -= step;
  }
  if (r == 0u) { return bitcast<f32>(sign); }
  let shift = countLeadingZeros(r) - 8u;
  let exponent = ib >> 23u;
  if (exponent <= shift) { return bitcast<f32>(sign | (r << (exponent - 1u))); }
  return bitcast<f32>(sign | ((exponent - shift) << 23u) | ((r << shift) & 0x7fffffu));
}
fn float_remainder(a: f32, b: f32) -> f32 {
  let r = float_mod(a, b);
  return select(r, r + b, r != 0.0 && (r < 0.0) != (b < 0.0));
}`;
