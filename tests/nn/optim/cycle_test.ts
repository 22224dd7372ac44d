import { assertEquals, assertThrows } from "@std/assert";
import { init, nn, zeros } from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";

await init();

const { Adagrad, Adam, CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR, SGD, StepLR } =
  nn.optim;

/** Rounding of a chain of at most 40 float64 operations. */
const RTOL = 40 * 2 ** -53;

function sgd(options: Partial<nn.optim.SGDOptions> = {}): nn.optim.SGD {
  return new SGD([new nn.Parameter(zeros([1]))], { lr: 0.5, momentum: 0.9, ...options });
}

Deno.test("OneCycleLR gives the numbers of PyTorch's own tests", () => {
  // pytorch test/optim/test_lrscheduler.py: test_onecycle_lr_linear_annealing and _three_phases.
  const shared = { maxLr: 25, totalSteps: 10, annealStrategy: "linear" } as const;
  const momentum = { baseMomentum: 1, maxMomentum: 22 };
  const cases = [
    {
      options: { ...shared, ...momentum, finalDivFactor: 2 },
      lrs: [1, 13, 25, 21.5, 18, 14.5, 11, 7.5, 4, 0.5],
      momenta: [22, 11.5, 1, 4, 7, 10, 13, 16, 19, 22],
    },
    {
      options: { ...shared, ...momentum, finalDivFactor: 4, pctStart: 0.4, threePhase: true },
      lrs: [1, 9, 17, 25, 17, 9, 1, 0.75, 0.5, 0.25],
      momenta: [22, 15, 8, 1, 8, 15, 22, 22, 22, 22],
    },
  ];
  for (const { options, lrs, momenta } of cases) {
    const optimizer = sgd();
    const scheduler = new OneCycleLR(optimizer, options);
    const [group] = optimizer.paramGroups;
    lrs.forEach((lr, i) => {
      if (i > 0) scheduler.step();
      assertClose([group!.lr, group!.momentum], [lr, momenta[i]!], { rtol: RTOL });
    });
    // A loop steps after its last batch, too.
    scheduler.step();
    assertClose([group!.lr], [lrs[9]!], { rtol: RTOL });
    assertThrows(
      () => scheduler.step(),
      RangeError,
      "Cannot step OneCycleLR 11 times: its cycle has 10 steps",
    );
  }
});

Deno.test("OneCycleLR's default is a cosine up to 30 % and down, with Adam's first beta", () => {
  const optimizer = new Adam([new nn.Parameter(zeros([1]))], { betas: [0.9, 0.99] });
  const scheduler = new OneCycleLR(optimizer, {
    maxLr: 0.1,
    totalSteps: 20,
  });
  const [group] = optimizer.paramGroups;
  const cosine = (from: number, to: number, share: number) =>
    to + (from - to) / 2 * (1 + Math.cos(Math.PI * share));
  for (let step = 0; step < 20; step++) {
    if (step > 0) scheduler.step();
    const rising = step <= 5;
    const share = rising ? step / 5 : (step - 5) / 14;
    const lr = rising ? cosine(0.004, 0.1, share) : cosine(0.1, 4e-7, share);
    const beta = rising ? cosine(0.95, 0.85, share) : cosine(0.85, 0.95, share);
    assertClose([group!.lr, ...group!.betas], [lr, beta, 0.99], { rtol: 1e-9 });
  }
});

Deno.test("OneCycleLR leaves momentum alone when told to, and says what it cannot use", () => {
  const optimizer = sgd();
  new OneCycleLR(optimizer, { maxLr: 1, totalSteps: 5, cycleMomentum: false });
  assertEquals(optimizer.paramGroups[0]!.momentum, 0.9);
  const none = new Adagrad([new nn.Parameter(zeros([1]))]);
  assertThrows(
    () => new OneCycleLR(none, { maxLr: 1, totalSteps: 5 }),
    TypeError,
    "Cannot cycle the momentum of an optimizer without momentum or betas",
  );
  assertThrows(
    () => new OneCycleLR(optimizer, { maxLr: [1, 2], totalSteps: 5 }),
    TypeError,
    "Cannot use OneCycleLR with 2 maxLr: the optimizer has 1 groups",
  );
  assertThrows(
    () => new OneCycleLR(optimizer, { maxLr: 1, totalSteps: 0 }),
    RangeError,
    "Cannot use OneCycleLR with totalSteps 0",
  );
  assertThrows(
    () => new OneCycleLR(optimizer, { maxLr: 1, totalSteps: 5, pctStart: 2 }),
    RangeError,
    "Cannot use OneCycleLR with pctStart 2: it must be 0 to 1",
  );
});

Deno.test("SequentialLR warms up, then anneals from epoch 0, and resumes", () => {
  const make = () => {
    const optimizer = sgd({ lr: 1 });
    const scheduler = new SequentialLR(optimizer, {
      schedulers: [
        new LinearLR(optimizer, { startFactor: 0.25, totalIters: 3 }),
        new CosineAnnealingLR(optimizer, { tMax: 4 }),
        new StepLR(optimizer, { stepSize: 2, gamma: 0.5 }),
      ],
      milestones: [3, 7],
    });
    return { optimizer, scheduler };
  };
  const { optimizer, scheduler } = make();
  const half = Math.SQRT1_2 / 2;
  const want = [0.25, 0.5, 0.75, 1, 0.5 + half, 0.5, 0.5 - half, 1, 1, 0.5, 0.5, 0.25];
  const got = [optimizer.paramGroups[0]!.lr];
  let resumed: ReturnType<typeof make> | null = null;
  for (let epoch = 1; epoch < want.length; epoch++) {
    scheduler.step();
    got.push(scheduler.getLastLr()[0]!);
    resumed?.scheduler.step();
    if (resumed) assertEquals(resumed.scheduler.getLastLr(), scheduler.getLastLr());
    if (epoch !== 5) continue;
    resumed = make();
    resumed.optimizer.loadStateDict(optimizer.stateDict());
    resumed.scheduler.loadStateDict(scheduler.stateDict());
  }
  assertClose(got, want, { rtol: RTOL });
  assertEquals(scheduler.lastEpoch, want.length - 1);
});

Deno.test("SequentialLR says what it cannot run", () => {
  const [a, b] = [sgd(), sgd()];
  const schedulers = [new StepLR(a, { stepSize: 1 }), new StepLR(a, { stepSize: 1 })];
  assertThrows(
    () => new SequentialLR(a, { schedulers, milestones: [] }),
    RangeError,
    "Cannot run 2 schedulers with 0 milestones: there must be one milestone fewer than schedulers",
  );
  assertThrows(
    () => new SequentialLR(a, { schedulers, milestones: [0] }),
    RangeError,
    "Cannot switch schedulers at [0]",
  );
  assertThrows(
    () => new SequentialLR(b, { schedulers, milestones: [1] }),
    TypeError,
    "Cannot run schedulers of another optimizer",
  );
  const fine = new SequentialLR(a, { schedulers, milestones: [1] });
  assertThrows(
    () => fine.loadStateDict({ lastEpoch: 0, schedulers: [] }),
    TypeError,
    "Cannot load the state of 0 schedulers: there are 2",
  );
});
