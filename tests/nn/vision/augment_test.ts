/** Augmentations: exact values where a draw is known, statistics of the draws, one seed one result. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { philox4x32 } from "../../../engine/philox.ts";
import {
  arange,
  capture,
  full,
  init,
  manualSeed,
  memory,
  nn,
  oneHot,
  rand,
  randomAffineMaps,
  readAll,
  stack,
  synchronize,
  type Tensor,
  tensor,
  type TypedArray,
  warpReflect,
  zeros,
} from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";

const info = await init();

const v = nn.vision;

/** Column and row of each pixel as two channels, for N images. */
function ramps(N: number, H: number, W: number): Tensor {
  const columns = arange(0, W).to("f32").reshape(1, W).expand(H, W);
  const rows = arange(0, H).to("f32").reshape(H, 1).expand(H, W);
  return stack([columns, rows], 0).unsqueeze(0).expand(N, 2, H, W).contiguous();
}

/** Asserts |got - want| <= 5 standard deviations. */
function assertStatistic(what: string, got: number, want: { mean: number; deviation: number }) {
  const off = Math.abs(got - want.mean) / want.deviation;
  assert(off <= 5, `${what} is ${got}: ${off} deviations from ${want.mean}`);
}

function mean(values: ArrayLike<number>): number {
  return Array.from(values).reduce((n, x) => n + x, 0) / values.length;
}

Deno.test("randomResizedCrop() cuts a part out, each place as likely", async () => {
  manualSeed(1);
  const [N, S] = [500, 8];
  const y = v.randomResizedCrop(ramps(N, S, S), { size: 4, scale: [0.25, 0.25], ratio: [1, 1] });
  assertEquals(y.shape, [N, 2, 4, 4]);
  const data = await y.data();
  const counts = [new Array(5).fill(0), new Array(5).fill(0)];
  for (let n = 0; n < N; n++) {
    for (const c of [0, 1]) {
      const first = data[(n * 2 + c) * 16]!;
      counts[c]![first]++;
      for (let i = 0; i < 16; i++) {
        assertEquals(data[(n * 2 + c) * 16 + i], first + (c === 0 ? i % 4 : Math.floor(i / 4)));
      }
    }
  }
  for (const count of counts.flat()) {
    assertStatistic("count", count, { mean: N / 5, deviation: Math.sqrt(N * 0.2 * 0.8) });
  }
});

Deno.test("randomResizedCrop() keeps to its ranges, and falls back to the centre", async () => {
  manualSeed(2);
  // One output pixel of a ramp is the centre of the part: (H - 1) / 2 on average.
  const y = v.randomResizedCrop(ramps(800, 12, 20), { size: 1 });
  const [cx, cy] = [0, 1].map((c) => y.select(1, c).reshape(-1));
  const [x, row] = await readAll([cx!, cy!]);
  assertStatistic("centre x", mean(x!), { mean: 9.5, deviation: 20 / Math.sqrt(12 * 800) });
  assertStatistic("centre y", mean(row!), { mean: 5.5, deviation: 12 / Math.sqrt(12 * 800) });
  assert(x!.every((c) => c >= 0 && c <= 19) && new Set(x!).size > 10);
  // A part of the whole area and twice as wide as high cannot fit: rows 2 to 5 of 8 are taken.
  const wide = v.randomResizedCrop(ramps(2, 8, 8), { size: [4, 8], scale: [1, 1], ratio: [2, 2] });
  const rows = await wide.select(0, 1).select(0, 1).select(1, 3).data();
  assertEquals([...rows], [2, 3, 4, 5]);
  const whole = ramps(2, 6, 6);
  const same = v.randomResizedCrop(whole, { size: 6, scale: [1, 1], ratio: [1, 1] });
  assertEquals(await same.data(), await whole.data());
});

Deno.test("colorJitter() runs its ops in random order", async () => {
  manualSeed(3);
  const N = 400;
  const x = tensor([0.2, 0.8]).reshape(1, 1, 1, 2).expand(N, 3, 1, 2);
  const y = v.colorJitter(x, { brightness: [2, 2], contrast: [0, 0] });
  // Contrast 0 first: gray 0.5 everywhere, then 1. Brightness first: 0.4 and 1, then 0.7.
  const values = [...await y.data()].map((u) => Math.round(u * 100) / 100);
  const ones = values.filter((u) => u === 1).length / 6;
  assertEquals(values.filter((u) => u === 0.7).length / 6 + ones, N);
  assertStatistic("contrast first", ones, { mean: N / 2, deviation: Math.sqrt(N) / 2 });
});

Deno.test("colorJitter() draws its factors evenly, a draw a sample, and may do nothing", async () => {
  manualSeed(4);
  const N = 600;
  const x = full([N, 3, 2, 2], 0.5);
  const [b, p] = await readAll([
    v.colorJitter(x, { brightness: 0.4 }).reshape(N, -1),
    v.colorJitter(x, { brightness: [0.5, 0.5], p: 0.8 }).reshape(N, -1).select(1, 0),
  ]);
  const factors = Array.from({ length: N }, (_, n) => b![12 * n]! * 2);
  b!.forEach((u, i) => assertEquals(u * 2, factors[Math.floor(i / 12)]));
  assert(factors.every((f) => f >= 0.6 - 1e-6 && f <= 1.4 + 1e-6));
  const deviation = 0.8 / Math.sqrt(12);
  assertStatistic("factor", mean(factors), { mean: 1, deviation: deviation / Math.sqrt(N) });
  assertStatistic("square", mean(factors.map((f) => (f - 1) ** 2)), {
    mean: deviation ** 2,
    deviation: 0.16 * Math.sqrt(1 / 5 - 1 / 9) / Math.sqrt(N),
  });
  const changed = p!.filter((u) => u === 0.25).length;
  assertEquals(changed + p!.filter((u) => u === 0.5).length, N);
  assertStatistic("changed", changed, { mean: 0.8 * N, deviation: Math.sqrt(0.16 * N) });
  // Half a turn of the hue: red is cyan.
  const red = tensor([1, 0, 0]).reshape(1, 3, 1, 1);
  const cyan = await v.colorJitter(red, { hue: [0.5, 0.5] }).data();
  [0, 1, 1].forEach((want, c) => assert(Math.abs(cyan[c]! - want) < 1e-6, `${cyan}`));
  const image = rand([2, 3, 4, 5]);
  const [same, was] = await readAll([v.colorJitter(image), image]);
  same!.forEach((u, i) => assert(Math.abs(u - was![i]!) < 1e-6));
});

Deno.test("gaussianBlur() spreads a point by a deviation in range", async () => {
  manualSeed(5);
  const N = 300;
  const point = new Float32Array(25);
  point[12] = 1;
  const x = tensor(point, { shape: [1, 1, 5, 5] }).expand(N, 1, 5, 5);
  const y = await v.gaussianBlur(x, { kernelSize: 3, sigma: [0.5, 1.5], p: 0.7 }).data();
  let changed = 0;
  const sigmas: number[] = [];
  for (let n = 0; n < N; n++) {
    const at = (i: number) => y[25 * n + i]!;
    if (at(12) === 1) {
      assertEquals(y.subarray(25 * n, 25 * n + 25), point);
      continue;
    }
    changed++;
    // Neighbour over centre is exp(-1 / (2 sigma²)); the nine weights add up to 1.
    sigmas.push(Math.sqrt(-1 / (2 * Math.log(at(11) / at(12)))));
    assert(Math.abs(mean(y.subarray(25 * n, 25 * n + 25)) * 25 - 1) < 1e-6);
    assert(Math.abs(at(6) - at(11) * at(7) / at(12)) < 1e-6);
  }
  assertStatistic("changed", changed, { mean: 0.7 * N, deviation: Math.sqrt(0.21 * N) });
  assert(sigmas.every((s) => s > 0.499 && s < 1.501));
  assertStatistic("sigma", mean(sigmas), { mean: 1, deviation: 1 / Math.sqrt(12 * changed) });
});

Deno.test("gaussNoise() has a variance a sample within its limits", async () => {
  manualSeed(6);
  const [N, M] = [60, 3 * 24 * 24];
  const y = await v.gaussNoise(full([N, 3, 24, 24], 0.5), { p: 1 }).data();
  const variances = Array.from({ length: N }, (_, n) => {
    const part = y.subarray(M * n, M * (n + 1));
    const off = Array.from(part, (u) => (u - 0.5) * 255);
    const square = mean(off.map((u) => u * u));
    assertStatistic("mean", mean(off), { mean: 0, deviation: Math.sqrt(square / M) });
    return square;
  });
  // An estimated variance is off by a factor of 1 ± sqrt(2 / M).
  const slack = 5 * Math.sqrt(2 / M);
  assert(variances.every((s) => s > 10 * (1 - slack) && s < 50 * (1 + slack)));
  assertStatistic("variance", mean(variances), { mean: 30, deviation: 40 / Math.sqrt(12 * N) });
  const white = await v.gaussNoise(full([2, 1, 8, 8], 1), { p: 1, mean: 5 }).data();
  assert(white.every((u) => u <= 1));
  const off = rand([3, 1, 4, 4]);
  assertEquals(await v.gaussNoise(off, { p: 0 }).data(), await off.data());
});

Deno.test("brightnessContrast() adds and multiplies a sample at a time", async () => {
  manualSeed(7);
  const N = 500;
  const x = tensor([0.4, 0.6]).reshape(1, 1, 1, 2).expand(N, 1, 1, 2);
  const y = await v.brightnessContrast(x, { brightnessLimit: 0.1, contrastLimit: 0.3 }).data();
  const pairs = Array.from({ length: N }, (_, n) => {
    const factor = (y[2 * n + 1]! - y[2 * n]!) / 0.2;
    return { factor, shift: y[2 * n]! - 0.4 * factor };
  }).filter(({ factor, shift }) => Math.abs(factor - 1) > 1e-5 || Math.abs(shift) > 1e-5);
  assertStatistic("changed", pairs.length, { mean: N / 2, deviation: Math.sqrt(N) / 2 });
  assert(pairs.every((q) => Math.abs(q.factor - 1) < 0.3001 && Math.abs(q.shift) < 0.1001));
  const n = Math.sqrt(12 * pairs.length);
  assertStatistic("factor", mean(pairs.map((q) => q.factor)), { mean: 1, deviation: 0.6 / n });
  assertStatistic("shift", mean(pairs.map((q) => q.shift)), { mean: 0, deviation: 0.2 / n });
  assert(
    (await v.brightnessContrast(full([9, 1, 1, 1], 0.99), { p: 1 }).data()).every((u) => u <= 1),
  );
});

/** Rectangles of zeros in [N, 1, H, W] ones, or null where there is none. */
function holes(data: ArrayLike<number>, size: [number, number, number]) {
  const [N, H, W] = size;
  return Array.from({ length: N }, (_, n) => {
    const at = Array.from({ length: H * W }, (_, i) => i).filter((i) => data[n * H * W + i] === 0);
    if (at.length === 0) return null;
    const [rows, columns] = [at.map((i) => Math.floor(i / W)), at.map((i) => i % W)];
    const [top, left] = [Math.min(...rows), Math.min(...columns)];
    const h = Math.max(...rows) - top + 1;
    const w = Math.max(...columns) - left + 1;
    assertEquals(at.length, h * w, "one rectangle");
    return { top, left, h, w };
  });
}

Deno.test("coarseDropout() puts holes of its sizes anywhere inside", async () => {
  manualSeed(8);
  const N = 600;
  const x = full([N, 1, 6, 7], 1);
  const y = await v.coarseDropout(x, {
    maxHoles: 1,
    maxHeight: 3,
    minHeight: 2,
    maxWidth: 4,
    minWidth: 4,
  }).data();
  const found = holes(y, [N, 6, 7]).filter((h) => h !== null);
  assertStatistic("holes", found.length, { mean: N / 2, deviation: Math.sqrt(N) / 2 });
  assert(found.every((h) => (h.h === 2 || h.h === 3) && h.w === 4));
  const n = found.length;
  const low = found.filter((h) => h.h === 2);
  assertStatistic("low", low.length, { mean: n / 2, deviation: Math.sqrt(n) / 2 });
  for (let left = 0; left <= 3; left++) {
    const count = found.filter((h) => h.left === left).length;
    assertStatistic("left", count, { mean: n / 4, deviation: Math.sqrt(n * 3 / 16) });
  }
  for (let top = 0; top <= 4; top++) {
    const count = low.filter((h) => h.top === top).length;
    assertStatistic("top", count, {
      mean: low.length / 5,
      deviation: Math.sqrt(low.length * 4 / 25),
    });
  }
  // Shares of the image, the number of holes, the fill.
  const share = await v.coarseDropout(full([3, 2, 10, 20], 1), {
    maxHoles: 1,
    maxHeight: 0.5,
    maxWidth: 0.25,
    fill: 7,
    p: 1,
  }).data();
  assertEquals(share.filter((u) => u === 7).length, 3 * 2 * 5 * 5);
  const many = await v.coarseDropout(full([400, 1, 64, 64], 1), {
    minHoles: 1,
    maxHoles: 3,
    maxHeight: 1,
    maxWidth: 1,
    p: 1,
  }).data();
  const counts = Array.from(
    { length: 400 },
    (_, k) => many.subarray(k * 4096, (k + 1) * 4096).filter((u) => u === 0).length,
  );
  // Two of three holes meet in one pixel with probability below 0.001.
  assert(counts.every((c) => c >= 1 && c <= 3));
  assertStatistic("number", mean(counts), { mean: 2, deviation: Math.sqrt(2 / 3 / 400) });
});

Deno.test("cutout() centres its holes anywhere; the far edges cut them", async () => {
  manualSeed(9);
  const [N, S] = [700, 6];
  const y = await v.cutout(full([N, 1, S, S], 1), {
    numHoles: 1,
    maxHSize: 4,
    maxWSize: 1,
    p: 1,
  }).data();
  const found = holes(y, [N, S, S]);
  // Centre 0 to 6: the top is 0 for 0, 1, 2, then 1 to 4; the hole ends at 4 or the edge.
  const tops = new Array(5).fill(0);
  for (const h of found) {
    // Column 6 lies outside: no hole is seen.
    if (!h) continue;
    tops[h.top]++;
    assertEquals([h.h, h.w], [Math.min(4, S - h.top), 1]);
  }
  const seen = N * 6 / 7;
  const share = [3, 1, 1, 1, 1].map((k) => k / 7);
  tops.forEach((count, top) =>
    assertStatistic("top", count, {
      mean: seen * share[top]!,
      deviation: Math.sqrt(seen * share[top]! * (1 - share[top]! * 6 / 7)),
    })
  );
  const missing = found.filter((h) => h === null).length;
  assertStatistic("missing", missing, { mean: N / 7, deviation: Math.sqrt(N * 6) / 7 });
});

Deno.test("shiftScaleRotate() turns, scales and shifts within its limits", async () => {
  manualSeed(10);
  const [N, S] = [400, 21];
  const x = ramps(N, S, S).sub(10);
  const y = await v.shiftScaleRotate(x, { rotateLimit: 30, p: 0.6 }).data();
  const draws = Array.from({ length: N }, (_, n) => {
    // Around the centre the result is linear in the position.
    const at = (c: number, row: number, column: number) => y[((n * 2 + c) * S + row) * S + column]!;
    const [c, s] = [at(0, 10, 11) - at(0, 10, 10), at(1, 10, 11) - at(1, 10, 10)];
    const [mx, my] = [at(0, 10, 10), at(1, 10, 10)];
    assert(Math.abs(at(1, 11, 10) - my - c) < 1e-4 && Math.abs(at(0, 11, 10) - mx + s) < 1e-4);
    const k = 1 / Math.hypot(c, s);
    return {
      k,
      angle: Math.atan2(s, c),
      dx: -(c * mx + s * my) * k * k,
      dy: -(c * my - s * mx) * k * k,
    };
  });
  const changed = draws.filter((d) => Math.abs(d.angle) + Math.abs(d.k - 1) > 1e-6);
  assertStatistic("changed", changed.length, { mean: 0.6 * N, deviation: Math.sqrt(0.24 * N) });
  const limits = { k: 0.1, angle: Math.PI / 6, dx: 0.0625 * S, dy: 0.0625 * S };
  for (const [name, limit] of Object.entries(limits) as [keyof typeof limits, number][]) {
    const rest = name === "k" ? 1 : 0;
    const values = changed.map((d) => d[name] - rest);
    assert(values.every((u) => Math.abs(u) < limit + 1e-4), name);
    const n = values.length;
    assertStatistic(name, mean(values), { mean: 0, deviation: limit / Math.sqrt(3 * n) });
    assertStatistic(`${name}²`, mean(values.map((u) => u * u)), {
      mean: limit ** 2 / 3,
      deviation: limit ** 2 * Math.sqrt((1 / 5 - 1 / 9) / n),
    });
  }
});

Deno.test("shiftScaleRotate() turns counter-clockwise and mirrors beyond the edge", async () => {
  // A quarter turn counter-clockwise of what a map [c, -s; s, c] reads: the right column comes on top.
  const x = tensor([1, 2, 3, 4, 5, 6, 7, 8, 9], { shape: [1, 1, 3, 3] });
  const turn = tensor([0, -1, 0, 1, 0, 0], { shape: [1, 2, 3] });
  assertEquals([...await warpReflect(x, turn).data()], [3, 6, 9, 2, 5, 8, 1, 4, 7]);
  const shift = tensor([1, 0, -2, 0, 1, 0], { shape: [1, 2, 3] });
  assertEquals([...await warpReflect(x, shift).data()], [3, 2, 1, 6, 5, 4, 9, 8, 7]);
});

Deno.test("mixup() mixes samples and targets alike", async () => {
  manualSeed(11);
  const N = 6;
  const x = rand([N, 2, 3]);
  const labels = tensor([0, 1, 2, 0, 1, 2], { dtype: "i32" });
  const target = oneHot(labels, 3, { dtype: "f32" });
  for (const perSample of [false, true]) {
    const mixed = v.mixup(x, target, { alpha: 0.8, perSample });
    const [y, t, lam, index, x0, t0] = await readAll([
      mixed.x,
      mixed.target,
      mixed.lam,
      mixed.index,
      x,
      target,
    ]);
    assertEquals(mixed.lam.shape, [perSample ? N : 1]);
    assertEquals([...index!].sort(), [0, 1, 2, 3, 4, 5]);
    for (const [got, from, width] of [[y!, x0!, 6], [t!, t0!, 3]] as const) {
      got.forEach((u, i) => {
        const n = Math.floor(i / width);
        const share = lam![perSample ? n : 0]!;
        const want = share * from[i]! + (1 - share) * from[index![n]! * width + i % width]!;
        assert(Math.abs(u - want) < 1e-6);
      });
    }
  }
});

Deno.test("mixup() draws its shares from the Beta distribution", async () => {
  manualSeed(12);
  const N = 4000;
  const x = full([N, 1], 1);
  for (const alpha of [0.2, 0.5, 1, 3]) {
    const lam = await v.mixup(x, x, { alpha, perSample: true }).lam.data();
    const variance = 1 / (4 * (2 * alpha + 1));
    assert(lam.every((u) => u >= 0 && u <= 1));
    assertStatistic(`mean at ${alpha}`, mean(lam), {
      mean: 0.5,
      deviation: Math.sqrt(variance / N),
    });
    // (lam - 1/2)² is at most 1/4, so its deviation is at most 1/8.
    assertStatistic(`variance at ${alpha}`, mean(Array.from(lam, (u) => (u - 0.5) ** 2)), {
      mean: variance,
      deviation: 0.125 / Math.sqrt(N),
    });
    // Fourth moment of the symmetric Beta: 3 / (16 (2a + 1)(2a + 3)); at most 1/16.
    assertStatistic(`fourth moment at ${alpha}`, mean(Array.from(lam, (u) => (u - 0.5) ** 4)), {
      mean: 3 / (16 * (2 * alpha + 1) * (2 * alpha + 3)),
      deviation: 1 / 32 / Math.sqrt(N),
    });
  }
});

const TRANSFORMS: Record<string, (x: Tensor) => Tensor> = {
  randomResizedCrop: (x) => v.randomResizedCrop(x, { size: 5 }),
  colorJitter: (x) =>
    v.colorJitter(x, { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 }),
  gaussianBlur: (x) => v.gaussianBlur(x, { kernelSize: 3 }),
  gaussNoise: (x) => v.gaussNoise(x, { p: 0.9 }),
  brightnessContrast: (x) => v.brightnessContrast(x, { p: 0.9 }),
  coarseDropout: (x) => v.coarseDropout(x, { maxHeight: 3, maxWidth: 3, p: 0.9 }),
  cutout: (x) => v.cutout(x, { maxHSize: 3, maxWSize: 3, p: 0.9 }),
  shiftScaleRotate: (x) => v.shiftScaleRotate(x, { p: 0.9 }),
};

Deno.test("the same seed gives the same bits, another draw others, and nothing is left", async () => {
  const x = rand([8, 3, 9, 9], { requiresGrad: true });
  await synchronize();
  for (const [name, transform] of Object.entries(TRANSFORMS)) {
    const runs: TypedArray[] = [];
    for (const seed of [21, 21, 22]) {
      manualSeed(seed);
      const before = memory().liveBytes;
      const y = transform(x);
      assertEquals([y.shape.slice(0, 2), y.requiresGrad], [[8, 3], false], name);
      runs.push(await y.data());
      y.dispose();
      assert(memory().liveBytes <= before, name); // less if garbage was collected
    }
    assertEquals(runs[0], runs[1], name);
    assert(runs[0]!.some((u, i) => u !== runs[2]![i]), name);
  }
});

Deno.test({
  name: "f16 images stay f16, and are what f32 gives, rounded",
  ignore: !info.features.has("shader-f16"),
  async fn() {
    const half = rand([2, 3, 9, 9]).to("f16");
    for (const [name, transform] of Object.entries(TRANSFORMS)) {
      const run = async (x: Tensor) => {
        manualSeed(21);
        using y = transform(x);
        assertEquals(y.dtype, x.dtype, name);
        return await y.data();
      };
      const [got, want] = [await run(half), await run(half.to("f32"))];
      // Values up to 1 are rounded to multiples of 2^-11 or finer, at most once on the way.
      want.forEach((w, i) => assert(Math.abs(got[i]! - w) <= 2 ** -11, `${name} ${i}`));
    }
    const mixed = v.mixup(half, half);
    assertEquals([mixed.x.dtype, mixed.target.dtype], ["f16", "f16"]);
  },
});

Deno.test("augmentations throw for what they cannot do", () => {
  const x = rand([2, 3, 8, 8]);
  for (const [name, transform] of Object.entries(TRANSFORMS)) {
    assertThrows(() => transform(rand([3, 8, 8])), TypeError, `Cannot ${name} [3, 8, 8] f32`);
  }
  assertThrows(() => v.colorJitter(rand([2, 1, 4, 4])), TypeError, "it must have 3 channels");
  assertThrows(() => v.colorJitter(x, { hue: 0.7 }), RangeError, "hue -0.7 to 0.7");
  assertThrows(() => v.colorJitter(x, { contrast: [2, 1] }), RangeError, "contrast 2 to 1");
  assertThrows(() => v.gaussNoise(x, { p: 2 }), RangeError, "gaussNoise p = 2: it must be 0 to 1");
  assertThrows(() => v.gaussianBlur(x, { kernelSize: 4 }), RangeError, "over 4 pixels");
  assertThrows(() => v.gaussianBlur(x, { kernelSize: 17 }), RangeError, "below 16");
  assertThrows(
    () => v.coarseDropout(x, { maxHeight: 9 }),
    RangeError,
    "holes of 9 to 9 of 8 pixels",
  );
  assertThrows(() => v.coarseDropout(x, { minHoles: 9 }), RangeError, "9 to 8");
  assertThrows(() => v.cutout(x, { maxWSize: 1.5 }), RangeError, "1.5 to 1.5");
  assertThrows(() => v.shiftScaleRotate(x, { scaleLimit: 1 }), RangeError, "scaleLimit 1");
  assertThrows(
    () => v.randomResizedCrop(x, { size: 0 }),
    RangeError,
    "whole numbers of at least 1",
  );
  assertThrows(() => v.mixup(x, rand([3, 2])), TypeError, "with one batch size");
  assertThrows(() => v.mixup(x, x, { alpha: 0 }), RangeError, "alpha 0: it must be above 0");
});

Deno.test("randomAffineMaps() is its formula of the generator's words, in a replay, too", async () => {
  const seed = 5, N = 7, degree = Math.PI / 180;
  const ranges = { flip: 0.5, degrees: 40, shift: [9, 7], scale: [0.5, 1.5], shear: 20 } as const;
  const want = (call: number) =>
    Array.from({ length: N }, (_, i) => {
      const [a, b] = [0, 1].map((j) =>
        philox4x32([2 * i + j, 0, call, 0], [seed, 0]).map((w) => (w >>> 8) / 2 ** 24)
      ) as [number[], number[]];
      const within = (u: number, low: number, high: number) => low + (high - low) * u;
      const r = within(a[0]!, -ranges.degrees, ranges.degrees) * degree;
      const [tx, ty] = ranges.shift.map((s, j) => Math.round(within(a[1 + j]!, -s, s)));
      const k = within(a[3]!, ...ranges.scale);
      const shear = Math.tan(within(b[0]!, -ranges.shear, ranges.shear) * degree);
      const side = b[1]! < ranges.flip ? -1 : 1;
      const [m00, m01] = [Math.cos(r) - Math.sin(r) * shear, Math.cos(r) * shear + Math.sin(r)];
      const [m10, m11] = [-Math.sin(r), Math.cos(r)];
      return [
        ...[side * m00, m01, -(m00 * tx! + m01 * ty!)],
        ...[side * m10, m11, -(m10 * tx! + m11 * ty!)],
      ].map((m) => m / k);
    }).flat();
  manualSeed(seed);
  const step = capture((x: Tensor) => ({ maps: randomAffineMaps(N, ranges).add(x) }));
  using zero = zeros([1]);
  for (let call = 0; call < 4; call++) {
    const { maps } = step(zero);
    // A dozen roundings of numbers up to 2 · 16 / k.
    assertClose(await maps.data(), want(call), { atol: 12 * 2 ** -24 * 64, what: `call ${call}` });
    maps.dispose();
  }
  step.dispose();
});
