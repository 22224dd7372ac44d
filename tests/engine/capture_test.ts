import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  autocast,
  capture,
  crossEntropy,
  GradScaler,
  init,
  manualSeed,
  memory,
  noGrad,
} from "../../mod.ts";
import {
  full,
  keep,
  nn,
  randint,
  randn,
  readAll,
  rngState,
  scope,
  synchronize,
  type Tensor,
  tensor,
  zeros,
} from "../../mod.ts";
import { debug, setDebug } from "../../engine/gpu/debug.ts";
import { gpu } from "../../engine/gpu/device.ts";
import { assertNothingLeft, peakOf } from "../helpers/memory.ts";

const info = await init();

/** A small net with what a recorded step must not freeze: dropout, momentum, a changing rate. */
function build(options: { optimizer?: "SGD" | "Adam" } = {}) {
  manualSeed(11);
  const model = new nn.Sequential(
    new nn.Conv2d(1, 6, { kernelSize: 3, padding: 1 }),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Flatten(),
    new nn.Dropout(0.4),
    new nn.Linear(6 * 9, 12),
    new nn.ReLU(),
    new nn.Linear(12, 3),
  );
  const optimizer = options.optimizer === "Adam"
    ? new nn.optim.Adam(model.parameters(), { lr: 0.01 })
    : new nn.optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9, weightDecay: 1e-3 });
  const scheduler = new nn.optim.StepLR(optimizer, { stepSize: 7, gamma: 0.5 });
  const step = (x: Tensor, y: Tensor) => {
    optimizer.zeroGrad();
    const loss = crossEntropy(model.forward(x), y);
    loss.backward();
    optimizer.step();
    return { loss: loss.detach() };
  };
  return { model, optimizer, scheduler, step };
}

/** Losses and final weights of `steps` steps on a few alternating batches. */
async function train(steps: number, options: { captured: boolean; optimizer?: "SGD" | "Adam" }) {
  const net = build(options);
  const batches = [0, 1, 2].map(() =>
    [randn([8, 1, 6, 6]), randint(0, 3, { shape: [8] })] as const
  );
  const step = options.captured
    ? capture(net.step)
    : (x: Tensor, y: Tensor) => scope(() => net.step(x, y));
  const losses: number[] = [];
  for (let i = 0; i < steps; i++) {
    const [x, y] = batches[i % 3]!;
    const { loss } = step(x, y);
    losses.push(await loss.item());
    loss.dispose();
    net.scheduler.step();
  }
  const weights = await Promise.all(net.model.parameters().map((p) => p.data()));
  // What is drawn next shows that the generator stands at the same place.
  const next = await randn([5]).data();
  return { losses, weights, next };
}

for (const optimizer of ["SGD", "Adam"] as const) {
  Deno.test(`capture(): 50 replayed steps with ${optimizer}, dropout and a schedule are the plain ones bit for bit`, async () => {
    const plain = await train(50, { captured: false, optimizer });
    const captured = await train(50, { captured: true, optimizer });
    assertEquals(captured.losses, plain.losses);
    assertEquals(captured.weights, plain.weights);
    assertEquals(captured.next, plain.next);
    assert(plain.losses[49]! < plain.losses[0]!, "it learns");
    assert(new Set(plain.losses).size > 40, "dropout draws anew");
  });
}

Deno.test("capture(): a replay is one submit and leaves memory where it was", async () => {
  const net = build();
  const step = capture(net.step);
  const [x, y] = [randn([4, 1, 6, 6]), randint(0, 3, { shape: [4] })];
  for (let i = 0; i < 3; i++) step(x, y).loss.dispose();
  const { queue } = gpu();
  const live = memory().liveBytes;
  const before = { ...queue.stats };
  for (let i = 0; i < 20; i++) step(x, y).loss.dispose();
  assertEquals(queue.stats.submits - before.submits, 20);
  // Each replay: the recorded dispatches, two inputs in, one output out.
  assertEquals(queue.stats.dispatches - before.dispatches, 20 * (step.dispatches + 3));
  assertNothingLeft(live);
  assert(step.bytes > 0 && step.graphs === 1);
  step.dispose();
  assert(memory().liveBytes < live, "dispose() frees the graph");
  const after = step(x, y);
  assert(Number.isFinite(await after.loss.item()), "it can be recorded again");
});

Deno.test("capture(): plain work between replays keeps its numbers and the step's", async () => {
  const reference = await train(6, { captured: false });
  const net = build();
  const batches = [0, 1, 2].map(() =>
    [randn([8, 1, 6, 6]), randint(0, 3, { shape: [8] })] as const
  );
  const step = capture(net.step);
  const losses: number[] = [];
  const kept: { t: Tensor; want: number }[] = [];
  for (let i = 0; i < 6; i++) {
    const { loss } = step(...batches[i % 3]!);
    losses.push(await loss.item());
    net.scheduler.step();
    // Live tensors of many sizes, made between replays, must not share memory with the graph.
    for (const size of [8, 60, 300, 1000]) {
      kept.push({ t: zeros([size]).add(i + size), want: i + size });
    }
  }
  assertEquals(losses, reference.losses);
  for (const { t, want } of kept) assert((await t.data()).every((v) => v === want));
});

Deno.test("capture(): other shapes make another graph, and results are tensors of their own", async () => {
  const double = capture((x: Tensor) => [x.mul(2), { sum: x.sum() }]);
  const runs: Tensor[] = [];
  for (let i = 0; i < 4; i++) {
    for (const size of [3, 5]) {
      const [y, { sum }] = double(tensor(new Array(size).fill(i))) as [Tensor, { sum: Tensor }];
      runs.push(y);
      assertEquals(await sum.item(), i * size);
    }
  }
  assertEquals(double.graphs, 2);
  assertEquals(await runs[2]!.array(), [2, 2, 2]);
  assertEquals(await runs[7]!.array(), [6, 6, 6, 6, 6]);
  double.dispose();
});

Deno.test("capture(): batch statistics move as without it", async () => {
  const run = async (captured: boolean) => {
    manualSeed(4);
    const model = new nn.Sequential(new nn.Linear(6, 4), new nn.BatchNorm1d(4));
    const optimizer = new nn.optim.SGD(model.parameters(), { lr: 0.1 });
    const plain = (x: Tensor) => {
      optimizer.zeroGrad();
      const loss = model.forward(x).square().mul(0.5).add(1).log().mean();
      loss.backward();
      optimizer.step();
      return loss.detach();
    };
    const step = captured ? capture(plain) : (x: Tensor) => scope(() => plain(x));
    for (let i = 0; i < 8; i++) step(randn([10, 6]));
    return await Promise.all(Object.values(model.stateDict()).map((t) => t.data()));
  };
  assertEquals(await run(true), await run(false));
});

Deno.test({
  name: "capture(): AMP with a scaler that overflows and grows is as without it",
  ignore: !info.features.has("shader-f16"),
  async fn() {
    const run = async (captured: boolean) => {
      const { model, optimizer } = build();
      using scaler = new GradScaler({ initScale: 2 ** 26, growthInterval: 6 });
      const plain = (x: Tensor, y: Tensor) => {
        optimizer.zeroGrad();
        const loss = autocast({}, () => crossEntropy(model.forward(x), y));
        scaler.scale(loss).backward();
        scaler.step(optimizer);
        scaler.update();
        return loss.detach();
      };
      const step = captured ? capture(plain) : (x: Tensor, y: Tensor) => scope(() => plain(x, y));
      const [x, y] = [randn([8, 1, 6, 6]), randint(0, 3, { shape: [8] })];
      const seen: number[] = [];
      for (let i = 0; i < 30; i++) {
        seen.push(await step(x, y).item(), await scaler.getScale());
      }
      return seen;
    };
    assertEquals(await run(true), await run(false));
  },
});

Deno.test("capture(): tensors that are not needed at the same time share memory, in the first call, too", async () => {
  const size = 1 << 20;
  const chain = (x: Tensor) => {
    let y = x;
    for (let i = 0; i < 10; i++) y = y.add(1).mul(2);
    return y.sum();
  };
  const x = zeros([size]);
  const want = await scope(() => chain(x)).item();
  const step = capture(chain);
  const bytes = 4 * size;
  for (const most of [3, 3, 1]) {
    // Two for the chain, and a copy of the input; the third call has all it needs, but for the result.
    const results: Tensor[] = [];
    const peak = peakOf(() => results.push(step(x)));
    assert(peak <= most * bytes + 4096, `${peak / bytes} arrays, ${most} would do`);
    assertEquals(await results[0]!.item(), want);
  }
  assert(step.bytes <= 3 * bytes + 4096, `the graph has ${step.bytes / bytes} arrays`);
});

Deno.test("capture(): what stays from the first call holds memory of its own size", async () => {
  const state: Tensor[] = [];
  const step = capture((x: Tensor) => {
    const large = x.reshape(1, -1).add(zeros([64, 1024]));
    if (state.length === 0) state.push(keep(zeros([1024]).add(large.sum())));
    state[0]!.add_(x);
    return state[0]!.sum();
  });
  const x = tensor(new Array(1024).fill(0.5));
  const before = memory().liveBytes;
  assertEquals(await step(x).item(), 1024 * 1024 * 32 + 512);
  const held = memory().liveBytes - before;
  assert(held <= 4096 + 256, `${held} bytes stay for 4096 and a result`);
  assertEquals(await step(x).item(), 1024 * 1024 * 32 + 1024);
  assertEquals(await step(x).item(), 1024 * 1024 * 32 + 1536);
});

Deno.test("capture(): a step that fails has run up to there, and counts for nothing", async () => {
  const plain = build();
  const net = build();
  let failing = true;
  const step = capture((x: Tensor, y: Tensor) => {
    net.optimizer.zeroGrad();
    const loss = crossEntropy(net.model.forward(x), y);
    loss.backward();
    if (failing) throw new Error("planted");
    net.optimizer.step();
    return loss.detach();
  });
  manualSeed(2);
  const [x, y] = [randn([4, 1, 6, 6]), randint(0, 3, { shape: [4] })];
  for (let attempt = 0; attempt < 2; attempt++) {
    manualSeed(3);
    assertThrows(() => step(x, y), Error, "planted");
    manualSeed(3);
    scope(() => {
      plain.optimizer.zeroGrad();
      crossEntropy(plain.model.forward(x), y).backward();
    });
    const [got, want] = [net, plain].map(({ model }) => model.parameters().map((p) => p.grad!));
    const all = await readAll([...got!, ...want!]);
    assertEquals(all.slice(0, got!.length), all.slice(got!.length));
  }
  failing = false;
  manualSeed(4);
  const losses: number[] = [];
  for (let i = 0; i < 5; i++) losses.push(await step(x, y).item());
  manualSeed(4);
  for (const loss of losses) assertEquals(await scope(() => plain.step(x, y).loss).item(), loss);
  assertEquals(step.graphs, 1);
  failing = true;
  const [other, labels] = [randn([3, 1, 6, 6]), randint(0, 3, { shape: [3] })];
  assertThrows(() => step(other, labels), Error, "planted");
  const live = memory().liveBytes;
  assertThrows(() => step(other, labels), Error, "planted");
  assertNothingLeft(live);
});

Deno.test("capture(): what nobody can see is not computed, and what is out of range is still reported", async () => {
  const w = tensor([2, 3]);
  const wanted = (x: Tensor) => {
    w.mul_(x);
    return x.add(1).mul(w);
  };
  const step = capture((x: Tensor) => {
    x.exp().mul(2).sum();
    return wanted(x);
  });
  const plain = tensor([2, 3]);
  for (let i = 0; i < 4; i++) {
    plain.mul_(tensor([1, 2]));
    const want = await tensor([1, 2]).add(1).mul(plain).array();
    assertEquals(await step(tensor([1, 2])).array(), want);
  }
  const lean = capture(wanted);
  for (let i = 0; i < 2; i++) lean(w);
  assertEquals(step.dispatches, lean.dispatches);
  const wrong = capture((x: Tensor) => void x.indexSelect(0, tensor([5], { dtype: "i32" })));
  for (let i = 0; i < 3; i++) {
    wrong(w);
    await assertRejects(() => synchronize(), RangeError, "5");
  }
});

Deno.test("capture(): the caller's tensors stay the caller's, and a step may do nothing", async () => {
  const outer = tensor([1, 2]);
  const same = capture((x: Tensor) => ({ x, outer, y: x.add(outer) }));
  const x = tensor([3, 4]);
  for (let i = 0; i < 4; i++) {
    const result = same(x);
    assertEquals(await result.y.array(), [4, 6]);
    assertEquals(await result.x.array(), [3, 4]);
    for (const t of Object.values(result)) t.dispose();
  }
  same.dispose();
  assertEquals(await x.add(outer).array(), [4, 6]);
  const nothing = capture((_: Tensor) => {});
  for (let i = 0; i < 3; i++) nothing(x);
  nothing.dispose();
  await synchronize();
});

Deno.test("capture(): a graph can be freed while its replay is only recorded", async () => {
  const double = capture((x: Tensor) => x.mul(2));
  const x = tensor([1, 2]);
  const y = scope(() => {
    for (let i = 0; i < 3; i++) double(x);
    const y = double(x);
    double.dispose();
    return y;
  });
  assertEquals(await y.array(), [2, 4]);
});

for (const optimizer of ["SGD", "Adam"] as const) {
  Deno.test(`capture(): a layer that ${optimizer} first sees later trains as without it`, async () => {
    const run = async (captured: boolean) => {
      const { model, step } = build({ optimizer });
      const first = model.at(0)!.requiresGrad_(false);
      const take = captured ? capture(step) : (x: Tensor, y: Tensor) => scope(() => step(x, y));
      const [x, y] = [randn([8, 1, 6, 6]), randint(0, 3, { shape: [8] })];
      for (let i = 0; i < 6; i++) {
        // Its state is made in the call that would have been recorded.
        if (i === 1) first.requiresGrad_(true);
        take(x, y).loss.dispose();
      }
      return await Promise.all(model.parameters().map((p) => p.data()));
    };
    assertEquals(await run(true), await run(false));
  });
}

/** Losses of eight steps; before the fifth the optimizer loses its state, or the last layer is another. */
async function trainAnew(options: { captured: boolean; lose: "state" | "layer" }) {
  const net = build();
  const [x, y] = [randn([8, 1, 6, 6]), randint(0, 3, { shape: [8] })];
  const fresh = net.optimizer.stateDict();
  const step = options.captured
    ? capture(net.step)
    : (x: Tensor, y: Tensor) => scope(() => net.step(x, y));
  const losses: number[] = [];
  for (let i = 0; i < 8; i++) {
    if (i === 4 && options.lose === "state") net.optimizer.loadStateDict(fresh);
    if (i === 4 && options.lose === "layer") {
      const last = net.model.children()[7] as nn.Linear;
      for (const p of last.parameters()) p.dispose();
      last.weight = new nn.Parameter(full([3, 12], 0.1), { requiresGrad: false });
      last.bias = new nn.Parameter(zeros([3]), { requiresGrad: false });
    }
    using loss = step(x, y).loss;
    losses.push(await loss.item());
  }
  return losses;
}

Deno.test("capture(): a step whose tensors have been freed is recorded anew", async () => {
  for (const lose of ["state", "layer"] as const) {
    const plain = await trainAnew({ captured: false, lose });
    assertEquals(await trainAnew({ captured: true, lose }), plain, lose);
  }
});

Deno.test("capture(): a step that uses a tensor freed since says so, as a plain call", async () => {
  const bias = randn([3]);
  const step = capture((x: Tensor) => ({ y: x.add(bias) }));
  const x = randn([2, 3]);
  for (let i = 0; i < 3; i++) step(x).y.dispose();
  assertEquals(step.graphs, 1);
  const { liveBytes } = memory();
  bias.dispose();
  assertThrows(() => step(x), Error, "Cannot use a tensor [3] that was freed");
  assertEquals(step.graphs, 0);
  await synchronize();
  assert(memory().liveBytes < liveBytes, "the graph is freed");
});

Deno.test("capture(): a step that returns a tensor freed since is recorded anew, or says so", async () => {
  const bodies: Record<string, (c: Tensor, x: Tensor) => Tensor[]> = {
    "only returned": (c) => [c],
    "a view": (c) => [c.detach().narrow(0, 1, 1)],
    "used as well": (c, x) => [c, x.mul(c)],
    "changed": (c, x) => [c.add_(x)],
  };
  for (const [name, body] of Object.entries(bodies)) {
    const run = async (captured: boolean) => {
      let c = tensor([1, 2]);
      const step = captured
        ? capture((x: Tensor) => body(c, x))
        : (x: Tensor) => scope(() => body(c, x));
      const seen: number[][] = [];
      for (let i = 0; i < 6; i++) {
        if (i === 4) {
          c.dispose();
          c = tensor([10, 20]);
        }
        for (const t of step(tensor([i, i]))) seen.push([...await t.data()]);
      }
      c.dispose();
      if (captured) assertThrows(() => step(tensor([1, 1])), Error, "that was freed", name);
      return seen;
    };
    assertEquals(await run(true), await run(false), name);
  }
  const before = memory().liveBytes;
  const held = tensor([1, 2]);
  const step = capture((x: Tensor) => ({ held, y: x.add(held) }));
  using x = tensor([3, 4]);
  for (let i = 0; i < 4; i++) for (const t of Object.values(step(x))) t.dispose();
  held.dispose();
  step.dispose();
  await synchronize();
  assertNothingLeft(before + 256); // x
});

Deno.test("capture(): a step works on copies of its inputs", async () => {
  const step = capture((x: Tensor) => ({ y: x.add_(1).mul(2) }));
  const x = tensor([1, 2]);
  for (let i = 0; i < 4; i++) {
    using y = step(x).y;
    assertEquals([...await y.data()], [4, 6]);
    assertEquals([...await x.data()], [1, 2], `call ${i}`);
  }
});

Deno.test("capture(): a replay that changes what a tape has saved is noticed", () => {
  const w = tensor([1, 2], { requiresGrad: true });
  const step = capture((x: Tensor) => {
    noGrad(() => w.add_(x));
  });
  const x = tensor([1, 1]);
  for (let i = 0; i < 3; i++) step(x);
  const loss = w.square().sum();
  step(x);
  assertThrows(() => loss.backward(), Error, "in place");
  w.square().sum().backward();
});

/** Gradients after each of some calls: batches of several sizes, with work between them. */
async function gradientsOf(captured: boolean, between: (w: Tensor, i: number) => void) {
  const w = tensor([1, 2], { requiresGrad: true });
  const body = (x: Tensor) => {
    w.grad = null;
    w.mul(x).sum().backward();
  };
  const step = captured ? capture(body) : (x: Tensor) => scope(() => body(x));
  const seen: (readonly number[] | null)[] = [];
  for (const [i, n] of [2, 1, 2, 1, 2, 2, 1, 1].entries()) {
    step(full([n, 2], n * 10 + i));
    seen.push(w.grad ? [...await w.grad.data()] : null);
    between(w, i);
  }
  return seen;
}

Deno.test("capture(): gradients that a step leaves are the leaves' after each replay", async () => {
  const between: Record<string, (w: Tensor, i: number) => void> = {
    nothing() {},
    "another backward": (w, i) => i % 2 === 1 && scope(() => w.square().sum().backward()),
    "gradients dropped": (w) => w.grad = null,
  };
  for (const [name, fn] of Object.entries(between)) {
    assertEquals(await gradientsOf(true, fn), await gradientsOf(false, fn), name);
  }
});

Deno.test("capture(): an update outside of the captured backward uses its gradients", async () => {
  const losses = async (captured: boolean) => {
    const { model, optimizer } = build();
    const body = (x: Tensor, y: Tensor) => {
      const loss = crossEntropy(model.forward(x), y);
      loss.backward();
      return { loss: loss.detach() };
    };
    const step = captured ? capture(body) : (x: Tensor, y: Tensor) => scope(() => body(x, y));
    const [x, y] = [randn([8, 1, 6, 6]), randint(0, 3, { shape: [8] })];
    const seen: number[] = [];
    for (let i = 0; i < 6; i++) {
      optimizer.zeroGrad();
      using loss =
        step(i % 3 === 2 ? x.narrow(0, 0, 4) : x, i % 3 === 2 ? y.narrow(0, 0, 4) : y).loss;
      optimizer.step();
      seen.push(await loss.item());
    }
    return seen;
  };
  assertEquals(await losses(true), await losses(false));
});

Deno.test("capture(): gradients accumulate over several calls of a step", async () => {
  const run = async (captured: boolean) => {
    const { model, optimizer } = build();
    const body = (x: Tensor, y: Tensor) => {
      const loss = crossEntropy(model.forward(x), y).mul(0.25);
      loss.backward();
      return { loss: loss.detach() };
    };
    const step = captured ? capture(body) : (x: Tensor, y: Tensor) => scope(() => body(x, y));
    const losses: number[] = [];
    for (let i = 0; i < 24; i++) {
      if (i % 4 === 0) optimizer.zeroGrad();
      const rows = i % 8 === 7 ? 3 : 8; // another shape now and then
      using loss = step(randn([rows, 1, 6, 6]), randint(0, 3, { shape: [rows] })).loss;
      losses.push(await loss.item());
      if (i % 4 === 3) optimizer.step();
    }
    const graphs = captured ? (step as unknown as { graphs: number }).graphs : 0;
    return { losses, graphs, weights: await readAll(model.parameters()) };
  };
  const [plain, captured] = [await run(false), await run(true)];
  assertEquals(captured.losses, plain.losses);
  assertEquals(captured.weights, plain.weights);
  // One that makes gradients and one that adds to them; of the other shape only the latter.
  assertEquals(captured.graphs, 3);
});

Deno.test("capture(): gradients that nobody drops go on adding up, also to those set by hand", async () => {
  const run = async (captured: boolean) => {
    const w = tensor([1, 2], { requiresGrad: true });
    const body = (x: Tensor) => w.mul(x).sum().backward();
    const step = captured ? capture(body) : (x: Tensor) => scope(() => body(x));
    const seen: number[][] = [];
    for (let i = 0; i < 10; i++) {
      if (i === 5) w.grad = tensor([100, 100]);
      if (i === 7) scope(() => w.square().sum().backward());
      step(tensor([3, 4 + i]));
      seen.push([...await w.grad!.data()] as number[]);
    }
    return seen;
  };
  assertEquals(await run(true), await run(false));
});

Deno.test("capture(): gradients that a step adds to, then drops or replaces, are as without it", async () => {
  const bodies: Record<string, (w: Tensor, x: Tensor, o: nn.optim.SGD) => void> = {
    "drops them": (w, x, o) => {
      w.mul(x).sum().backward();
      o.step();
      o.zeroGrad();
    },
    "replaces them": (w, x) => {
      w.mul(x).sum().backward();
      w.grad = noGrad(() => w.grad!.mul(0.5)).detach();
    },
  };
  for (const [name, body] of Object.entries(bodies)) {
    const run = async (captured: boolean) => {
      const w = tensor([1], { requiresGrad: true });
      const optimizer = new nn.optim.SGD([w], { lr: 0.125 });
      const step = captured
        ? capture((x: Tensor) => body(w, x, optimizer))
        : (x: Tensor) => scope(() => body(w, x, optimizer));
      const seen: number[] = [];
      for (let i = 0; i < 8; i++) {
        if ([1, 2, 5].includes(i)) scope(() => w.mul(tensor([1])).sum().backward());
        step(tensor([1]));
        seen.push(await w.item(), await w.grad?.item() ?? -1);
      }
      return seen;
    };
    assertEquals(await run(true), await run(false), name);
  }
});

Deno.test("capture(): a step reads the gradients that the call before left", async () => {
  const bodies: Record<string, (w: Tensor, x: Tensor, o: nn.optim.SGD) => void> = {
    "updates first": (w, x, o) => {
      o.step();
      o.zeroGrad();
      w.mul(x).square().sum().backward();
    },
    "adds a part of the last": (w, x, o) => {
      const last = w.grad?.clone();
      o.zeroGrad();
      w.mul(x).sum().backward();
      if (last) noGrad(() => w.grad!.add_(last, { alpha: 0.5 }));
    },
    "shrinks it, then adds": (w, x) => {
      noGrad(() => w.grad?.mul_(0.5));
      w.mul(x).sum().backward();
    },
    "shrinks it": (w) => {
      noGrad(() => w.grad?.mul_(0.5));
    },
    "replaces it": (w, x) => {
      w.grad = (w.grad ?? x).mul(x);
    },
    "asks whether there is one": (w, x) => {
      if (w.grad) w.mul(x).square().sum().backward();
      else w.mul(x).sum().backward();
    },
  };
  for (const [name, body] of Object.entries(bodies)) {
    const run = async (captured: boolean) => {
      const w = tensor([1, 2], { requiresGrad: true });
      const optimizer = new nn.optim.SGD([w], { lr: 0.125 });
      const step = captured
        ? capture((x: Tensor) => body(w, x, optimizer))
        : (x: Tensor) => scope(() => body(w, x, optimizer));
      const seen: number[][] = [];
      for (let i = 0; i < 14; i++) {
        if (i === 5 || i === 6) w.grad = tensor([i, 1]);
        if (i === 9) w.grad = null;
        if (i === 11) scope(() => w.square().sum().backward());
        step(tensor([0.5, 0.25 * (i % 5)]));
        seen.push([...await w.data()], [...await w.grad?.data() ?? []]);
      }
      const graphs = captured ? (step as unknown as { graphs: number }).graphs : 0;
      return { seen, graphs };
    };
    const captured = await run(true);
    assertEquals(captured.seen, (await run(false)).seen, name);
    // That with a gradient, and that without one where it was recorded a second time; not one a call.
    if (name !== "shrinks it") assert(captured.graphs <= 2, `${name}: ${captured.graphs} graphs`);
  }
  await synchronize();
});

Deno.test("capture(): a gradient set to a view leaves what it is a view of alone", async () => {
  const bodies: Record<string, (w: Tensor, x: Tensor, o: nn.optim.SGD) => void> = {
    adds: (w, x) => w.mul(x).sum().backward(),
    "adds twice": (w, x) => {
      w.mul(x).sum().backward();
      w.mul(x).square().sum().backward();
    },
    "updates first": (w, x, o) => {
      o.step();
      o.zeroGrad();
      w.mul(x).square().sum().backward();
    },
  };
  for (const [name, body] of Object.entries(bodies)) {
    for (const set of [[0, 1, 2, 3], [1], [3]]) {
      const run = async (captured: boolean) => {
        const w = tensor([1, 2], { requiresGrad: true });
        const flat = tensor([5, 6, 7, 8]);
        const optimizer = new nn.optim.SGD([w], { lr: 0.125 });
        const step = captured
          ? capture((x: Tensor) => body(w, x, optimizer))
          : (x: Tensor) => scope(() => body(w, x, optimizer));
        const seen: number[][] = [];
        for (let i = 0; i < 7; i++) {
          if (set.includes(i)) w.grad = flat.narrow(0, 1, 2);
          step(tensor([1, i]));
          seen.push([...await w.data()], [...await w.grad!.data()], [...await flat.data()]);
        }
        return seen;
      };
      assertEquals(await run(true), await run(false), `${name}, set before ${set}`);
    }
  }
});

Deno.test("capture(): an input may be what the step changes, seen otherwise", async () => {
  const run = async (captured: boolean) => {
    const w = tensor([1, 2], { requiresGrad: true });
    const optimizer = new nn.optim.SGD([w], { lr: 0.125 });
    const body = (o: Tensor) => {
      optimizer.zeroGrad();
      w.mul(o).sum().backward();
      optimizer.step();
    };
    const step = captured ? capture(body) : (o: Tensor) => scope(() => body(o.clone()));
    for (let i = 0; i < 4; i++) step(w.detach());
    return [...await w.data()];
  };
  assertEquals(await run(true), await run(false));
});

Deno.test("capture(): options set by hand between replays count", async () => {
  for (const make of [nn.optim.SGD, nn.optim.Adam]) {
    const ends: number[] = [];
    for (const captured of [true, false]) {
      const w = tensor([1], { requiresGrad: true });
      const optimizer = new make([w], { lr: 0.125 });
      const body = () => {
        optimizer.zeroGrad();
        w.square().sum().backward();
        optimizer.step();
      };
      const step = captured ? capture(body) : () => scope(body);
      for (let i = 0; i < 6; i++) {
        // Another before each call: those that record the step, too.
        optimizer.paramGroups[0]!.lr = i < 4 ? 0.0625 * (i + 1) : 0;
        step();
      }
      ends.push(await w.item());
    }
    assertEquals(ends[0], ends[1], make.name);
  }
});

Deno.test("capture(): options set between replays count for all steps that are in one", async () => {
  for (const make of [nn.optim.SGD, nn.optim.Adam]) {
    const ends: number[] = [];
    for (const captured of [true, false]) {
      const w = tensor([1], { requiresGrad: true });
      const optimizer = new make([w], { lr: 0.125 });
      const body = () => {
        optimizer.zeroGrad();
        w.square().sum().backward();
        optimizer.step();
        optimizer.step();
      };
      const step = captured ? capture(body) : () => scope(body);
      for (let i = 0; i < 6; i++) {
        optimizer.paramGroups[0]!.lr = i < 4 ? 0.0625 / (i + 1) : 0;
        step();
      }
      ends.push(await w.item());
    }
    assertEquals(ends[0], ends[1], make.name);
  }
});

Deno.test("capture(): several steps of an optimizer in one, and of one in several, are as without it", async () => {
  const run = async (make: "SGD" | "Adam" | "AdamW", captured: boolean) => {
    const [a, b] = [tensor([1, 2], { requiresGrad: true }), tensor([3, 4], { requiresGrad: true })];
    const optimizer = make === "SGD"
      ? new nn.optim.SGD([a, b], { lr: 0.125, momentum: 0.5 })
      : new nn.optim[make]([a, b], { lr: 0.125 });
    const [group] = optimizer.paramGroups;
    const update = (loss: () => Tensor) => {
      optimizer.zeroGrad();
      loss().backward();
      optimizer.step();
    };
    const bodies = [
      () => {
        group!.lr = 0.25;
        update(() => a.square().sum());
        group!.lr = 0.0625;
        update(() => a.mul(b).sum());
      },
      () => update(() => a.square().sum()),
      () => update(() => a.mul(b).square().sum()),
    ];
    const steps = bodies.map((body) => captured ? capture(body) : () => scope(body));
    for (let i = 0; i < 4; i++) for (const step of steps) for (let k = 0; k < 3; k++) step();
    return await readAll([a, b]);
  };
  for (const make of ["SGD", "Adam", "AdamW"] as const) {
    assertEquals(await run(make, true), await run(make, false), make);
  }
});

Deno.test("capture(): empty tensors on the way are as without it", async () => {
  const cases: [string, (x: Tensor) => Tensor][] = [
    ["sum", (x) => x.mul(1).sum()],
    ["any", (x) => x.gt(0).any()],
    ["norm", (x) => x.mul(2).norm()],
    ["sum of dim 1", (x) => x.mul(1).sum(1)],
    ["matmul", (x) => x.mul(1).matmul(zeros([0, 3]))],
    ["picked", (x) => x.add(1).indexSelect(1, tensor([], { dtype: "i32" })).sum()],
  ];
  for (const [name, f] of cases) {
    const x = zeros([4, 0]);
    const want = [...await f(x).data()];
    const step = capture(f);
    for (let i = 0; i < 3; i++) assertEquals([...await step(x).data()], want, name);
  }
});

Deno.test({
  name: "capture(): graphs of a function that nobody holds any more are freed",
  ignore: typeof (globalThis as { gc?: unknown }).gc !== "function",
  async fn() {
    const { gc } = globalThis as unknown as { gc: () => void };
    const model = new nn.Linear(64, 64);
    const forget = () => {
      const step = capture((x: Tensor) => ({ y: model.forward(x).square().sum() }));
      for (let i = 0; i < 3; i++) step(zeros([64, 64])).y.dispose();
    };
    // The collector calls when it likes; what other tests left goes first.
    const collect = async (turns: number, until: () => boolean) => {
      for (let turn = 0; turn < turns && !until(); turn++) {
        gc();
        await new Promise((done) => setTimeout(done, 10));
      }
    };
    await collect(20, () => false);
    const { liveBytes } = memory();
    forget();
    assert(memory().liveBytes > liveBytes + 64 * 64 * 4, "a graph holds memory");
    await collect(100, () => memory().liveBytes <= liveBytes);
    assert(memory().liveBytes <= liveBytes, `${memory().liveBytes - liveBytes} bytes are left`);
  },
});

Deno.test("capture(): a constant that the step makes is no tensor to wait for", async () => {
  let runs = 0;
  const step = capture((x: Tensor) => {
    runs++;
    return { y: x.add(tensor([1, 2, 3])) };
  });
  for (let i = 0; i < 5; i++) {
    using y = step(zeros([2, 3])).y;
    assertEquals([...await y.data()], [1, 2, 3, 1, 2, 3]);
  }
  assertEquals([runs, step.graphs], [2, 1]);
});

Deno.test("capture(): what is too large is an error of the op, which may be handled", async () => {
  manualSeed(3);
  const model = new nn.Linear(4, 4);
  const optimizer = new nn.optim.Adam(model.parameters(), { lr: 0.1 });
  let rows = 2 ** 40;
  const step = capture((x: Tensor) => {
    optimizer.zeroGrad();
    const loss = model.forward(x).add(randn([rows, 4]).narrow(0, 0, 8)).add(9).square().mean();
    loss.backward();
    optimizer.step();
    return loss.detach();
  });
  const x = randn([8, 4]);
  const live = memory().liveBytes;
  for (let i = 0; i < 3; i++) assertThrows(() => step(x), RangeError, "Cannot allocate");
  assertNothingLeft(live);
  rows = 8;
  const losses: number[] = [];
  for (let i = 0; i < 30; i++) losses.push(await step(x).item());
  // From 9² towards the variance of the noise.
  assert(losses.at(-1)! < losses[0]! / 2, `${losses}`);
  const either = capture((x: Tensor) => {
    try {
      return zeros([2 ** 40]);
    } catch {
      return x.add(1);
    }
  });
  for (let i = 0; i < 3; i++) assertEquals(await either(tensor([1, 2])).array(), [2, 3]);
});

Deno.test("capture(): a gradient that outlives its graph holds no more than it needs", async () => {
  const w = tensor([1.5], { requiresGrad: true });
  const x = randn([1 << 16]);
  const before = memory().liveBytes;
  const step = capture(() => {
    w.grad = null;
    let y = x.mul(w);
    for (let i = 0; i < 5; i++) y = y.tanh();
    y.sum().backward();
  });
  for (let i = 0; i < 3; i++) step();
  step.dispose();
  await synchronize();
  assert(memory().liveBytes - before <= 512, `${memory().liveBytes - before} bytes`);
});

Deno.test("capture(): under checks results are tensors of their own, and its copies no ops to check", async () => {
  const { check } = debug();
  try {
    for (const how of ["nan", "reference", "off"] as const) {
      setDebug({ check: how });
      const w = tensor([1, 2], { requiresGrad: true });
      const step = capture((x: Tensor) => ({ w, x, y: x.clamp({ min: 0, max: 1 }).mul(w) }));
      for (let i = 0; i < 3; i++) {
        const result = step(tensor([-Infinity, 1]));
        assertEquals(await result.y.array(), [0, 2], how);
        assertEquals(await result.x.array(), [-Infinity, 1], how);
        assert(Object.values(result).every((t) => !t.requiresGrad), how);
        for (const t of Object.values(result)) t.dispose();
      }
      assertEquals(await w.array(), [1, 2], how);
      const five = capture((x: Tensor) => x.size as unknown as Tensor);
      assertThrows(() => five(w.detach()), TypeError, "Cannot return 2 from", how);
      const slow = capture((x: Tensor) => Promise.resolve(x) as unknown as Tensor);
      assertThrows(() => slow(w.detach()), TypeError, "async", how);
    }
  } finally {
    setDebug({ check });
  }
});

Deno.test("capture() says what it cannot record", async () => {
  const x = tensor([1, 2]);
  const reading = capture((x: Tensor) => {
    const y = x.mul(2);
    failed = y.data();
    failed.catch(() => {});
    return y;
  });
  let failed: Promise<unknown> = Promise.resolve();
  reading(x);
  await assertRejects(() => failed, Error, "while capture() records");

  const w = tensor([1], { requiresGrad: true });
  assertThrows(() => capture((x: Tensor) => x)(w), TypeError, "requires a gradient");
  const { seed } = rngState();
  for (const other of [seed, seed + 1]) {
    assertThrows(() => capture(() => manualSeed(other))(), Error, "inside a captured function");
  }
  const mapped = capture((x: Tensor) => new Map([["x", x]]) as unknown as Tensor);
  assertThrows(() => mapped(x), TypeError, "Cannot return a Map");
  const freed = tensor([1]);
  const drawn = capture((x: Tensor) => x.add(randn([1])));
  for (let i = 0; i < 2; i++) drawn(freed);
  const { calls } = rngState();
  freed.dispose();
  assertThrows(() => drawn(freed), Error, "was freed");
  assertEquals(rngState().calls, calls);
  const inner = capture((x: Tensor) => x.mul(2));
  inner(x);
  const outer = capture((x: Tensor) => inner(x));
  assertThrows(() => outer(x), Error, "Cannot capture inside a captured function");
  const slow = capture(
    (async (x: Tensor) => {
      await Promise.resolve();
      return x;
    }) as unknown as (x: Tensor) => Tensor,
  );
  assertThrows(() => slow(x), TypeError, "async");
});
