import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { gpu } from "../../../engine/gpu/device.ts";
import {
  capture,
  crossEntropy,
  init,
  manualSeed,
  memory,
  nn,
  randn,
  readAll,
  scope,
  synchronize,
  type Tensor,
  tensor,
  zeros,
} from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";
import { Draw } from "../../helpers/draw.ts";
import { assertNothingLeft } from "../../helpers/memory.ts";

await init();

const { SGD } = nn.optim;

/** Unit roundoff of f32. */
const U = 2 ** -24;

type Rule = Omit<nn.optim.SGDOptions, "lr">;
const PLAIN: Rule = { momentum: 0, dampening: 0, weightDecay: 0, nesterov: false };

function parameter(values: readonly number[]): nn.Parameter {
  return new nn.Parameter(tensor([...values]));
}

function setGrad(p: Tensor, values: readonly number[] | null): void {
  p.grad = values === null ? null : tensor([...values], { shape: p.shape });
}

/** Frees optimizers and parameters. */
function free(...values: { dispose(): void }[]): void {
  for (const value of values) value.dispose();
}

/** torch.optim.SGD in float64, for one number. */
class Reference {
  p: number;
  buffer: number | null = null;
  constructor(p: number) {
    this.p = p;
  }
  step(grad: number, { lr, momentum, dampening, weightDecay, nesterov }: nn.optim.SGDOptions) {
    let g = grad + weightDecay * this.p;
    if (momentum !== 0) {
      this.buffer = this.buffer === null ? g : momentum * this.buffer + (1 - dampening) * g;
      g = nesterov ? g + momentum * this.buffer : this.buffer;
    }
    this.p -= lr * g;
  }
}

Deno.test("SGD follows PyTorch's rule with every option", async () => {
  const rules: Rule[] = [
    PLAIN,
    { ...PLAIN, weightDecay: 0.1 },
    { ...PLAIN, momentum: 0.9 },
    { ...PLAIN, momentum: 0.9, dampening: 0.5 },
    { ...PLAIN, momentum: 0.9, weightDecay: 0.01, nesterov: true },
    { ...PLAIN, momentum: 0.5, dampening: 0.25, weightDecay: 0.2 },
  ];
  // Sizes on both sides of the 256 elements a workgroup owns.
  const sizes = [1, 255, 256, 257, 1000];
  const steps = 20;
  for (const [r, rule] of rules.entries()) {
    const draw = new Draw(`sgd ${r}`);
    const number = () => Math.fround(2 * draw.uniform() - 1);
    const start = sizes.map((size) => Array.from({ length: size }, number));
    const references = start.map((values) => values.map((v) => new Reference(v)));
    const params = start.map(parameter);
    const optimizer = new SGD(params, { lr: 0.1, ...rule });
    for (let i = 0; i < steps; i++) {
      const options = { lr: 0.1 / (1 + i), ...rule };
      optimizer.paramGroups[0]!.lr = options.lr;
      const grads = sizes.map((size) => Array.from({ length: size }, number));
      scope(() => {
        params.forEach((p, k) => setGrad(p, grads[k]!));
        optimizer.step();
      });
      references.forEach((row, k) => row.forEach((ref, j) => ref.step(grads[k]![j]!, options)));
    }
    const data = await readAll(params);
    // A step rounds 8 times and a hyperparameter was rounded once, each of numbers below 2.
    for (const [k, row] of references.entries()) {
      const want = row.map((ref) => ref.p);
      assertClose(data[k]!, want, { atol: 9 * steps * 2 * U, what: JSON.stringify(rule) });
      assert(want.every((v) => Math.abs(v) < 2));
      assert(want.some((v, j) => Math.abs(v - start[k]![j]!) > 0.01));
    }
    free(optimizer, ...params);
  }
});

/**
 * Parameters of the problem below after steps 1 and 101. Source: PyTorch's test/cpp/api/optim_baseline.h,
 * rounded to 6 decimals.
 */
const TRAJECTORIES: { options: Partial<nn.optim.SGDOptions>; after: Record<number, number[]> }[] = [
  {
    options: { lr: 0.1 },
    after: {
      1: [
        ...[-0.21064, -0.497209, -0.139318, -0.339391, -0.251129, 0.69921, -0.107657, -0.291306],
        ...[0.693385, -0.079983, -0.421492, -0.334983, -0.142551],
      ],
      101: [
        ...[-0.155431, -0.423511, -0.041968, -0.209522, -0.160314, 0.820974, 0.077243, 0.033875],
        ...[1.002879, -0.821338, -1.15708, -1.615476, -1.873409],
      ],
    },
  },
  {
    options: { lr: 0.1, weightDecay: 0.01 },
    after: {
      1: [
        ...[-0.210429, -0.496712, -0.139177, -0.339049, -0.250876, 0.698513, -0.107549],
        ...[-0.291008, 0.692695, -0.079932, -0.421098, -0.334699, -0.14248],
      ],
      101: [
        ...[-0.1358, -0.376546, -0.03167, -0.181026, -0.137323, 0.752216, 0.0855, 0.051563],
        ...[0.93214, -0.796312, -1.101006, -1.536372, -1.804585],
      ],
    },
  },
  {
    options: { lr: 0.1, weightDecay: 0.01, momentum: 0.9 },
    after: {
      1: [
        ...[-0.210429, -0.496712, -0.139177, -0.339049, -0.250876, 0.698513, -0.107549],
        ...[-0.291008, 0.692695, -0.079932, -0.421098, -0.334699, -0.14248],
      ],
      101: [
        ...[0.005612, -0.071092, 0.077014, 0.047067, 0.042865, 0.435298, 0.238348, 0.323664],
        ...[0.712832, -1.041948, -1.173095, -1.764821, -2.335928],
      ],
    },
  },
  {
    options: { lr: 0.1, weightDecay: 1e-6, momentum: 0.9, nesterov: true },
    after: {
      1: [
        ...[-0.210406, -0.496897, -0.137542, -0.337017, -0.250017, 0.700698, -0.106871],
        ...[-0.285329, 0.697149, -0.106245, -0.446113, -0.380565, -0.206823],
      ],
      101: [
        ...[-0.126239, -0.384466, 0.031244, -0.111705, -0.098233, 0.90407, 0.175513, 0.279766],
        ...[1.21384, -1.59284, -1.898681, -2.966182, -3.772844],
      ],
    },
  },
];

Deno.test("SGD walks PyTorch's baseline trajectories", async () => {
  for (const { options, after } of TRAJECTORIES) {
    const net = new nn.Sequential(
      new nn.Linear(2, 3),
      new nn.Sigmoid(),
      new nn.Linear(3, 1),
      new nn.Sigmoid(),
    );
    const start = {
      "0.weight": tensor([[-0.2109, -0.4976], [-0.1413, -0.342], [-0.2524, 0.6976]]),
      "0.bias": tensor([-0.1085, -0.2979, 0.6892]),
      "2.weight": tensor([[-0.0508, -0.3941, -0.2843]]),
      "2.bias": tensor([-0.0711]),
    };
    net.loadStateDict(start);
    using x = tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]);
    const optimizer = new SGD(net.parameters(), options);
    for (let step = 1; step <= 101; step++) {
      scope(() => {
        optimizer.zeroGrad();
        net.forward(x).sum().backward();
        optimizer.step();
      });
      const want = after[step];
      if (!want) continue;
      const flat = (await readAll(net.parameters())).flatMap((values) => [...values]);
      // PyTorch's own tolerance: its literals began at weights that are here rounded to 4 decimals.
      // 101 steps of f32 add less than 101 · 9 · 4 · 2^-24 = 2.2e-4 even if every error adds up.
      const what = `step ${step} of ${JSON.stringify(options)}`;
      assertClose(flat, want, { atol: 5e-4, rtol: 1e-3, what });
    }
    free(optimizer, net, ...Object.values(start));
  }
});

Deno.test("SGD starts a parameter's momentum at its own first gradient", async () => {
  const [a, b] = [parameter([1]), parameter([1])];
  const options = { lr: 0.5, ...PLAIN, momentum: 0.5, dampening: 0.75 };
  const optimizer = new SGD([a, b], options);
  const [ra, rb] = [new Reference(1), new Reference(1)];
  const grads: [number, number | null][] = [[1, null], [2, 4], [1, 1], [3, null], [1, 2]];
  for (const [ga, gb] of grads) {
    scope(() => {
      setGrad(a, [ga]);
      setGrad(b, gb === null ? null : [gb]);
      optimizer.step();
    });
    ra.step(ga, options);
    if (gb !== null) rb.step(gb, options);
  }
  // All numbers are sums of a few powers of two, so f32 is exact.
  assertEquals((await readAll([a, b])).map((d) => d[0]), [ra.p, rb.p]);
  free(optimizer, a, b);
});

Deno.test("SGD begins a momentum at the first step that is not skipped, captured or not", async () => {
  const options = { lr: 0.5, ...PLAIN, momentum: 0.5, dampening: 0.75 };
  // A first gradient of either zero begins it, too; below 0, since -0 + 0 · p is 0 for a p above.
  const [first, second] = [[1, 2, -0, 0, 4, -8, -0, 2], [2, -4, 4, 2, 1, -0, 2, 8]];
  const steps: { grads: number[]; skip: number }[] = [
    { grads: first.map(() => Infinity), skip: 1 },
    { grads: second, skip: 1 },
    { grads: first, skip: 0 },
    { grads: second, skip: 0 },
    { grads: first.map(() => NaN), skip: 1 },
    { grads: first, skip: 0 },
  ];
  // Whole fours and not.
  for (const size of [8, 7]) {
    const references = first.slice(0, size).map(() => new Reference(-1));
    for (const { grads, skip } of steps) {
      if (!skip) references.forEach((ref, j) => ref.step(grads[j]!, options));
    }
    for (const captured of [false, true]) {
      const p = parameter(references.map(() => -1));
      const optimizer = new SGD([p], options);
      const plain = (grad: Tensor, skip: Tensor) => {
        optimizer.zeroGrad();
        p.mul(grad).sum().backward();
        optimizer.step({ skip });
        return grad.sum();
      };
      const step = captured ? capture(plain) : plain;
      for (const { grads, skip } of steps) {
        scope(() => {
          step(tensor(grads.slice(0, size)), tensor([skip], { dtype: "u32" }));
        });
      }
      // All numbers are sums of a few powers of two, so f32 is exact.
      assertEquals([...await p.data()], references.map((ref) => ref.p), `captured: ${captured}`);
      free(optimizer, p);
    }
  }
});

Deno.test("SGD begins a momentum after a checkpoint of steps that were all skipped", async () => {
  const options = { lr: 0.5, ...PLAIN, momentum: 0.5, dampening: 0.75 };
  const [p, q] = [parameter([1, 1]), parameter([1, 1])];
  const [first, second] = [new SGD([p], options), new SGD([q], options)];
  using skip = tensor([1], { dtype: "u32" });
  setGrad(p, [Infinity, 1]);
  first.step({ skip });
  const file = await Deno.makeTempFile();
  await nn.io.saveCheckpoint(file, first.stateDict());
  const loaded = await nn.io.loadCheckpoint<nn.optim.OptimizerState>(file);
  await Deno.remove(file);
  second.loadStateDict(loaded);
  for (const [param, optimizer] of [[p, first], [q, second]] as const) {
    setGrad(param, [2, 4]);
    optimizer.step();
    assertEquals([...await param.data()], [0, -1]);
    assertEquals(await optimizer.stateDict().state[0]!.momentumBuffer!.array(), [2, 4]);
  }
  free(first, second, p, q, ...Object.values(loaded.state[0]!));
});

Deno.test("SGD keeps the options of each group", async () => {
  const [a, b, c] = [parameter([1]), parameter([1]), parameter([1])];
  const optimizer = new SGD([{ params: [a], lr: 0.5 }, { params: [b], weightDecay: 1 }], {
    lr: 0.25,
  });
  optimizer.addParamGroup({ params: [c], lr: undefined, momentum: 0.5 });
  scope(() => {
    for (const p of [a, b, c]) setGrad(p, [1]);
    optimizer.step();
  });
  assertEquals((await readAll([a, b, c])).map((d) => d[0]), [0.5, 0.5, 0.75]);
  assertEquals(optimizer.paramGroups.map((group) => group.lr), [0.5, 0.25, 0.25]);
  free(optimizer, a, b, c);
});

Deno.test("SGD leaves parameters without a gradient alone", async () => {
  using a = parameter([1]);
  using b = parameter([2]);
  using optimizer = new SGD([a, b], { lr: 1, momentum: 0.9 });
  setGrad(a, [1]);
  optimizer.step();
  assertEquals((await readAll([a, b])).map((d) => d[0]), [0, 2]);
  assertEquals(Object.keys(optimizer.stateDict().state), ["0"]);
  optimizer.zeroGrad();
  assertEquals(a.grad, null);
  optimizer.step();
  assertEquals(await a.item(), 0);
});

Deno.test("a learning rate is written to the GPU only when it changes", async () => {
  using p = parameter([1, 2]);
  using optimizer = new SGD([p], { lr: 0.5 });
  setGrad(p, [1, 1]);
  const { stats } = gpu().queue;
  const dispatches = (lr: number) => {
    const before = stats.dispatches;
    optimizer.paramGroups[0]!.lr = lr;
    optimizer.step();
    return stats.dispatches - before;
  };
  assertEquals([0.5, 0.5, 0.25, 0.25].map(dispatches), [1, 1, 2, 1]);
  assertEquals([...await p.data()], [-0.5, 0.5]);
});

/** Steps with gradients that depend on the step's number. */
function run(optimizer: nn.optim.SGD, params: readonly Tensor[], steps: readonly number[]): void {
  for (const step of steps) {
    scope(() => {
      params.forEach((p, k) => setGrad(p, [Math.sin(step + k), 0.1]));
      optimizer.step();
    });
  }
}

Deno.test("SGD goes on from a checkpoint bit for bit", async () => {
  const options = { lr: 0.1, momentum: 0.9, weightDecay: 1e-3 };
  const start = [[1, 2], [3, 4]];
  const all = [0, 1, 2, 3, 4, 5, 6, 7];
  const make = () => {
    const params = start.map(parameter);
    return { params, optimizer: new SGD(params, options) };
  };
  const [whole, first, second] = [make(), make(), make()];
  run(whole.optimizer, whole.params, all);
  run(first.optimizer, first.params, all.slice(0, 3));
  first.optimizer.paramGroups[0]!.lr = 0.1;

  const file = await Deno.makeTempFile();
  const state = { optimizer: first.optimizer.stateDict(), params: first.params };
  await nn.io.saveCheckpoint(file, state);
  const loaded = await nn.io.loadCheckpoint<
    { optimizer: nn.optim.OptimizerState; params: Tensor[] }
  >(
    file,
  );
  await Deno.remove(file);
  assertEquals(Object.keys(loaded.optimizer.state), ["0", "1"]);
  assertEquals(loaded.optimizer.paramGroups, [{
    ...{ lr: 0.1, momentum: 0.9, dampening: 0, weightDecay: 1e-3, nesterov: false },
    params: [0, 1],
  }]);
  // Into an optimizer with other options and a stale state.
  run(second.optimizer, second.params, [5]);
  Object.assign(second.optimizer.paramGroups[0]!, { lr: 9, momentum: 0.1 });
  const stale = second.optimizer.stateDict().state[0]!.momentumBuffer;
  second.optimizer.loadStateDict(loaded.optimizer);
  assertStrictEquals(second.optimizer.stateDict().state[0]!.momentumBuffer, stale);
  for (const [k, p] of second.params.entries()) {
    p.requiresGrad_(false).copy_(loaded.params[k]!).requiresGrad_();
  }
  free(...loaded.params, ...Object.values(loaded.optimizer.state).map((s) => s.momentumBuffer!));
  run(second.optimizer, second.params, all.slice(3));

  const data = await readAll([...whole.params, ...second.params]);
  assertEquals(data.slice(2), data.slice(0, 2));
  for (const { optimizer, params } of [whole, first, second]) free(optimizer, ...params);
});

Deno.test("loadStateDict() drops state that the file has not", async () => {
  using p = parameter([1, 1]);
  using optimizer = new SGD([p], { lr: 1, momentum: 0.5 });
  const before = optimizer.stateDict();
  run(optimizer, [p], [1]);
  optimizer.loadStateDict(before);
  assertEquals(optimizer.stateDict().state, {});
  await synchronize();
});

Deno.test("loadStateDict() of SGD lists all that does not fit, and changes nothing", () => {
  using p = parameter([1, 1]);
  using q = parameter([1]);
  using optimizer = new SGD([p, q], { lr: 1, momentum: 0.5 });
  const good = optimizer.stateDict();
  using wrong = zeros([3]);
  const { momentum: _, ...rest } = good.paramGroups[0]!;
  const bad = {
    state: { 0: { momentumBuffer: wrong, expAvg: wrong }, 7: { momentumBuffer: wrong } },
    paramGroups: [{ ...rest, lr: 5, beta1: 0.9, params: [0] }],
  };
  const error = assertThrows(() => optimizer.loadStateDict(bad), TypeError);
  assertEquals(
    error.message,
    "Cannot load the state of SGD:\n" +
      "  group 0 has 1 parameters, and must have 2\n" +
      "  group 0 has no momentum that is a number\n" +
      "  group 0 has an unknown beta1\n" +
      "  momentumBuffer of parameter 0 is [3], and must be [2]\n" +
      "  parameter 0 has an unknown expAvg\n" +
      "  state of parameter 7, and there are 2",
  );
  assertEquals(optimizer.paramGroups[0]!.lr, 1);
  assertThrows(
    () => optimizer.loadStateDict({ state: {}, paramGroups: [] }),
    TypeError,
    "0 groups, and must have 1",
  );
  assertThrows(
    () => optimizer.loadStateDict({} as nn.optim.OptimizerState),
    TypeError,
    "it must have state and paramGroups",
  );
});

Deno.test("SGD says which option or parameter it cannot use", () => {
  using p = parameter([1]);
  const make = (options: Partial<nn.optim.SGDOptions>) => () => new SGD([p], options);
  assertThrows(make({ lr: -1 }), RangeError, "SGD with lr -1");
  assertThrows(make({ lr: NaN }), RangeError, "SGD with lr NaN");
  assertThrows(make({ momentum: -0.1 }), RangeError, "momentum -0.1");
  assertThrows(make({ weightDecay: Infinity }), RangeError, "weightDecay Infinity");
  assertThrows(make({ nesterov: true }), RangeError, "needs momentum above 0");
  assertThrows(make({ nesterov: true, momentum: 1, dampening: 1 }), RangeError, "dampening 0");
  assertThrows(() => new SGD([]), TypeError, "Cannot make SGD without parameters");
  assertThrows(() => new SGD([p, p]), TypeError, "the parameter [1] twice");
  assertThrows(() => new SGD([{ params: [p] }, { params: [p] }]), TypeError, "twice");
  using computed = p.mul(2);
  assertThrows(() => new SGD([computed]), TypeError, "it must be a leaf");
});

Deno.test("fifty training steps leave live bytes where they were after the second", async () => {
  manualSeed(1);
  using net = new nn.Sequential(
    new nn.Conv2d(1, 4, { kernelSize: 3, padding: 1 }),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Flatten(),
    new nn.Dropout(0.2),
    new nn.Linear(64, 10),
  );
  using optimizer = new SGD(net.parameters(), { lr: 0.05, momentum: 0.9, weightDecay: 1e-4 });
  const scheduler = new nn.optim.StepLR(optimizer, { stepSize: 10, gamma: 0.5 });
  using x = randn([8, 1, 8, 8]);
  using target = tensor([0, 1, 2, 3, 4, 5, 6, 7], { dtype: "i32" });
  using total = zeros([]);
  using hits = zeros([]);
  let live = 0;
  const losses: number[] = [];
  for (let step = 1; step <= 50; step++) {
    scope(() => {
      optimizer.zeroGrad();
      const logits = net.forward(x);
      const loss = crossEntropy(logits, target);
      loss.backward();
      optimizer.step();
      total.add_(loss.detach());
      hits.add_(nn.metrics.accuracy(logits, target, { reduction: "sum" }));
    });
    scheduler.step();
    if (step === 2) live = memory().liveBytes;
    if (step % 25 === 0) {
      losses.push(await total.item());
      total.zero_();
    }
  }
  assertNothingLeft(live);
  assert(losses[1]! < losses[0]! / 2, `the loss did not fall: ${losses}`);
});
