import { assert, assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import {
  capture,
  crossEntropy,
  init,
  nn,
  profile,
  randint,
  randn,
  trackModules,
} from "../../mod.ts";
import { bestMs, Profile } from "../../engine/profile.ts";
import type { DispatchTime } from "../../engine/gpu/profiler.ts";

const ROOFLINE = { gflops: 100, gbs: 10 };

function dispatch(
  kernel: string,
  [start, ms]: [number, number],
  [module, backward]: [string, boolean] = ["", false],
): DispatchTime {
  const cost = { flops: 2e6, bytes: 1e6 };
  return { kernel, grid: [1, 2, 3], cost, where: { module, backward }, start, ms };
}

function sample(): Profile {
  return new Profile([
    dispatch("gemm", [0, 1], ["Net.a", false]),
    dispatch("relu", [1, 2], ["Net.b", false]),
    dispatch("gemm", [4, 3], ["Net.a", true]),
    dispatch("sgd", [8, 0.5], ["SGD", false]),
    dispatch("fill", [9, 0.5]),
  ], ROOFLINE);
}

class Net extends nn.Module {
  features = new nn.Sequential(new nn.Conv2d(3, 4, { kernelSize: 3 }), new nn.MaxPool2d(2));
  fc = new nn.Linear(4 * 9, 5);
  override forward(x: ReturnType<typeof randn>) {
    return this.fc.forward(this.features.forward(x).flatten(1));
  }
}

function training() {
  const model = new Net();
  const optimizer = new nn.optim.SGD(model.parameters(), { lr: 0.1 });
  const [x, y] = [randn([4, 3, 8, 8]), randint(0, 5, { shape: [4] })];
  return () => {
    optimizer.zeroGrad();
    const loss = crossEntropy(model.forward(x), y);
    loss.backward();
    optimizer.step();
  };
}

Deno.test("profile: totals by kernel have rates and the share of the roofline", () => {
  const { kernels, ms } = sample();
  assertEquals(ms, 7);
  assertEquals(kernels.map((k) => [k.name, k.calls, k.ms]), [
    ["gemm", 2, 4],
    ["relu", 1, 2],
    ["sgd", 1, 0.5],
    ["fill", 1, 0.5],
  ]);
  // 4 MFLOP and 2 MB in 4 ms; at best 0.04 ms of arithmetic and 0.2 ms of memory.
  assertAlmostEquals(kernels[0]!.gflops, 1, 1e-12);
  assertAlmostEquals(kernels[0]!.gbs, 0.5, 1e-12);
  assertAlmostEquals(kernels[0]!.roofline, 0.05, 1e-12);
  assertAlmostEquals(bestMs({ flops: 1e9, bytes: 1 }, ROOFLINE), 10, 1e-9);
});

Deno.test("profile: totals by module include what is inside, forward and backward apart", () => {
  assertEquals(
    sample().modules.map((m) => [m.path, m.calls, m.forwardMs, m.backwardMs, m.ms]),
    [
      ["Net", 3, 3, 3, 6],
      ["Net.a", 2, 1, 3, 4],
      ["Net.b", 1, 2, 0, 2],
      ["SGD", 1, 0.5, 0, 0.5],
    ],
  );
});

Deno.test("profile: the table has the heaviest kernels, modules by level and what is outside", () => {
  const text = sample().table({ kernels: 2 });
  const lines = text.split("\n").map((line) => line.replace(/\s+/g, " ").trim());
  assertEquals(lines, [
    "7.00 ms on the GPU in 5 dispatches of 4 kernels; this adapter does at best 100 GFLOP/s and 10.0 GB/s",
    "",
    "kernel calls ms time GFLOP/s GB/s of best",
    "gemm 2 4.00 57 % 1.00 0.50 5 %",
    "relu 1 2.00 29 % 1.00 0.50 5 %",
    "and 2 more",
    "",
    "module forward ms backward ms time",
    "Net 3.00 3.00 86 %",
    "a 1.00 3.00 57 %",
    "b 2.00 0.00 29 %",
    "SGD 0.50 0.00 7 %",
    "outside of modules 7 %",
  ]);
  assert(!sample().table({ depth: 1 }).includes("\n  a"));
});

Deno.test("profile: the trace is events of the trace format, modules around their kernels", () => {
  const { traceEvents } = JSON.parse(sample().trace()) as {
    traceEvents: {
      ph: string;
      name: string;
      cat?: string;
      pid: number;
      tid: number;
      ts: number;
      dur: number;
    }[];
  };
  const slices = traceEvents.filter((e) => e.ph === "X");
  for (const e of slices) {
    assert(e.pid === 1 && e.tid > 0 && e.ts >= 0 && e.dur > 0, JSON.stringify(e));
  }
  const kernels = slices.filter((e) => e.cat === "kernel");
  assertEquals(kernels.map((e) => [e.name, e.ts, e.dur]), [
    ["gemm", 0, 1000],
    ["relu", 1000, 2000],
    ["gemm", 4000, 3000],
    ["sgd", 8000, 500],
    ["fill", 9000, 500],
  ]);
  const modules = slices.filter((e) => e.cat !== "kernel").toSorted((a, b) =>
    a.ts - b.ts || b.dur - a.dur
  );
  assertEquals(modules.map((e) => [e.name, e.cat, e.ts, e.dur]), [
    ["Net", "forward", 0, 3000],
    ["a", "forward", 0, 1000],
    ["b", "forward", 1000, 2000],
    ["Net", "backward", 4000, 3000],
    ["a", "backward", 4000, 3000],
    ["SGD", "forward", 8000, 500],
  ]);
  assertEquals(
    traceEvents.filter((e) => e.ph === "M").map((e) => e.name),
    ["process_name", "thread_name", "thread_name"],
  );
});

Deno.test("profile: a training step is told apart by module, forward and backward", async () => {
  if (!(await init()).features.has("timestamp-query")) return;
  const step = training();
  step();
  const found = await profile(step, { roofline: ROOFLINE });
  const paths = found.modules.map((m) => m.path);
  for (const path of ["Net", "Net.features", "Net.features.0", "Net.features.1", "Net.fc", "SGD"]) {
    assert(paths.includes(path), `${path} is missing from ${paths}`);
  }
  const of = (path: string) => found.modules.find((m) => m.path === path)!;
  for (const path of ["Net.features.0", "Net.features.1", "Net.fc"]) {
    const own = found.dispatches.filter((d) => d.where?.module === path);
    assert(own.some((d) => d.where!.backward) && own.some((d) => !d.where!.backward), path);
  }
  assertEquals(of("SGD").backwardMs, 0);
  const parts = of("Net.features").ms + of("Net.fc").ms;
  assert(of("Net").ms >= parts * (1 - 1e-9));
  // Browsers round times, so that short ones may be 0.
  assert(found.kernels.every((k) => k.ms >= 0 && k.calls > 0) && found.ms > 0);
  assertStringIncludes(`${found}`, "module");
});

Deno.test("profile: a replayed step keeps the modules it was recorded with", async () => {
  if (!(await init()).features.has("timestamp-query")) return;
  const plain = training();
  const step = capture(plain);
  const before = trackModules(true);
  try {
    for (let i = 0; i < 3; i++) step();
  } finally {
    trackModules(before);
  }
  const eager = await profile(plain, { roofline: ROOFLINE });
  const replayed = await profile(() => step(), { roofline: ROOFLINE });
  assertEquals(
    replayed.modules.map((m) => [m.path, m.calls]),
    eager.modules.map((m) => [m.path, m.calls]),
  );
});

Deno.test("profile: without it nothing is tracked", async () => {
  await init();
  assertEquals(trackModules(false), false);
});
