/** Bounds on the elementary functions, over the whole range that they are stated for, on any adapter. */

import { assert } from "@std/assert";
import { tensor } from "../../engine/creation.ts";
import { init } from "../../engine/gpu/device.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { Draw } from "../helpers/draw.ts";

await init();

/** Numbers of every size below 32,768, and the floats around multiples of π/4. */
function angles(): Float32Array {
  const draw = new Draw("angles");
  const values = Array.from({ length: 6000 }, (_, i) => {
    const size = 2 ** (15 - 40 * draw.uniform());
    return i % 2 === 0 ? size : -size;
  });
  for (let n = 1; n < 41720; n += n < 200 ? 1 : 97) {
    const near = Math.fround(n * Math.PI / 4);
    if (near > 32767) break;
    values.push(near, near * (1 + 2 ** -23), near * (1 - 2 ** -23));
  }
  return Float32Array.from([0, ...values]);
}

/** Distance between floats around `y`. */
function ulp(y: number): number {
  return 2 ** (Math.max(Math.floor(Math.log2(Math.abs(y) || 1e-45)), -126) - 23);
}

interface Bound {
  readonly ulps: number;
  /** Errors below this are right at any size of the result. */
  readonly absolute?: number;
}

/** Fails at the worst element over the bound. */
async function assertWithin(
  [name, x, y]: readonly [string, Float32Array, Tensor],
  want: (x: number) => number,
  { ulps, absolute = 0 }: Bound,
): Promise<void> {
  const got = await y.data();
  let worst = 0;
  let message = "";
  x.forEach((v, i) => {
    const expected = want(v);
    const off = Math.abs(Number(got[i]) - expected);
    const allowed = Math.max(ulps * ulp(expected), absolute);
    if (off / allowed <= worst) return;
    worst = off / allowed;
    message = `${name}(${v}) is ${got[i]}, not ${expected}: ${off / ulp(expected)} ulp`;
  });
  assert(!x.some((_, i) => Number.isNaN(got[i])), `${name} gives NaN`);
  assert(worst <= 1, message);
}

for (
  const [name, bound] of [
    ["sin", { ulps: 2, absolute: 2 ** -36 }],
    ["cos", { ulps: 2, absolute: 2 ** -36 }],
    ["tan", { ulps: 5, absolute: 2 ** -35 }],
  ] as const
) {
  Deno.test(`${name}() keeps its bound up to 32,768`, async () => {
    const x = angles();
    using t = tensor(x);
    using y = t[name]();
    await assertWithin([name, x, y], Math[name], bound);
  });
}

/** Numbers of every size above 32,768, and those among the floats that are nearest to multiples of π/2. */
function farAngles(): Float32Array {
  const draw = new Draw("far angles");
  const values = Array.from({ length: 12000 }, (_, i) => {
    const size = Math.fround(2 ** (15 + 113 * draw.uniform()));
    return i % 2 === 0 ? size : -size;
  });
  for (let n = 20861; n < 2 ** 24; n = Math.ceil(n * 1.003)) values.push(n * Math.PI / 2);
  const nearest: [number, number][] = [];
  for (let i = 0; i < 200_000; i++) {
    const x = Math.fround(2 ** (15 + 113 * draw.uniform()));
    nearest.push([Math.min(Math.abs(Math.sin(x)), Math.abs(Math.cos(x))), x]);
  }
  nearest.sort((a, b) => a[0] - b[0]);
  values.push(...nearest.slice(0, 2000).map(([, x]) => x));
  return Float32Array.from([32768.004, -3.4028234663852886e38, ...values]);
}

for (const [name, ulps] of [["sin", 5], ["cos", 5], ["tan", 11]] as const) {
  Deno.test(`${name}() keeps its bound beyond 32,768, up to the largest number`, async () => {
    const x = farAngles().filter((v) => Math.abs(v) > 32768);
    using t = tensor(x);
    using y = t[name]();
    await assertWithin([name, x, y], Math[name], { ulps });
  });
}

/** `count` numbers, from u in [0, 1) by `place`. */
function drawn(name: string, place: (u: number) => number): Float32Array {
  const draw = new Draw(name);
  return Float32Array.from({ length: 4000 }, () => place(draw.uniform()));
}

Deno.test("log(), log1p() and log2() keep their relative accuracy near 1", async () => {
  for (const width of [1e-6, 1e-3, 0.58]) {
    const x = drawn(`near 1 ${width}`, (u) => 1 + width * (u - 0.5));
    using t = tensor(x);
    using natural = t.log();
    using binary = t.log2();
    await assertWithin(["log", x, natural], Math.log, { ulps: 6 });
    await assertWithin(["log2", x, binary], Math.log2, { ulps: 8 });
    const less = x.map((v) => v - 1);
    using near = tensor(less);
    using y = near.log1p();
    await assertWithin(["log1p", less, y], Math.log1p, { ulps: 6 });
  }
});

Deno.test("log() and exp() are as accurate as WGSL asks", async () => {
  const x = drawn("all sizes", (u) => 2 ** (240 * u - 120));
  using t = tensor(x);
  using logs = t.log();
  // 3 ulp, and 2^-21 in [½, 2] of which the middle is our own.
  await assertWithin(["log", x, logs], Math.log, { ulps: 3, absolute: 2 ** -21 });
  // 3 + 2|x| ulp.
  for (const most of [2, 20, 85]) {
    const steps = drawn(`exp ${most}`, (u) => most * (2 * u - 1));
    using s = tensor(steps);
    using y = s.exp();
    await assertWithin(["exp", steps, y], Math.exp, { ulps: 3 + 2 * most });
  }
});

Deno.test("pow() of small exponents is as exact as products and roots", async () => {
  const x = drawn("bases", (u) => 10 * u + 0.01);
  using t = tensor(x);
  for (const exponent of [1, 2, 3, 0.5, -1]) {
    using y = t.pow(exponent);
    const name = `x ** ${exponent}: `;
    // Division and root may be off by 2.5 ulp in WGSL.
    const ulps = exponent === 1 ? 0.5 : 2.5;
    await assertWithin([name, x, y], (v) => v ** exponent, { ulps });
  }
});

Deno.test("sin(), cos() and tan() of infinity and NaN are NaN", async () => {
  using x = tensor([Infinity, -Infinity, NaN]);
  for (const name of ["sin", "cos", "tan"] as const) {
    using y = x[name]();
    const data = await y.data();
    assert(data.every(Number.isNaN), `${name} gives ${data}`);
  }
});
