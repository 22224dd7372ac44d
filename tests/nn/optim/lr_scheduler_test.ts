import { assert, assertEquals, assertThrows } from "@std/assert";
import { init, nn, zeros } from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";

await init();

const { SGD, StepLR, MultiStepLR, ExponentialLR, CosineAnnealingLR, LinearLR, LambdaLR } = nn.optim;
const { ConstantLR, PolynomialLR, CosineAnnealingWarmRestarts } = nn.optim;

/** Rounding of a chain of at most 40 float64 operations. */
const RTOL = 40 * 2 ** -53;

/** An optimizer with a group for each learning rate. */
function optimizerOf(...lrs: number[]): nn.optim.SGD {
  return new SGD(lrs.map((lr) => ({ params: [new nn.Parameter(zeros([1]))], lr })));
}

/** The first group's learning rate at the start and after each of `steps` steps. */
function sequence(optimizer: nn.optim.SGD, steps: number, step: () => void): number[] {
  const lrs = [optimizer.paramGroups[0]!.lr];
  for (let i = 0; i < steps; i++) {
    step();
    lrs.push(optimizer.paramGroups[0]!.lr);
  }
  return lrs;
}

/** Makes a scheduler on a learning rate and collects `steps` steps of it. */
function collect(
  lr: number,
  steps: number,
  make: (optimizer: nn.optim.SGD) => { step(): void },
): number[] {
  const optimizer = optimizerOf(lr);
  const scheduler = make(optimizer);
  return sequence(optimizer, steps, () => scheduler.step());
}

Deno.test("StepLR multiplies every stepSize epochs", () => {
  const lrs = collect(0.05, 7, (o) => new StepLR(o, { stepSize: 3 }));
  assertClose(lrs, [0.05, 0.05, 0.05, 0.005, 0.005, 0.005, 0.0005, 0.0005], { rtol: RTOL });
  const half = collect(1, 4, (o) => new StepLR(o, { stepSize: 1, gamma: 0.5 }));
  assertEquals(half, [1, 0.5, 0.25, 0.125, 0.0625]);
});

Deno.test("MultiStepLR multiplies at its milestones, twice at a double one", () => {
  const milestones = [4, 2, 4];
  const lrs = collect(1, 6, (o) => new MultiStepLR(o, { milestones, gamma: 0.5 }));
  assertEquals(lrs, [1, 1, 0.5, 0.5, 0.125, 0.125, 0.125]);
});

Deno.test("ExponentialLR multiplies every epoch", () => {
  const lrs = collect(2, 12, (o) => new ExponentialLR(o, { gamma: 0.9 }));
  assertClose(lrs, lrs.map((_, epoch) => 2 * 0.9 ** epoch), { rtol: RTOL });
});

Deno.test("CosineAnnealingLR follows its closed form past the minimum and back", () => {
  for (const [tMax, etaMin] of [[10, 0], [4, 0.1], [1, 0.01]] as const) {
    const lrs = collect(0.5, 25, (o) => new CosineAnnealingLR(o, { tMax, etaMin }));
    const want = lrs.map((_, epoch) =>
      etaMin + (0.5 - etaMin) * (1 + Math.cos(Math.PI * epoch / tMax)) / 2
    );
    // At a minimum the form cancels; each quotient there loses digits in proportion.
    assertClose(lrs, want, { atol: 1e-14, what: `tMax ${tMax}` });
  }
});

Deno.test("ConstantLR lasts totalIters epochs, and PolynomialLR ends at 0", () => {
  const constant = collect(1, 5, (o) => new ConstantLR(o, { factor: 0.25, totalIters: 3 }));
  assertEquals(constant, [0.25, 0.25, 0.25, 1, 1, 1]);
  const third = collect(6, 6, (o) => new ConstantLR(o));
  assertClose(third, [2, 2, 2, 2, 2, 6, 6], { rtol: RTOL });

  const line = collect(1, 5, (o) => new PolynomialLR(o, { totalIters: 4 }));
  assertClose(line, [1, 0.75, 0.5, 0.25, 0, 0], { rtol: RTOL });
  const cubic = collect(2, 5, (o) => new PolynomialLR(o, { totalIters: 4, power: 3 }));
  assertClose(cubic, [1, 0.75, 0.5, 0.25, 0, 0].map((x) => 2 * x ** 3), { rtol: RTOL });
});

Deno.test("CosineAnnealingWarmRestarts starts over, in runs as long or longer", () => {
  const run = (length: number) =>
    Array.from({ length }, (_, t) => 0.1 + 0.9 * (1 + Math.cos(Math.PI * t / length)) / 2);
  const same = collect(1, 10, (o) => new CosineAnnealingWarmRestarts(o, { t0: 4, etaMin: 0.1 }));
  assertClose(same, [...run(4), ...run(4), ...run(4)].slice(0, 11), { rtol: RTOL });
  const longer = collect(
    1,
    13,
    (o) => new CosineAnnealingWarmRestarts(o, { t0: 2, tMult: 2, etaMin: 0.1 }),
  );
  assertClose(longer, [...run(2), ...run(4), ...run(8)], { rtol: RTOL });
});

Deno.test("CosineAnnealingLR at known points", () => {
  const lrs = collect(1, 4, (o) => new CosineAnnealingLR(o, { tMax: 4 }));
  const r = Math.SQRT1_2 / 2;
  assertClose(lrs, [1, 0.5 + r, 0.5, 0.5 - r, 0], { atol: 1e-15 });
});

Deno.test("LinearLR rises to its end and stays", () => {
  const lrs = collect(0.05, 6, (o) => new LinearLR(o, { startFactor: 0.5, totalIters: 4 }));
  assertClose(lrs, [0.025, 0.03125, 0.0375, 0.04375, 0.05, 0.05, 0.05], { rtol: RTOL });
  const down = collect(
    1,
    3,
    (o) => new LinearLR(o, { startFactor: 1, endFactor: 0, totalIters: 2 }),
  );
  assertEquals(down, [1, 0.5, 0, 0]);
  // A third to one in five steps by default.
  const third = collect(15, 6, (o) => new LinearLR(o));
  assertClose(third, [5, 7, 9, 11, 13, 15, 15], { rtol: RTOL });
});

Deno.test("LambdaLR multiplies the first learning rate, by group", () => {
  const optimizer = optimizerOf(1, 10);
  const scheduler = new LambdaLR(optimizer, { lrLambda: [(e) => 0.5 ** e, (e) => 1 / (e + 1)] });
  assertEquals(scheduler.getLastLr(), [1, 10]);
  scheduler.step();
  scheduler.step();
  assertClose(scheduler.getLastLr(), [0.25, 10 / 3], { rtol: RTOL });
  assertEquals(collect(4, 2, (o) => new LambdaLR(o, { lrLambda: (e) => 1 + e })), [4, 8, 12]);
  assertThrows(
    () => new LambdaLR(optimizer, { lrLambda: [] }),
    TypeError,
    "0 functions: the optimizer has 2 groups",
  );
});

Deno.test("schedulers chain: each acts on the other's learning rate", () => {
  const optimizer = optimizerOf(1);
  const warm = new LinearLR(optimizer, { startFactor: 0.5, totalIters: 2 });
  const decay = new ExponentialLR(optimizer, { gamma: 0.5 });
  const lrs = sequence(optimizer, 3, () => {
    warm.step();
    decay.step();
  });
  assertClose(lrs, [0.5, 0.75 * 0.5, 0.25, 0.125], { rtol: RTOL });
  assertEquals(optimizer.paramGroups[0]!.initialLr, 1);
});

Deno.test("schedulers go on from their state and the optimizer's", () => {
  const makers: ((o: nn.optim.SGD) => nn.optim.LRScheduler)[] = [
    (o) => new StepLR(o, { stepSize: 3, gamma: 0.5 }),
    (o) => new CosineAnnealingLR(o, { tMax: 4, etaMin: 0.1 }),
    (o) => new LinearLR(o, { startFactor: 0.25, totalIters: 7 }),
    (o) => new ConstantLR(o, { factor: 0.25, totalIters: 7 }),
    (o) => new PolynomialLR(o, { totalIters: 8, power: 2 }),
    (o) => new CosineAnnealingWarmRestarts(o, { t0: 2, tMult: 2 }),
    (o) => new LambdaLR(o, { lrLambda: (e) => 1 / (1 + e) }),
  ];
  for (const make of makers) {
    const whole = collect(0.8, 10, make);
    const first = optimizerOf(0.8);
    const before = make(first);
    for (let i = 0; i < 4; i++) before.step();
    const saved = structuredClone([first.stateDict(), before.stateDict()] as const);

    const second = optimizerOf(123);
    const after = make(second);
    second.loadStateDict(saved[0]);
    after.loadStateDict(saved[1]);
    assertEquals(after.lastEpoch, 4);
    assertEquals(sequence(second, 6, () => after.step()), whole.slice(4));
  }
});

Deno.test("schedulers name the option that is out of range", () => {
  const o = optimizerOf(1);
  assertThrows(() => new StepLR(o, { stepSize: 0 }), RangeError, "StepLR with stepSize 0");
  assertThrows(() => new CosineAnnealingLR(o, { tMax: 1.5 }), RangeError, "tMax 1.5");
  assertThrows(() => new LinearLR(o, { startFactor: 0 }), RangeError, "startFactor 0");
  assertThrows(() => new LinearLR(o, { endFactor: 2 }), RangeError, "endFactor 2");
  assertThrows(() => new ConstantLR(o, { factor: 0 }), RangeError, "ConstantLR with factor 0");
  assertThrows(() => new ConstantLR(o, { totalIters: 0 }), RangeError, "totalIters 0");
  assertThrows(() => new PolynomialLR(o, { totalIters: 0 }), RangeError, "totalIters 0");
  const restarts = (options: { t0: number; tMult?: number }) => () =>
    new CosineAnnealingWarmRestarts(o, options);
  assertThrows(restarts({ t0: 0 }), RangeError, "t0 0");
  assertThrows(restarts({ t0: 3, tMult: 0.5 }), RangeError, "tMult 0.5");
});

Deno.test("a scheduled learning rate reaches the next step", async () => {
  const p = new nn.Parameter(zeros([1]));
  const optimizer = new SGD([p], { lr: 1 });
  const scheduler = new StepLR(optimizer, { stepSize: 1, gamma: 0.5 });
  for (let i = 0; i < 3; i++) {
    p.grad = zeros([1]).add(1);
    optimizer.step();
    scheduler.step();
  }
  assertEquals(await p.item(), -1.75);
});

const { ReduceLROnPlateau } = nn.optim;

/** The learning rate after each of `metrics`. */
function plateau(
  options: nn.optim.ReduceLROnPlateauOptions,
  metrics: readonly number[],
  lr = 1,
): number[] {
  const optimizer = optimizerOf(lr);
  const scheduler = new ReduceLROnPlateau(optimizer, { factor: 0.5, ...options });
  return metrics.map((metric) => {
    scheduler.step(metric);
    return optimizer.paramGroups[0]!.lr;
  });
}

Deno.test("ReduceLROnPlateau reduces after more than patience bad epochs", () => {
  const metrics = [5, 5, 5, 5, 5, 5, 5];
  assertEquals(plateau({ patience: 2 }, metrics), [1, 1, 1, 0.5, 0.5, 0.5, 0.25]);
  assertEquals(plateau({ patience: 0 }, [5, 5, 4, 4]), [1, 0.5, 0.5, 0.25]);
  assertEquals(plateau({ patience: 0, mode: "max" }, [5, 4, 6, 6]), [1, 0.5, 0.5, 0.25]);
});

Deno.test("ReduceLROnPlateau needs to be better by the threshold", () => {
  // 10 to 9.5 is not a tenth better, to 8.9 it is; by difference 1 neither 9.5 nor 9 is.
  const rel = { patience: 0, threshold: 0.1 };
  assertEquals(plateau(rel, [10, 9.5, 8.9]), [1, 0.5, 0.5]);
  assertEquals(plateau({ ...rel, threshold: 1, thresholdMode: "abs" }, [10, 9, 8.9]), [
    1,
    0.5,
    0.5,
  ]);
  assertEquals(plateau({ ...rel, mode: "max" }, [10, 10.5, 11.5]), [1, 0.5, 0.5]);
  assertEquals(plateau({ patience: 0 }, [1, NaN, 0.5]), [1, 0.5, 0.5]);
});

Deno.test("ReduceLROnPlateau waits out its cooldown and stops at minLr and eps", () => {
  const metrics = [1, 1, 1, 1, 1, 1];
  assertEquals(plateau({ patience: 0, cooldown: 1 }, metrics), [1, 0.5, 0.5, 0.25, 0.25, 0.125]);
  assertEquals(plateau({ patience: 0, minLr: 0.3 }, metrics), [1, 0.5, 0.3, 0.3, 0.3, 0.3]);
  assertEquals(plateau({ patience: 0, eps: 0.2 }, metrics), [1, 0.5, 0.25, 0.25, 0.25, 0.25]);
});

Deno.test("ReduceLROnPlateau reduces each group to its own minLr", () => {
  const optimizer = optimizerOf(1, 2);
  const scheduler = new ReduceLROnPlateau(optimizer, { patience: 0, minLr: [0.5, 0] });
  for (let i = 0; i < 2; i++) scheduler.step(1);
  assertEquals(scheduler.getLastLr(), [0.5, 0.2]);
  assertThrows(
    () => new ReduceLROnPlateau(optimizer, { minLr: [1] }),
    TypeError,
    "1 least learning rates: the optimizer has 2 groups",
  );
  assertThrows(() => new ReduceLROnPlateau(optimizer, { factor: 1 }), RangeError, "factor 1");
});

Deno.test("ReduceLROnPlateau goes on from its state", () => {
  const options = { patience: 1, factor: 0.5, cooldown: 1 };
  const metrics = [3, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1];
  const whole = plateau(options, metrics);
  assert(new Set(whole).size > 2);
  for (let cut = 1; cut < metrics.length; cut++) {
    const [first, second] = [optimizerOf(1), optimizerOf(1)];
    const before = new ReduceLROnPlateau(first, options);
    for (const metric of metrics.slice(0, cut)) before.step(metric);
    const after = new ReduceLROnPlateau(second, options);
    second.loadStateDict(first.stateDict());
    after.loadStateDict(structuredClone(before.stateDict()));
    assertEquals(after.best, before.best);
    for (const metric of metrics.slice(cut)) after.step(metric);
    assertEquals(after.getLastLr(), [whole.at(-1)!]);
  }
});
