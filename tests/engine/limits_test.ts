/**
 * The engine on adapters with small limits, and with the tiles of a discrete GPU: the results must be
 * those of the adapter as it is. Each test opens the device again with lowered limits.
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { bernoulli, cat, rand, randint, randn, tensor, zeros } from "../../engine/creation.ts";
import { conv2d, dropout, linear, maxPool2d } from "../../engine/functions.ts";
import { crossEntropy } from "../../engine/functions_loss.ts";
import { gpu, init, type Limits, reopen } from "../../engine/gpu/device.ts";
import { allOps } from "../../engine/op.ts";
import { readAll } from "../../engine/read.ts";
import { manualSeed } from "../../engine/rng.ts";
import { scope } from "../../engine/scope.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { checkOp } from "../helpers/check_op.ts";

type Results = Record<string, Tensor>;

/** Largest binding and grid seen since the device was opened. */
interface Seen {
  binding: number;
  grid: number;
  launches: number;
}

/** Runs `fn` on a device with the given limits; gives the results and what was bound and launched. */
async function under(limits: Partial<Limits>, fn: () => Results) {
  await reopen({ limits });
  const seen: Seen = { binding: 0, grid: 0, launches: 0 };
  const { device, queue } = gpu();
  const { createBindGroup } = device;
  device.createBindGroup = (descriptor) => {
    for (const { resource } of descriptor.entries) {
      const size = (resource as GPUBufferBinding).size ?? Infinity;
      seen.binding = Math.max(seen.binding, size);
    }
    return createBindGroup.call(device, descriptor);
  };
  const { launch } = queue;
  queue.launch = (run) => {
    seen.grid = Math.max(seen.grid, ...run.grid);
    seen.launches++;
    launch.call(queue, run);
  };
  manualSeed(17);
  const results = scope(fn);
  const data = await readAll(Object.values(results));
  const values = Object.fromEntries(
    Object.keys(results).map((name, i) => [name, Float64Array.from(data[i]!)]),
  );
  for (const t of Object.values(results)) t.dispose();
  device.createBindGroup = createBindGroup;
  return { values, seen };
}

/** Fails at the first element further off than `tolerance`. */
function assertClose(name: string, got: Float64Array, options: {
  want: Float64Array;
  tolerance: number;
}): void {
  const { want, tolerance } = options;
  assertEquals(got.length, want.length, name);
  got.forEach((v, i) => {
    const off = Math.abs(v - want[i]!);
    if (Object.is(v, want[i]) || off <= tolerance) return;
    throw new Error(`${name}: element ${i} is ${v}, without the limit ${want[i]}`);
  });
}

Deno.test("a grid over 64 workgroups a side is folded", async () => {
  const work = (): Results => {
    const x = randn([40000], { requiresGrad: true });
    const rows = randn([5000, 3], { requiresGrad: true });
    const y = x.reshape(200, 200).transpose(0, 1).exp().mul(2);
    y.sum().backward();
    const { values, indices } = rows.topk(2);
    rows.softmax(1).square().sum().backward();
    const target = randint(0, 3, { shape: [5000] });
    const image = randn([1, 1, 80, 80]);
    return {
      pointwise: x.add(1),
      strided: y,
      gradient: x.grad!.detach(),
      rows: rows.softmax(1),
      rowGradient: rows.grad!.detach(),
      rowSum: rows.sum(1),
      arg: rows.argmax(1),
      max: rows.max(1),
      values,
      indices,
      losses: crossEntropy(rows, target, { reduction: "none" }),
      cat: cat([x, x]),
      dropout: dropout(x, 0.25),
      coins: bernoulli(0.5, { shape: [40000] }),
      tiles: rand([130, 5]).matmul(rand([5, 260])),
      batches: rand([70, 3, 4]).matmul(rand([70, 4, 2])),
      conv: conv2d(image, randn([9, 1, 3, 3]), { padding: 1 }),
      pool: maxPool2d(image, 1),
    };
  };
  const whole = await under({}, work);
  const folded = await under({ maxComputeWorkgroupsPerDimension: 64 }, work);
  assert(whole.seen.grid > 64, `${whole.seen.grid}`);
  assertEquals(folded.seen.grid, 64);
  for (const [name, want] of Object.entries(whole.values)) {
    assertClose(name, folded.values[name]!, { want, tolerance: 0 });
  }
});

const SMALL = { maxStorageBufferBindingSize: 1 << 16 }; // 64 KiB, 16,384 f32

Deno.test("pointwise work over a binding's limit goes window by window", async () => {
  const work = (): Results => {
    const x = rand([100, 501]);
    const column = rand([100, 1]);
    const h = x.to("f16");
    const inPlace = x.clone();
    inPlace.add_(x).mul_(2).slice(1, 1).add_(10);
    return {
      contiguous: x.mul(x).add(0.5),
      broadcast: x.add(column).mul(rand([501])),
      transposed: x.transpose(0, 1).exp(),
      compared: x.lt(column),
      half: h.add(1),
      filled: zeros([40000]).fill_(3),
      inPlace,
      joined: cat([x, column, x], 1),
    };
  };
  const whole = await under({}, work);
  const cut = await under(SMALL, work);
  assert(whole.seen.binding > 1 << 17 && cut.seen.binding <= 1 << 16, JSON.stringify(cut.seen));
  assert(cut.seen.launches > whole.seen.launches);
  for (const [name, want] of Object.entries(whole.values)) {
    assertClose(name, cut.values[name]!, { want, tolerance: 0 });
  }
});

Deno.test("random fills over a binding's limit draw the same numbers", async () => {
  const work = (): Results => ({
    uniform: rand([40001]),
    normal: randn([20003]),
    integers: randint(0, 1000, { shape: [33333] }),
    after: rand([5]),
  });
  const whole = await under({}, work);
  const cut = await under(SMALL, work);
  assert(cut.seen.binding <= 1 << 16);
  for (const [name, want] of Object.entries(whole.values)) {
    assertClose(name, cut.values[name]!, { want, tolerance: 0 });
  }
});

Deno.test("matmul splits M, N or K, whichever its large operand runs along", async () => {
  const work = (): Results => {
    const [tall, wide] = [rand([9000, 4]), rand([4, 9000])];
    const [small, bias] = [rand([4, 3]), rand([9000])];
    return {
      rowsOfA: tall.matmul(small), // M, and C with it
      columnsOfB: small.transpose(0, 1).matmul(wide), // N of a row-major B runs fast: K is cut
      transposedB: small.transpose(0, 1).matmul(tall.transpose(0, 1)), // N
      innerOfBoth: wide.matmul(tall), // K
      innerTransposed: tall.transpose(0, 1).matmul(tall), // K
      product: rand([300, 2]).matmul(rand([2, 300])), // only C is large
      biased: linear(rand([3, 4]), tall, bias), // N, with its share of the bias
      biasedInner: linear(rand([2, 9000]), rand([5, 9000]), rand([5])), // K, bias once
      vector: wide.matmul(bias),
    };
  };
  const whole = await under({}, work);
  const cut = await under(SMALL, work);
  assert(whole.seen.binding > 1 << 17 && cut.seen.binding <= 1 << 16, JSON.stringify(cut.seen));
  for (const [name, want] of Object.entries(whole.values)) {
    // The terms, all positive, are added in another order: K · u · sqrt(terms) · Σ|t|, K = 16.
    const terms = want.length < 100 ? 9000 : 4;
    const tolerance = 16 * 2 ** -24 * Math.sqrt(terms) * Math.max(...want.slice(0, 1000));
    assertClose(name, cut.values[name]!, { want, tolerance });
  }
});

Deno.test("what cannot be cut is refused with the array, the kernel and the limit", async () => {
  await reopen({ limits: SMALL });
  const x = rand([20000, 2]);
  for (
    const [fn, message] of [
      [
        () => x.softmax(1),
        "Cannot bind uniform to softmax: it needs 156.3 KiB and this adapter binds at most 64.0 KiB",
      ],
      [
        () => x.sum(0),
        "Cannot bind uniform to sum: it needs 156.3 KiB and this adapter binds at most 64.0 KiB",
      ],
      [
        () => rand([10, 4000, 1]).matmul(rand([10, 1, 4])),
        "Cannot matmul a batch of [10, 4000, 1]: it is over the 64.0 KiB this adapter binds at " +
        "once; multiply the batch in parts",
      ],
    ] as const
  ) {
    assertThrows(() => scope(fn), RangeError, message);
  }
  await reopen({ limits: { maxBufferSize: 1 << 20 } });
  assertThrows(
    () => zeros([1 << 20]),
    RangeError,
    "Cannot allocate fill of 4.0 MiB: this adapter's largest buffer has 1.0 MiB",
  );
});

Deno.test("the largest tiles agree with the smallest", async () => {
  const work = (facts: { software: boolean; subgroupSize: number }) => (): Results => {
    Object.assign(gpu().info, facts);
    return { c: rand([1030, 3]).matmul(rand([3, 1025])) };
  };
  const small = await under({}, work({ software: true, subgroupSize: 0 }));
  const large = await under({}, work({ software: false, subgroupSize: 0 }));
  // Three products, added in the same order.
  assertClose("c", large.values.c!, { want: small.values.c!, tolerance: 4 * 2 ** -24 * 3 });
});

Deno.test("shares of K are summed in a fixed order", async () => {
  const product = (K: number) => (): Results => {
    const [a, b] = [rand([3, K]), rand([K, 7])];
    return { a, b, c: a.matmul(b) };
  };
  const work = (software: boolean) => (): Results => {
    Object.assign(gpu().info, { software });
    const [a, b] = [rand([3, 5000]), rand([5000, 7])];
    const image = rand([4, 2, 40, 40]);
    const w = rand([3, 2, 3, 3], { requiresGrad: true });
    conv2d(image, w).sum().backward();
    return {
      a,
      b,
      c: a.matmul(b),
      again: a.matmul(b),
      batch: a.expand(6, 3, 5000).matmul(b),
      dw: w.grad!.detach(),
    };
  };
  const short = await under({}, product(8)), long = await under({}, product(5000));
  assert(long.seen.launches > short.seen.launches, "K was not shared out");
  // Sums of 5,000 or 5,776 products in float32.
  const tolerance = (want: Float64Array, terms: number) =>
    16 * 2 ** -24 * Math.sqrt(terms) * Math.max(...want);
  const found = [await under({}, work(true)), await under({}, work(false))];
  for (const { values } of found) {
    const { a, b } = values;
    const want = Float64Array.from({ length: 21 }, (_, i) => {
      const [m, n] = [Math.floor(i / 7), i % 7];
      let sum = 0;
      for (let k = 0; k < 5000; k++) sum += a![m * 5000 + k]! * b![k * 7 + n]!;
      return sum;
    });
    assertClose("c", values.c!, { want, tolerance: tolerance(want, 5000) });
    assertEquals(values.c, values.again);
    for (let n = 0; n < 6; n++) {
      const one = values.batch!.slice(n * 21, (n + 1) * 21);
      assertClose(`batch ${n}`, one, { want, tolerance: tolerance(want, 5000) });
    }
  }
  const [one, other] = found.map(({ values }) => values.dw!);
  assertClose("dw", other!, { want: one!, tolerance: tolerance(one!, 5776) });
});

Deno.test("the engine runs on a device it is given, with WebGPU's default limits", async () => {
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter!.requestDevice({ label: "given" });
  const info = await init({ device });
  assertEquals(gpu().device, device);
  const optional = ["shader-f16", "subgroups", "timestamp-query"].filter((f) =>
    info.features.has(f)
  );
  assertEquals([info.limits.maxStorageBuffersPerShaderStage, optional], [8, []]);
  for (const name of ["matmul", "softmax", "conv2d", "crossEntropy", "sum"]) {
    const op = { ...allOps().get(name)!, samples: allOps().get(name)!.samples.slice(0, 3) };
    const { problems } = await checkOp(op);
    assertEquals(problems, []);
  }
  const h = zeros([3]);
  assertThrows(
    () => h.to("f16"),
    TypeError,
    "Cannot run cast_f32_f16_contiguous in f16: this adapter lacks it; use f32",
  );
  assertEquals(await h.array(), [0, 0, 0]);
});

Deno.test("tensors of a closed device do not reach the new one", async () => {
  await reopen();
  const old = tensor([1, 2]);
  const bytes = gpu().pool.info().liveBytes;
  await reopen();
  assertEquals((await init()).adapter, gpu().info.adapter);
  assertThrows(
    () => old.add(1),
    Error,
    "Cannot use a tensor [2] of an earlier device: init() has opened another since",
  );
  await assertRejects(async () => await old.data(), Error, "of an earlier device");
  old.dispose();
  assert(bytes > 0);
  assertEquals(await tensor([1, 2]).add(1).array(), [2, 3]);
});
