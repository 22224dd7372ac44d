import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import {
  autocast,
  capture,
  enableGrad,
  init,
  manualSeed,
  memory,
  nn,
  noGrad,
  ones,
  randn,
  scope,
  setDebug,
  type Tensor,
  tensor,
} from "../../mod.ts";
import { debug } from "../../engine/gpu/debug.ts";
import { Setting, settingChanges } from "../../engine/setting.ts";

const info = await init();

/** Calls `body` under changes between the calls, captured and not; what it gave, and how often it ran. */
async function both<T>(
  build: () => {
    body: (x: Tensor) => Tensor;
    between: (i: number) => unknown;
    around?: (i: number, call: () => Tensor) => Tensor;
    after?: () => Promise<T>;
  },
  calls: number,
) {
  const one = async (captured: boolean) => {
    manualSeed(5);
    const { body, between, around = (_, call) => call(), after } = build();
    let runs = 0;
    const counted = (x: Tensor) => (runs++, body(x));
    const step = capture(counted);
    const seen: number[][] = [];
    for (let i = 0; i < calls; i++) {
      between(i);
      const x = randn([6, 4]);
      using y = around(i, () => captured ? step(x) : scope(() => counted(x)));
      seen.push([...await y.data()]);
    }
    const graphs = step.graphs;
    step.dispose();
    return { seen, graphs, runs, after: await after?.() };
  };
  const [plain, captured] = [await one(false), await one(true)];
  assertEquals(captured.seen, plain.seen);
  assertEquals(captured.after, plain.after);
  return captured;
}

/** Dropout and batch statistics, one of them two modules further in. */
function net(): nn.Sequential {
  return new nn.Sequential(
    new nn.Linear(4, 8),
    new nn.Sequential(new nn.BatchNorm1d(8), new nn.Dropout(0.5)),
    new nn.Linear(8, 2),
  );
}

Deno.test("capture(): train() and eval() between the calls have a graph each, which is kept", async () => {
  const { graphs, runs } = await both(() => {
    const model = net();
    return {
      body: (x) => model.forward(x),
      between: (i) => model.train(i % 6 < 3),
      after: async () => [...await model.buffers()[0]!.data()],
    };
  }, 18);
  // Two calls that record for the first mode, one for the other; no more, however often it changes.
  assertEquals({ graphs, runs }, { graphs: 2, runs: 3 });
});

Deno.test("capture(): a whole training step notices eval() of a part, and training set by hand", async () => {
  const { graphs, runs } = await both(() => {
    const model = net();
    const optimizer = new nn.optim.SGD(model.parameters(), { lr: 0.1, momentum: 0.9 });
    const [norm] = model.modules().filter((m) => m instanceof nn.BatchNorm1d);
    return {
      body: (x) => {
        optimizer.zeroGrad();
        const loss = model.forward(x).square().mean();
        loss.backward();
        optimizer.step();
        return loss.detach();
      },
      between(i) {
        if (i % 5 === 4) norm!.training = !norm!.training;
      },
    };
  }, 20);
  assertEquals({ graphs, runs }, { graphs: 2, runs: 3 });
});

Deno.test("capture(): code that reads module.training has a graph for each mode", async () => {
  class Net extends nn.Module {
    inner = new nn.Linear(4, 2);
    override forward(x: Tensor): Tensor {
      const y = this.inner.forward(x);
      return this.training ? y.mul(3) : y;
    }
  }
  const { graphs } = await both(() => {
    const model = new Net();
    return { body: (x) => model.forward(x), between: (i) => model.train(i % 4 < 2) };
  }, 12);
  assertEquals(graphs, 2);
});

Deno.test("capture(): modes that nobody asks for, and those that the step sets itself, record nothing anew", async () => {
  const { graphs, runs } = await both(() => {
    const [model, other] = [net(), net()];
    return {
      body(x) {
        model.eval();
        const y = model.forward(x);
        model.train();
        return y.add(model.forward(x));
      },
      between(i) {
        other.train(i % 2 === 0);
        model.train(i % 3 === 0);
      },
    };
  }, 8);
  assertEquals({ graphs, runs }, { graphs: 1, runs: 2 });
});

Deno.test("capture(): freezing and unfreezing parameters between the calls counts", async () => {
  for (const make of ["SGD", "Adam"] as const) {
    const { graphs, runs } = await both(() => {
      const model = new nn.Sequential(new nn.Linear(4, 3), new nn.Tanh(), new nn.Linear(3, 2));
      const optimizer = new nn.optim[make](model.parameters(), { lr: 0.1 });
      const first = model.children()[0]!;
      first.requiresGrad_(false);
      return {
        body: (x) => {
          optimizer.zeroGrad();
          const loss = model.forward(x).square().mean();
          loss.backward();
          optimizer.step();
          return loss.detach();
        },
        between(i) {
          if (i % 5 === 4) first.requiresGrad_(i % 2 === 0);
        },
        after: async () =>
          await Promise.all(model.parameters().map(async (p) => [...await p.data()])),
      };
    }, 20);
    assertEquals(graphs, 2, make);
    // Adam makes the state of what was frozen in a call of its own.
    assert(runs <= 4, `${make}: ${runs} runs`);
  }
});

Deno.test("capture(): groups added to an optimizer, and options that change its dispatches, count", async () => {
  const { SGD, Adam, RMSprop } = nn.optim;
  // Their options differ; what is called here does not.
  interface Any {
    readonly paramGroups: readonly object[];
    addParamGroup(group: { params: nn.Parameter[]; lr: number }): void;
    zeroGrad(): void;
    step(): void;
  }
  type Change = (o: Any, rest: nn.Parameter[]) => void;
  const set = (options: object): Change => (o) => void Object.assign(o.paramGroups[0]!, options);
  const add: Change = (o, params) => o.addParamGroup({ params, lr: 0.05 });
  const cases: [string, (params: nn.Parameter[]) => Any, Change][] = [
    ["a group", (p) => new SGD(p, { lr: 0.1 }), add],
    ["a group of Adam's", (p) => new Adam(p, { lr: 0.1 }), add],
    ["momentum", (p) => new SGD(p, { lr: 0.1 }), set({ momentum: 0.5 })],
    ["no momentum", (p) => new SGD(p, { lr: 0.1, momentum: 0.5 }), set({ momentum: 0 })],
    ["amsgrad", (p) => new Adam(p, { lr: 0.1 }), set({ amsgrad: true })],
    ["centered", (p) => new RMSprop(p, { lr: 0.01 }), set({ centered: true, momentum: 0.5 })],
  ];
  for (const [name, make, change] of cases) {
    const { runs } = await both(() => {
      const model = new nn.Sequential(new nn.Linear(4, 3), new nn.Linear(3, 2));
      const [first, second] = model.children().map((layer) => layer.parameters());
      const optimizer = make(first!);
      return {
        body(x) {
          optimizer.zeroGrad();
          const loss = model.forward(x).square().mean();
          loss.backward();
          optimizer.step();
          return loss.detach();
        },
        between: (i) => i === 4 && change(optimizer, second!),
      };
    }, 10);
    assert(runs <= 4, `${name}: ${runs} runs`);
  }
});

Deno.test("capture(): requiresGrad_ of a tensor that was a constant counts", async () => {
  const { graphs } = await both(() => {
    const [w, c] = [tensor([1, 2, 3, 4], { requiresGrad: true }), tensor([2, 2, 2, 2])];
    return {
      body: (x) => {
        w.grad = null;
        c.grad = null;
        x.mul(w).mul(c).sum().backward();
        return w.grad!.add(c.grad ?? 0);
      },
      between: (i) => c.requiresGrad_(i % 6 > 2),
    };
  }, 12);
  assertEquals(graphs, 2);
});

Deno.test("capture(): noGrad and enableGrad around the call have a graph each", async () => {
  const { graphs } = await both(() => {
    const w = tensor([1, 2, 3, 4], { requiresGrad: true });
    return {
      body: (x) => {
        const y = x.mul(w).sum();
        w.grad = null;
        if (y.requiresGrad) y.backward();
        return w.grad ? y.detach().add(w.grad) : y.detach();
      },
      between() {},
      around: (i, call) =>
        i % 4 < 2 ? call() : noGrad(() => i % 4 === 2 ? call() : enableGrad(call)),
    };
  }, 12);
  assertEquals(graphs, 2);
});

Deno.test({
  name: "capture(): autocast around the call has a graph of its own",
  ignore: !info.features.has("shader-f16"),
  async fn() {
    const dtypes: string[] = [];
    const { graphs } = await both(() => {
      const model = new nn.Linear(4, 8);
      return {
        body: (x) => model.forward(x),
        between() {},
        around(i, call) {
          const y = i % 4 < 2 ? call() : autocast({ enabled: i % 4 === 2 }, call);
          dtypes.push(y.dtype);
          return y;
        },
      };
    }, 12);
    assertEquals(graphs, 2);
    assertEquals(dtypes.slice(12), dtypes.slice(0, 12));
    assertEquals(dtypes.slice(0, 4), ["f32", "f32", "f16", "f32"]);
  },
});

/** A module with fields of all kinds. */
class Mixed extends nn.Module {
  first: nn.Linear = new nn.Linear(4, 4);
  readonly rest = new nn.ModuleList([new nn.Linear(4, 4), new nn.Linear(4, 2)]);
  readonly drop = new nn.Dropout(0.5) as { p: number } & nn.Dropout;
  factor = 1;
  kind = "relu";
  activation: (x: Tensor) => Tensor = (x) => x.tanh();
  readonly shifts = [1, 2];
  readonly config = { scale: 1 };
  calls = 0;
  seen: Tensor | null = null;
  #asked = 0;

  override forward(x: Tensor): Tensor {
    this.calls++;
    this.#asked++;
    let y = this.drop.forward(this.first.forward(x)).mul(this.factor);
    if (this.kind === "relu") y = y.relu();
    y = this.activation(y).mul(this.config.scale);
    for (const [i, layer] of [...this.rest].entries()) {
      y = layer.forward(y as never) as Tensor;
      y = y.add(this.shifts[i]!);
    }
    this.seen = y;
    return y;
  }
  count(): number {
    return ++this.#asked;
  }
}

Deno.test("capture(): fields of modules that are set between the calls count", async () => {
  const other = () => new nn.Linear(4, 4);
  const changes: Record<string, (m: Mixed) => unknown> = {
    "p of a layer": (m) => m.drop.p = 0.25,
    "a number": (m) => m.factor = 3,
    "NaN": (m) => m.factor = NaN,
    "a text": (m) => m.kind = "none",
    "a function": (m) => m.activation = (x) => x.sigmoid(),
    "an entry of an array": (m) => m.shifts[1] = 5,
    "a value of an object": (m) => m.config.scale = 0.5,
    "a layer": (m) => m.first = other(),
    "a layer of a list": (m) => Object.assign(m.rest, { 0: other() }),
    "a weight": (m) => m.first.weight = new nn.Parameter(ones([4, 4])),
  };
  for (const [name, change] of Object.entries(changes)) {
    const { graphs, runs } = await both(() => {
      const model = new Mixed();
      return {
        body: (x) => model.forward(x),
        between: (i) => i === 4 && change(model),
      };
    }, 8);
    assertEquals({ graphs, runs }, { graphs: 2, runs: 3 }, name);
  }
});

Deno.test("capture(): going back to a field's earlier value costs nothing", async () => {
  const { graphs, runs } = await both(() => {
    const model = new Mixed();
    return { body: (x) => model.forward(x), between: (i) => model.drop.p = 0.25 * (i % 3) };
  }, 15);
  assertEquals({ graphs, runs }, { graphs: 3, runs: 4 });
});

Deno.test("capture(): fields that the step itself sets, and private ones, record nothing anew", async () => {
  const { graphs, runs } = await both(() => {
    const model = new Mixed();
    return {
      body: (x) => model.forward(x),
      between(i) {
        model.count();
        model.train(i % 2 === 0); // so that two graphs leave their own values in `calls` and `seen`
      },
    };
  }, 12);
  assertEquals({ graphs, runs }, { graphs: 2, runs: 3 });
});

Deno.test("capture(): a field that changes from call to call is named once, one that seldom does is not", async () => {
  const { write } = debug();
  const lines: string[] = [];
  setDebug({ write: (line) => lines.push(line) });
  try {
    const set = (value: (i: number) => number) =>
      both(() => {
        const model = new Mixed();
        return { body: (x) => model.forward(x), between: (i) => model.factor = value(i) };
      }, 30);
    const { graphs } = await set((i) => i);
    assertEquals(graphs, 8);
    assertEquals(lines.length, 1);
    assertStringIncludes(lines[0]!, "Mixed.factor changes");
    await set((i) => Math.floor(i / 3));
    assertEquals(lines.length, 1);
  } finally {
    setDebug({ write });
  }
});

Deno.test({
  name: "capture(): a graph holds neither the modules nor the constants that it asked",
  ignore: typeof (globalThis as { gc?: unknown }).gc !== "function",
  async fn() {
    const { gc } = globalThis as unknown as { gc: () => void };
    class Net extends nn.Module {
      drop = new nn.Dropout(0.5);
      readonly factor = ones([64, 64]);
      // The module holds the function: were it held by the graphs, none of them would ever be freed.
      readonly step = capture((x: Tensor) => this.forward(x));
      override forward(x: Tensor): Tensor {
        return this.drop.forward(x).mul(this.factor);
      }
    }
    const collect = async (until: () => boolean) => {
      for (let turn = 0; turn < 100 && !until(); turn++) {
        gc();
        await new Promise((done) => setTimeout(done, 10));
      }
    };
    await collect(() => false);
    const { liveBytes } = memory();
    const forget = () => {
      const net = new Net();
      using x = randn([64, 64]);
      for (let i = 0; i < 6; i++) net.train(i % 2 === 0).step(x).dispose();
      return net.step.graphs;
    };
    assertEquals(forget(), 2);
    assert(memory().liveBytes > liveBytes);
    await collect(() => memory().liveBytes <= liveBytes);
    assert(memory().liveBytes <= liveBytes, `${memory().liveBytes - liveBytes} bytes are left`);
  },
});

Deno.test("settingChanges() counts only settings that become another", () => {
  const setting = new Setting(1);
  const before = settingChanges();
  setting.value = 1;
  assertEquals(settingChanges(), before);
  setting.value = 2;
  assertEquals([settingChanges(), setting.value], [before + 1, 2]);
  const w = tensor([1], { requiresGrad: true });
  w.requiresGrad_(true);
  assertEquals(settingChanges(), before + 1);
  w.requiresGrad_(false);
  assertEquals(settingChanges(), before + 2);
});
