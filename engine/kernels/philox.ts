/**
 * Philox-4x32-10 in WGSL and the kernels that only draw numbers.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. WGSL
 * has no 32x32->64 product, so the high half is put together from 16-bit halves.
 */

import { DTYPES } from "../dtype.ts";
import {
  asF32,
  asStored,
  fromF32,
  type Kernel,
  kernel,
  linearThread,
  memoized,
  storedType,
} from "./kernel.ts";
import { LOG1P } from "./special.ts";
import { QUARTER } from "./trig.ts";

/** WGSL: `philox(counter, key)` and `uniform01(u32)` in (0, 1]; `rng` must be bound as array<u32>. */
export const PHILOX = `${LOG1P}${QUARTER}
fn mulhi(a: u32, b: u32) -> u32 {
  let al = a & 0xffffu; let ah = a >> 16u;
  let bl = b & 0xffffu; let bh = b >> 16u;
  let low = al * bl;
  let mid1 = ah * bl + (low >> 16u);
  let mid2 = al * bh + (mid1 & 0xffffu);
  return ah * bh + (mid1 >> 16u) + (mid2 >> 16u);
}
fn philox_round(c: vec4<u32>, k: vec2<u32>) -> vec4<u32> {
  let hi0 = mulhi(0xD2511F53u, c.x); let lo0 = 0xD2511F53u * c.x;
  let hi1 = mulhi(0xCD9E8D57u, c.z); let lo1 = 0xCD9E8D57u * c.z;
  return vec4<u32>(hi1 ^ c.y ^ k.x, lo1, hi0 ^ c.w ^ k.y, lo0);
}
fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
  var c = counter;
  var k = key;
${
  Array.from({ length: 10 }, (_, i) =>
    `  c = philox_round(c, k);${i < 9 ? " k = k + vec2<u32>(0x9E3779B9u, 0xBB67AE85u);" : ""}`)
    .join("\n")
}
  return c;
}
// Four words for block \`i\` of this call: counter = (i, 0, call + base).
fn draw(i: u32, call_lo: u32, call_hi: u32) -> vec4<u32> {
  let lo = call_lo + rng[2];
  let carry = select(0u, 1u, lo < call_lo);
  return philox(vec4<u32>(i, 0u, lo, call_hi + rng[3] + carry), vec2<u32>(rng[0], rng[1]));
}
// 24 random bits as a float in [0, 1).
fn unit(w: u32) -> f32 { return f32(w >> 8u) * 5.9604644775390625e-8; }
// The same in (0, 1], safe for a logarithm.
fn unit_open(w: u32) -> f32 { return f32((w >> 8u) + 1u) * 5.9604644775390625e-8; }
// Two normal deviates from two words (Box-Muller).
fn normal2(a: u32, b: u32) -> vec2<f32> {
  // unit_open(a) - 1 is exact, and log_1_plus is right where log of a number near 1 is not.
  let r = sqrt(-2.0 * log_1_plus(unit_open(a) - 1.0));
  // Whole quarter turns are split off exactly, before there is a π.
  let turns = unit(b);
  let q = round(4.0 * turns);
  let v = turned(u32(q), 6.283185307179586 * (turns - 0.25 * q));
  return vec2<f32>(r * v.y, r * v.x);
}`;

/** Buffer declaration of the generator's state. */
export const RNG_BUFFER = { name: "rng", access: "read", type: "u32" } as const;
/** Params of a call number. */
export const CALL_PARAMS = { call_lo: "u32", call_hi: "u32" } as const;

/** What a random fill draws. */
export type Distribution = "uniform" | "normal" | "bernoulli" | "integer";

/**
 * y[i] from a distribution; a thread owns four elements, one Philox block.
 *
 * uniform: [a, b) · normal: mean a, deviation b · bernoulli: 1 with probability a · integer: a + word mod b.
 */
export const randomKernel: (
  spec: { distribution: Distribution; dtype: "f32" | "i32" | "u32" },
) => Kernel = memoized(buildRandom);

function buildRandom(spec: { distribution: Distribution; dtype: "f32" | "i32" | "u32" }): Kernel {
  const type = DTYPES[spec.dtype].storage;
  const value: Record<Distribution, (v: number) => string> = {
    uniform: (v) => `p.a + (p.b - p.a) * unit(w[${v}])`,
    normal: (v) => `p.a + p.b * ${v < 2 ? "n0" : "n1"}.${v % 2 === 0 ? "x" : "y"}`,
    bernoulli: (v) => `select(0.0, 1.0, unit(w[${v}]) < p.a)`,
    integer: (v) => `p.low + i32(w[${v}] % p.range)`,
  };
  const lines = [0, 1, 2, 3].map((v) =>
    `  if (e + ${v}u < p.count) { y[e + ${v}u] = ${type}(${value[spec.distribution](v)}); }`
  );
  return kernel({
    name: `random_${spec.distribution}_${spec.dtype}`,
    buffers: [RNG_BUFFER, { name: "y", access: "write", type }],
    params: {
      count: "u32",
      threads: "u32",
      first: "u32",
      a: "f32",
      b: "f32",
      low: "i32",
      range: "u32",
      ...CALL_PARAMS,
    },
    module: PHILOX,
    body: `${linearThread("t", "p.threads")}
  let e = t * 4u;
  let w = draw(p.first + t, p.call_lo, p.call_hi);
${
      spec.distribution === "normal"
        ? "  let n0 = normal2(w[0], w[1]);\n  let n1 = normal2(w[2], w[3]);\n"
        : ""
    }${lines.join("\n")}`,
  });
}

/** Adds `calls` to the generator's base: the last dispatch of a recorded step that draws. */
export const advanceKernel: () => Kernel = memoized(() =>
  kernel({
    name: "advance_rng",
    buffers: [{ name: "rng", access: "write", type: "u32" }],
    params: { calls: "u32" },
    workgroup: [1, 1, 1],
    body: `  let low = rng[2] + p.calls;
  rng[3] += select(0u, 1u, low < p.calls);
  rng[2] = low;`,
  })
);

/** What varies between the text of dropout kernels. */
export interface DropoutSpec {
  readonly dtype: "f32" | "f16";
  /** Whether a second array is added to what is kept. */
  readonly residual: boolean;
  /** Whether the elements are whole fours, which are then one load. */
  readonly fours: boolean;
}

/**
 * Dropout: y = x / (1 - rate) where the draw keeps the element, else 0, plus a residual where there is one.
 * The backward pass runs the same kernel on dy with the same call number. A thread owns four elements.
 */
export const dropoutKernel: (spec: DropoutSpec) => Kernel = memoized(buildDropout);

function buildDropout({ dtype, residual, fours }: DropoutSpec): Kernel {
  const type = storedType(dtype, fours);
  const kept = (v: number, part: (buffer: string) => string) =>
    `select(0.0, ${asF32(part("x"), dtype)} * p.scale, unit(w[${v}]) >= p.rate)` +
    (residual ? ` + ${asF32(part("residual"), dtype)}` : "");
  const each = [0, 1, 2, 3];
  const lines = fours
    ? [
      `  let x4 = x[t];${residual ? "\n  let residual4 = residual[t];" : ""}`,
      `  y[t] = ${
        asStored(`vec4(${each.map((v) => kept(v, (b) => `${b}4[${v}]`)).join(", ")})`, dtype, true)
      };`,
    ]
    : each.map((v) =>
      `  if (e + ${v}u < p.count) { y[e + ${v}u] = ${
        fromF32(kept(v, (b) => `${b}[e + ${v}u]`), dtype)
      }; }`
    );
  return kernel({
    name: `dropout${residual ? "_add" : ""}${fours ? "_fours" : ""}`,
    buffers: [
      RNG_BUFFER,
      { name: "x", access: "read", type },
      ...(residual ? [{ name: "residual", access: "read", type } as const] : []),
      { name: "y", access: "write", type },
    ],
    params: { count: "u32", threads: "u32", rate: "f32", scale: "f32", ...CALL_PARAMS },
    module: PHILOX,
    body: `${linearThread("t", "p.threads")}
  let e = t * 4u;
  let w = draw(t, p.call_lo, p.call_hi);
${lines.join("\n")}`,
  });
}
