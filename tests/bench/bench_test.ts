import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { init, manualSeed, tensor } from "../../mod.ts";
import { checkWork, cropped } from "../../bench/check.ts";
import { drawInputs, latheWork } from "../../bench/lathe.ts";
import { measure, median } from "../../bench/measure.ts";
import { modelConvs } from "../../bench/shapes.ts";
import { formatResult, header } from "../../bench/table.ts";
import { convText, flopsOf, nameOf, type Work } from "../../bench/work.ts";
import { skipReason, workloads } from "../../bench/workloads.ts";

const CONV = {
  op: "conv",
  n: 2,
  c: 4,
  h: 7,
  w: 6,
  o: 6,
  kernel: [3, 3],
  stride: [2, 1],
  padding: [1, 0, 0, 1],
  groups: 2,
} as const;

Deno.test("bench: the models' convolutions are found, each once, with the padding they see", async () => {
  await init();
  const convs = modelConvs();
  const texts = convs.map(({ shape }) => convText(shape));
  assertEquals(new Set(texts).size, texts.length);
  const count = (model: string) => convs.filter(({ from }) => from.includes(model)).length;
  assertEquals(count("AlexNet"), 5);
  assertEquals(count("MoCo ConvNet"), 3);
  // ResNet-50 has 53 convolutions of 23 shapes.
  assertEquals(count("ResNet-50"), 23);
  for (
    const text of [
      "1x3x224x224 -> 64, 11x11 / 4 + 2",
      "1x3x224x224 -> 32, 3x3 / 2 + 0101",
      "1x240x28x28 -> 240, 5x5 + 2 g240",
      "1x32x15x15 -> 64, 3x3",
    ]
  ) assert(texts.includes(text), text);
});

Deno.test("bench: names are unique; large work is skipped on software alone", async () => {
  await init();
  const all = workloads({ batch: 4, software: true, f16: true });
  const names = all.map(({ work }) => nameOf(work));
  assertEquals(new Set(names).size, names.length);
  const steps = workloads({ batch: 4, software: true, f16: true, stepBatch: 3 })
    .map(({ work }) => work).filter((work) => work.op === "step");
  assert(steps.length > 5 && steps.every(({ n }) => n === 3));
  const large: Work = { op: "gemm", m: 4096, k: 4096, n: 4096, dtype: "f32" };
  assert(names.includes(nameOf(large)));
  assert(skipReason(large, { software: true })?.includes("--force"));
  assertEquals(skipReason(large, { software: false }), undefined);
  assertEquals(skipReason({ ...large, m: 8, k: 8, n: 8 }, { software: true }), undefined);
});

Deno.test("bench: floating-point operations are those of the definition", () => {
  assertEquals(flopsOf({ op: "gemm", m: 2, k: 3, n: 4, dtype: "f32" }), 48);
  // [2, 6, 3, 5] elements of 2 · 3 · 3 products.
  assertEquals(flopsOf({ ...CONV, pass: "dW" }), 2 * (2 * 6 * 3 * 5) * 18);
  assertEquals(flopsOf({ ...CONV, pass: "train" }), 6 * (2 * 6 * 3 * 5) * 18);
});

Deno.test("bench: each kind of work passes its check, and a wrong result does not", async () => {
  await init();
  manualSeed(3);
  const works: Work[] = [
    { op: "gemm", m: 17, k: 33, n: 9, dtype: "f32" },
    ...(["forward", "dX", "dW", "train"] as const).map((pass): Work => ({ ...CONV, pass })),
    ...(["softmax", "cross entropy", "sum rows", "sum columns", "transpose", "copy"] as const)
      .map((op): Work => ({ op, rows: 5, columns: 7 })),
    { op: "batch norm", n: 2, c: 3, h: 4, w: 5 },
    { op: "lstm", n: 2, steps: 3, features: 4, hidden: 5, pass: "forward" },
    { op: "lstm", n: 2, steps: 3, features: 4, hidden: 5, pass: "train" },
    { op: "adam", parameters: 64 },
  ];
  for (const work of works) {
    const inputs = drawInputs(work);
    const run = latheWork(work, inputs);
    await checkWork(work, inputs, run);
    if (work.op !== "gemm" && (work.op !== "conv" || work.pass === "train")) continue;
    const wrong = () => run().map((t) => t.mul(tensor(1.001)));
    await assertRejects(() => checkWork(work, inputs, wrong), Error, "float64 gives", nameOf(work));
  }
});

Deno.test("bench: crops keep the kind of work and what it sums over", () => {
  const work: Work = { ...CONV, n: 64, h: 224, w: 224, c: 512, o: 512, pass: "forward" };
  const small = cropped(work);
  assert(small.op === "conv" && small.n === 1 && small.c === 512 && small.h < 64);
});

Deno.test("bench: a result has both clocks, rates and the share of the roofline", async () => {
  await init();
  const work: Work = { op: "gemm", m: 32, k: 32, n: 32, dtype: "f32" };
  const roofline = { gflops: 1e9, gbs: 1e9 };
  const result = await measure({ work, from: "test" }, { seconds: 0.01, roofline });
  assertEquals([result.name, result.from, result.dispatches], ["gemm 32", "test", 1]);
  assert(
    result.low <= result.ms && result.ms <= result.high && result.wallMs > 0 && result.hostUs > 0,
  );
  assertEquals(result.memory, 3 * 4 * 32 ** 2, "three matrices");
  assertAlmostEquals(result.gflops, 2 * 32 ** 3 / result.ms / 1e6, 1e-9 * result.gflops);
});

Deno.test("bench: a line has time, spread, rates, share of the roofline and ratios", () => {
  const r = {
    name: "gemm 8",
    from: "test",
    ms: 2,
    low: 1.5,
    high: 3,
    wallMs: 4,
    gflops: 10,
    gbs: 1.25,
    roofline: 0.256,
    dispatches: 1,
    hostUs: 150,
    memory: 1.5 * 2 ** 20,
  };
  const figures = new Map([["gemm 8", 3]]);
  const columns = [
    { title: "faster", figures, of: "ms" },
    { title: "torch f32", figures, of: "wallMs" },
    { title: "torch amp", figures: new Map(), of: "wallMs" },
    { title: "torch f32 memory", figures: new Map([["gemm 8", 3 * 2 ** 20]]), of: "memory" },
  ] as const;
  assertEquals(
    formatResult(r, columns).replace(/\s+/g, " "),
    "gemm 8 2.00 1.50–3.00 4.00 10.00 1.25 26 % – 1.5 1.50x 0.75x – 2.00x",
  );
  const step = formatResult({ ...r, dispatches: 63, hostUs: 2.34 });
  assert(step.endsWith(" 26 %      2.3     1.5"), step);
  assertEquals(header(columns).length, formatResult(r, columns).length);
});

Deno.test("bench: the median is the middle value, or the mean of the two", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(median([4, 1, 2, 3]), 2.5);
});
