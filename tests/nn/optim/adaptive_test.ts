import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  capture,
  checkpoint,
  init,
  manualSeed,
  memory,
  nn,
  profile,
  randn,
  readAll,
  scope,
  type Tensor,
  tensor,
} from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";
import { Draw } from "../../helpers/draw.ts";
import { TRAJECTORIES } from "./trajectories.ts";
import { assertNothingLeft } from "../../helpers/memory.ts";

await init();

/** Unit roundoff of f32. */
const U = 2 ** -24;

type Options = Readonly<Record<string, number | boolean | readonly [number, number]>>;
type Name = "Adam" | "AdamW" | "RMSprop" | "Adagrad";

function make(name: Name, params: readonly Tensor[], options: Options): nn.optim.Optimizer {
  return new nn.optim[name](params, options);
}

/** The four optimizers of torch.optim in float64, for one number. */
class Reference {
  p: number;
  #t = 0;
  #a = 0;
  #b = 0;
  #c = 0;
  constructor(p: number) {
    this.p = p;
  }

  step(name: Name, grad: number, options: Options) {
    const o = { ...DEFAULTS[name], ...options } as Record<string, number>;
    this.#t++;
    const decoupled = name === "AdamW";
    if (decoupled) this.p *= 1 - o.lr! * o.weightDecay!;
    const g = decoupled ? grad : grad + o.weightDecay! * this.p;
    if (name === "Adagrad") {
      if (this.#t === 1) this.#a = o.initialAccumulatorValue!;
      this.#a += g * g;
      this.p -= o.lr! / (1 + (this.#t - 1) * o.lrDecay!) * g / (Math.sqrt(this.#a) + o.eps!);
    } else if (name === "RMSprop") {
      this.#a = o.alpha! * this.#a + (1 - o.alpha!) * g * g;
      if (o.centered) this.#b += (1 - o.alpha!) * (g - this.#b);
      const d = g / (Math.sqrt(this.#a - this.#b ** 2) + o.eps!);
      this.#c = o.momentum! * this.#c + d;
      this.p -= o.lr! * this.#c;
    } else {
      const [b1, b2] = (options.betas ?? [0.9, 0.999]) as [number, number];
      this.#a = b1 * this.#a + (1 - b1) * g;
      this.#b = b2 * this.#b + (1 - b2) * g * g;
      this.#c = Math.max(this.#c, this.#b);
      const v = o.amsgrad ? this.#c : this.#b;
      const root = Math.sqrt(v) / Math.sqrt(1 - b2 ** this.#t) + o.eps!;
      this.p -= o.lr! / (1 - b1 ** this.#t) * this.#a / root;
    }
  }
}

const DEFAULTS: Readonly<Record<Name, Options>> = {
  Adam: { lr: 1e-3, eps: 1e-8, weightDecay: 0 },
  AdamW: { lr: 1e-3, eps: 1e-8, weightDecay: 1e-2 },
  RMSprop: { lr: 1e-2, alpha: 0.99, eps: 1e-8, weightDecay: 0, momentum: 0 },
  Adagrad: { lr: 1e-2, lrDecay: 0, eps: 1e-10, weightDecay: 0, initialAccumulatorValue: 0 },
};

const RULES: readonly [Name, Options][] = [
  ["Adam", {}],
  ["Adam", { lr: 0.1, weightDecay: 0.1, betas: [0.8, 0.9] }],
  ["Adam", { lr: 0.1, amsgrad: true, eps: 1e-3, betas: [0, 0.5] }],
  ["AdamW", {}],
  ["AdamW", { lr: 0.1, weightDecay: 0.5, amsgrad: true }],
  ["RMSprop", {}],
  ["RMSprop", { lr: 0.05, weightDecay: 0.1, alpha: 0.9, eps: 1e-3 }],
  ["RMSprop", { lr: 0.05, momentum: 0.9 }],
  ["RMSprop", { lr: 0.05, centered: true, alpha: 0.9 }],
  ["RMSprop", { lr: 0.05, centered: true, momentum: 0.5, alpha: 0.9 }],
  ["Adagrad", {}],
  ["Adagrad", { lr: 0.1, lrDecay: 0.1, weightDecay: 0.1, initialAccumulatorValue: 0.5, eps: 0.01 }],
];

Deno.test("Adam, AdamW, RMSprop and Adagrad follow PyTorch's rules with every option", async () => {
  // Sizes on both sides of the 256 elements a workgroup owns.
  const sizes = [1, 255, 257, 600];
  const steps = 12;
  for (const [r, [name, options]] of RULES.entries()) {
    const draw = new Draw(`adaptive ${r}`);
    const number = () => Math.fround(2 * draw.uniform() - 1);
    const start = sizes.map((size) => Array.from({ length: size }, number));
    const references = start.map((values) => values.map((v) => new Reference(v)));
    const params = start.map((values) => new nn.Parameter(tensor(values)));
    const optimizer = make(name, params, options);
    let lr = 0;
    for (let step = 1; step <= steps; step++) {
      // The second parameter has no gradient at first: its own steps count, not the group's.
      const grads = start.map((values, i) => i === 1 && step < 4 ? null : values.map(number));
      lr = Number(options.lr ?? DEFAULTS[name].lr) / step;
      optimizer.paramGroups[0]!.lr = lr;
      scope(() => {
        params.forEach((p, i) => p.grad = grads[i] ? tensor(grads[i]) : null);
        optimizer.step();
      });
      references.forEach((list, i) =>
        list.forEach((ref, j) => {
          if (grads[i]) ref.step(name, grads[i][j]!, { ...options, lr });
        })
      );
    }
    const got = await readAll(params);
    // A step is at most about 4 lr (8 with momentum) and is made of fewer than 64 roundings; adding it
    // rounds p, which is below 2.
    const largest = Number(options.lr ?? DEFAULTS[name].lr);
    const atol = steps * (8 * largest * 64 * U + 2 * U);
    got.forEach((values, i) => {
      const what = `${name} ${JSON.stringify(options)}, parameter ${i}`;
      assertClose(values, references[i]!.map((ref) => ref.p), { atol, what });
      const moved = references[i]!.some((ref, j) => Math.abs(ref.p - start[i]![j]!) > 100 * atol);
      assert(moved, `${what} would pass if nothing moved`);
    });
    optimizer.dispose();
    for (const p of params) p.dispose();
  }
});

const START = [
  [-0.2109, -0.4976, -0.1413, -0.342, -0.2524, 0.6976],
  [-0.1085, -0.2979, 0.6892],
  [-0.0508, -0.3941, -0.2843],
  [-0.0711],
];
const INPUT = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]] as const;
/** PyTorch's own tolerance: its literals began at weights that are here rounded to 4 decimals. */
const BASELINE = { atol: 5e-4, rtol: 1e-3 };

/** Gradients of Σ sigmoid(W₂ sigmoid(W₁ x + b₁) + b₂) over the inputs, by hand. */
function gradients([W1, b1, W2, b2]: number[][]): number[][] {
  const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
  const grads = START.map((values) => values.map(() => 0));
  for (const [x0, x1] of INPUT) {
    const h = b1!.map((b, j) => sigmoid(b + W1![2 * j]! * x0 + W1![2 * j + 1]! * x1));
    const y = sigmoid(h.reduce((sum, v, j) => sum + v * W2![j]!, b2![0]!));
    const dz = y * (1 - y);
    grads[3]![0]! += dz;
    h.forEach((v, j) => {
      grads[2]![j]! += dz * v;
      const da = dz * W2![j]! * v * (1 - v);
      grads[1]![j]! += da;
      grads[0]![2 * j]! += da * x0;
      grads[0]![2 * j + 1]! += da * x1;
    });
  }
  return grads;
}

Deno.test("the float64 rules walk PyTorch's baseline trajectories for 1001 steps", () => {
  assert(TRAJECTORIES.length >= 12);
  for (const { name, options, after } of TRAJECTORIES) {
    const params = START.map((values) => values.map((v) => new Reference(v)));
    for (let step = 1; step <= 1001; step++) {
      const grads = gradients(params.map((list) => list.map((ref) => ref.p)));
      params.forEach((list, i) => list.forEach((ref, j) => ref.step(name, grads[i]![j]!, options)));
      const what = `step ${step} of ${name} ${JSON.stringify(options)}`;
      const want = after[step];
      if (want) assertClose(params.flat().map((r) => r.p), want, { ...BASELINE, what });
    }
  }
});

Deno.test("Adam, AdamW, RMSprop and Adagrad walk PyTorch's baseline trajectories", async () => {
  for (const { name, options, after } of TRAJECTORIES) {
    const net = new nn.Sequential(
      new nn.Linear(2, 3),
      new nn.Sigmoid(),
      new nn.Linear(3, 1),
      new nn.Sigmoid(),
    );
    const names = ["0.weight", "0.bias", "2.weight", "2.bias"];
    const own = net.stateDict();
    const start = Object.fromEntries(
      names.map((key, i) => [key, tensor(START[i]!, { shape: own[key]!.shape })]),
    );
    net.loadStateDict(start);
    using x = tensor(INPUT);
    const optimizer = make(name, net.parameters(), options);
    for (let step = 1; step <= 101; step++) {
      scope(() => {
        optimizer.zeroGrad();
        net.forward(x).sum().backward();
        optimizer.step();
      });
      const want = after[step];
      if (!want) continue;
      const flat = (await readAll(net.parameters())).flatMap((values) => [...values]);
      const what = `step ${step} of ${name} ${JSON.stringify(options)}`;
      assertClose(flat, want, { ...BASELINE, what });
    }
    for (const value of [optimizer, net, ...Object.values(start)]) value.dispose();
  }
});

Deno.test("Adam goes on from a saved state bit for bit, each parameter at its own step", async () => {
  const start = [[1, -2, 3], [0.5]];
  const run = (p: nn.Parameter[], optimizer: nn.optim.Adam, from: number, to: number) => {
    for (let step = from; step < to; step++) {
      scope(() => {
        p[0]!.grad = tensor([Math.sin(step), 1, -step]);
        p[1]!.grad = step < 2 ? null : tensor([Math.cos(step)]);
        optimizer.step();
      });
    }
  };
  const params = () => start.map((values) => new nn.Parameter(tensor(values)));
  const [a, b] = [params(), params()];
  const first = new nn.optim.Adam(a, { lr: 0.1, amsgrad: true });
  const second = new nn.optim.Adam(b, { lr: 0.3 });
  run(a, first, 0, 3);
  // The second optimizer has a state of its own, which must go.
  run(b, second, 0, 1);
  second.paramGroups[0]!.amsgrad = true;
  b.forEach((p, i) => scope(() => p.detach().copy_(a[i]!.detach())));
  second.loadStateDict(first.stateDict());
  assertEquals(
    await readAll(["0", "1"].map((i) => second.stateDict().state[i]!.step!)),
    [Float32Array.of(3), Float32Array.of(1)],
  );
  run(a, first, 3, 6);
  run(b, second, 3, 6);
  assertEquals(await readAll(a), await readAll(b));
  assertEquals(second.paramGroups[0]!.lr, 0.1);
  for (const value of [first, second, ...a, ...b]) value.dispose();
});

Deno.test("ten steps of each optimizer leave live bytes where they were after the second", async () => {
  manualSeed(1);
  for (const [name, options] of RULES) {
    const net = new nn.Linear(8, 4);
    const optimizer = make(name, net.parameters(), options);
    const x = randn([4, 8]);
    let live = 0;
    for (let step = 1; step <= 10; step++) {
      scope(() => {
        optimizer.zeroGrad();
        net.forward(x).square().mean().backward();
        nn.optim.clipGradNorm(net.parameters(), { maxNorm: 1 });
        optimizer.step();
      });
      if (step === 2) live = memory().liveBytes;
    }
    assertNothingLeft(live, name);
    await readAll(net.parameters());
    for (const value of [optimizer, net, x]) value.dispose();
  }
});

Deno.test("the optimizers say which option they cannot use", () => {
  using p = new nn.Parameter(tensor([1]));
  const refused: [Name, Options, string][] = [
    ["Adam", { lr: -1 }, "Cannot use Adam with lr -1: it must be at least 0"],
    [
      "AdamW",
      { betas: [0.9, 1] },
      "Cannot use AdamW with betas [0.9, 1]: each must be at least 0 and below 1",
    ],
    ["RMSprop", { momentum: -1 }, "Cannot use RMSprop with momentum -1: it must be at least 0"],
    ["Adagrad", { lrDecay: NaN }, "Cannot use Adagrad with lrDecay NaN: it must be at least 0"],
  ];
  for (const [name, options, message] of refused) {
    assertThrows(() => make(name, [p], options), RangeError, message);
  }
});

Deno.test("clipGradNorm() scales all gradients together by PyTorch's rule", async () => {
  const values = [[3, -4, 0.5], [12]];
  const all = values.flat();
  for (const normType of [2, 1, 3, Infinity]) {
    for (const maxNorm of [0, 1, 1000]) {
      const params = values.map((v) => new nn.Parameter(tensor(v)));
      params.forEach((p, i) => p.grad = tensor(values[i]!));
      const none = new nn.Parameter(tensor([1]));
      const norm = nn.optim.clipGradNorm([...params, none], { maxNorm, normType });
      const want = normType === Infinity
        ? 12
        : all.reduce((sum, v) => sum + Math.abs(v) ** normType, 0) ** (1 / normType);
      const got = await readAll([norm, ...params.map((p) => p.grad!)]);
      assertClose(got[0]!, [want], { rtol: 64 * U });
      const factor = Math.min(1, maxNorm / (want + 1e-6));
      assertClose([...got[1]!, ...got[2]!], all.map((v) => v * factor), { rtol: 64 * U });
      assertEquals(none.grad, null);
      for (const t of [norm, ...params, none]) t.dispose();
    }
  }
  assertThrows(
    () => nn.optim.clipGradNorm([], { maxNorm: -1 }),
    RangeError,
    "Cannot clip the gradients' norm to -1: it must be at least 0",
  );
  using empty = nn.optim.clipGradNorm([], { maxNorm: 1 });
  assertEquals(await empty.item(), 0);
});

Deno.test("clipGradNorm() and clipGradValue() reach every element of gradients of every size", async () => {
  // One by one and by fours, of one workgroup and of several, and one that lies apart.
  const sizes = [1, 3, 8, 260, 4099, 8200];
  const draw = new Draw("clip");
  const values = sizes.map((size) =>
    Array.from({ length: size }, (_, i) => i === size - 1 ? 1.5 : draw.weight())
  );
  const all = values.flat();
  const squares = all.reduce((sum, v) => sum + v * v, 0);
  for (const apart of [false, true]) {
    const params = values.map((v) => new nn.Parameter(tensor(v)));
    const spread = tensor(values[3]!.flatMap((v) => [v, 0]), { shape: [260, 2] });
    params.forEach((p, i) => p.grad = apart && i === 3 ? spread.select(1, 0) : tensor(values[i]!));
    const grads = () => readAll(params.map((p) => p.grad!.contiguous()));
    const norm = nn.optim.clipGradNorm(params, { maxNorm: 2 });
    // A sum of squares of n elements in shares of at most 64; then a root, a sum, a quotient and a product.
    const rtol = (8 + Math.sqrt(all.length)) * U;
    assertClose(await norm.data(), [Math.sqrt(squares)], { rtol });
    const factor = 2 / (Math.sqrt(squares) + 1e-6);
    const scaled = (await grads()).flatMap((g) => [...g]);
    assertClose(scaled, all.map((v) => v * factor), { rtol });
    const most = factor;
    nn.optim.clipGradValue(params, most);
    const limit = Math.fround(most);
    const limited = (await grads()).flatMap((g) => [...g]);
    assertClose(limited, scaled.map((v) => Math.min(Math.max(v, -limit), limit)), { atol: 0 });
    assert(limited.some((v, i) => v !== scaled[i]) && limited.some((v, i) => v === scaled[i]));
    for (const t of [norm, spread, ...params]) t.dispose();
  }
});

Deno.test("clipGradNorm() takes two dispatches a gradient on software, and few more", async () => {
  const params = [5, 8, 12].map((n) => new nn.Parameter(tensor(new Float32Array(n))));
  for (const p of params) p.grad = tensor(new Float32Array(p.size).fill(1));
  const { dispatches } = await profile(() => void nn.optim.clipGradNorm(params, { maxNorm: 1 }));
  const many = dispatches.filter((d) => /^(gradient_norm|clip_grad)/.test(d.kernel)).length;
  assert(many <= 2 * params.length, `${many}`);
  assert(dispatches.length - many <= params.length + 3, dispatches.map((d) => d.kernel).join());
  for (const p of params) p.dispose();
});

Deno.test("clipGradNorm() and clipGradValue() keep NaN", async () => {
  using p = new nn.Parameter(tensor([1, 2, 3]));
  p.grad = tensor([NaN, 5, -5]);
  nn.optim.clipGradValue([p], 2);
  assertEquals(await p.grad!.array(), [NaN, 2, -2]);
  using norm = nn.optim.clipGradNorm([p], { maxNorm: 1 });
  assertEquals(await norm.item(), NaN);
  assertEquals(await p.grad!.array(), [NaN, NaN, NaN]);
  assertThrows(
    () => nn.optim.clipGradValue([p], -1),
    RangeError,
    "Cannot clip gradients to ±-1: it must be at least 0",
  );
});

Deno.test("a captured step with Adam, clipping, a checkpointed LSTM and a schedule is the plain one", async () => {
  const run = async (record: boolean) => {
    manualSeed(9);
    const lstm = new nn.LSTM(3, 8, { numLayers: 2, dropout: 0.3 });
    const head = new nn.Linear(8, 1);
    const params = [...lstm.parameters(), ...head.parameters()];
    const optimizer = new nn.optim.AdamW(params, { lr: 0.05, amsgrad: true });
    const scheduler = new nn.optim.OneCycleLR(optimizer, { maxLr: 0.05, totalSteps: 8 });
    const inputs = Array.from({ length: 8 }, () => randn([4, 2, 3]));
    const plain = (x: Tensor) => {
      optimizer.zeroGrad();
      const output = checkpoint((t) => lstm.forward(t!, { lengths: [4, 2] }).output, x);
      const loss = head.forward(output).square().mean();
      loss.backward();
      const norm = nn.optim.clipGradNorm(params, { maxNorm: 0.1 });
      optimizer.step();
      return { loss: loss.detach(), norm };
    };
    const captured = record ? capture(plain) : null;
    const step = captured ?? ((x: Tensor) => scope(() => plain(x)));
    const values: number[] = [];
    for (const x of inputs) {
      const { loss, norm } = step(x);
      values.push(await loss.item(), await norm.item());
      scheduler.step();
      loss.dispose();
      norm.dispose();
    }
    const state = optimizer.stateDict();
    const steps = await readAll(Object.values(state.state).map((s) => s.step!));
    assert(steps.every(([count]) => count === 8));
    const result = [values, (await readAll(params)).map((v) => [...v])] as const;
    captured?.dispose();
    for (const value of [optimizer, lstm, head, ...inputs]) value.dispose();
    return result;
  };
  const [want, got] = [await run(false), await run(true)];
  assertEquals(got, want);
  assertEquals(new Set(want[0]).size, 16);
});
