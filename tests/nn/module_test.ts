import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import {
  CheckError,
  init,
  manualSeed,
  memory,
  nn,
  ones,
  readAll,
  rngState,
  scope,
  setDebug,
  synchronize,
  type Tensor,
  tensor,
  zeros,
} from "../../mod.ts";
import { assertNothingLeft } from "../helpers/memory.ts";

await init();

class Block extends nn.Module {
  conv: nn.Conv2d;
  scale: nn.Parameter;
  act = new nn.ReLU();
  constructor(channels: number) {
    super();
    this.conv = new nn.Conv2d(channels, channels, { kernelSize: 3, padding: 1, bias: false });
    this.registerBuffer("mean", zeros([channels]));
    this.scale = new nn.Parameter(ones([channels]));
    this.registerBuffer("scratch", zeros([1]), { persistent: false });
  }
  override forward(x: Tensor): Tensor {
    return this.act.forward(this.conv.forward(x)).mul(this.scale.reshape(-1, 1, 1));
  }
}

class Net extends nn.Module {
  stem = new nn.Conv2d(1, 2, { kernelSize: 3 });
  blocks = new nn.ModuleList([new Block(2), new Block(2)]);
  head = new nn.Sequential(new nn.Flatten(), new nn.Linear(8, 3));
  gain = new nn.Parameter(ones([1]));
  override forward(x: Tensor): Tensor {
    let y = this.stem.forward(x);
    for (const block of this.blocks) y = block.forward(y);
    return this.head.forward(y).mul(this.gain);
  }
}

const NET_STATE = [
  "gain",
  "stem.weight",
  "stem.bias",
  "blocks.0.scale",
  "blocks.0.mean",
  "blocks.0.conv.weight",
  "blocks.1.scale",
  "blocks.1.mean",
  "blocks.1.conv.weight",
  "head.1.weight",
  "head.1.bias",
];

Deno.test("namedParameters() gives a module's own, then its children's, in order of definition", () => {
  using net = new Net();
  const names = net.namedParameters().map(([name]) => name);
  assertEquals(names, NET_STATE.filter((name) => !name.endsWith("mean")));
  assertEquals(net.parameters().length, names.length);
  assert(net.parameters().every((p) => p instanceof nn.Parameter && p.requiresGrad && p.isLeaf));
});

Deno.test("namedBuffers() and stateDict() differ in buffers that are not persistent", () => {
  using net = new Net();
  assertEquals(net.namedBuffers().map(([name]) => name), [
    "blocks.0.mean",
    "blocks.0.scratch",
    "blocks.1.mean",
    "blocks.1.scratch",
  ]);
  assertEquals(Object.keys(net.stateDict()), NET_STATE);
  assertStrictEquals(net.stateDict()["head.1.bias"], net.parameters().at(-1));
});

Deno.test("namedModules() lists parents first and each module once", () => {
  class Twice extends nn.Module {
    first = new nn.Linear(2, 2);
    again = this.first;
    inner = new nn.Sequential(this.first, new nn.Identity());
    override forward(x: Tensor): Tensor {
      return this.inner.forward(this.again.forward(x));
    }
  }
  using net = new Twice();
  assertEquals(net.namedModules().map(([name]) => name), ["", "first", "inner", "inner.1"]);
  assertEquals(net.namedParameters().map(([name]) => name), ["first.weight", "first.bias"]);
  // As in PyTorch the state has a shared tensor under every name.
  assertEquals(Object.keys(net.stateDict()).filter((name) => name.endsWith("bias")), [
    "first.bias",
    "again.bias",
    "inner.0.bias",
  ]);
});

Deno.test("a parameter outlives the scope it is made in, and takes its data over", async () => {
  const before = memory().liveBytes;
  let data: Tensor | undefined;
  const parameter = scope(() => {
    data = tensor([1, 2, 3]);
    return [new nn.Parameter(data)];
  })[0]!;
  const inner = scope(() => new nn.Linear(2, 2));
  await parameter.data();
  assertEquals([...await parameter.data()], [1, 2, 3]);
  assertThrows(() => data!.add(1), Error, "was freed");
  assertEquals((await inner.bias!.data()).length, 2);
  parameter.dispose();
  inner.dispose();
  await synchronize();
  assertNothingLeft(before);
});

Deno.test("a parameter from a view has memory of its own", async () => {
  using whole = tensor([[1, 2, 3, 4], [5, 6, 7, 8]]);
  using columns = new nn.Parameter(whole.narrow(1, 1, 2));
  using row = new nn.Parameter(whole.narrow(0, 1, 1));
  using all = new nn.Parameter(whole.reshape(8));
  for (const p of [columns, row]) assertEquals([p.device.contiguous, p.device.offset], [true, 0]);
  whole.fill_(0);
  assertEquals([...await columns.data(), ...await row.data()], [2, 3, 6, 7, 5, 6, 7, 8]);
  assertEquals([...await all.data()], [1, 2, 3, 4, 5, 6, 7, 8]);
});

Deno.test("Parameter throws for integers and for another parameter", () => {
  using integers = tensor([1], { dtype: "i32" });
  using shared = new nn.Parameter(ones([1]));
  assertThrows(() => new nn.Parameter(integers), TypeError, "dtype i32: it must be a float");
  assertThrows(() => new nn.Parameter(shared), TypeError, "assign the same object");
});

Deno.test("arrays of modules are refused instead of forgotten", () => {
  class Bad extends nn.Module {
    layers = [new nn.Identity()];
    override forward(x: Tensor): Tensor {
      return x;
    }
  }
  assertThrows(
    () => new Bad().parameters(),
    TypeError,
    "Bad.layers: put modules into a ModuleList",
  );
});

Deno.test("registerBuffer() throws for names that are taken or have a dot", () => {
  using net = new nn.Linear(2, 2);
  using t = zeros([1]);
  assertThrows(() => net.registerBuffer("weight", t), TypeError, "it has a property of that name");
  assertThrows(() => net.registerBuffer("forward", t), TypeError, "it has a property");
  assertThrows(() => net.registerBuffer("a.b", t), TypeError, "must not be empty or have a dot");
});

Deno.test("train(), eval(), requiresGrad_() and apply() reach every module", () => {
  using net = new Net();
  assertStrictEquals(net.eval(), net);
  assert(net.modules().every((module) => !module.training));
  net.train();
  assert(net.modules().every((module) => module.training));
  net.requiresGrad_(false);
  assert(net.parameters().every((p) => !p.requiresGrad));
  const order: string[] = [];
  net.apply((module) => order.push(module.constructor.name));
  assertEquals(order, [
    "Conv2d",
    ...["Conv2d", "ReLU", "Block", "Conv2d", "ReLU", "Block", "ModuleList"],
    ...["Flatten", "Linear", "Sequential"],
    "Net",
  ]);
});

Deno.test("zeroGrad() drops gradients", () => {
  using net = new nn.Linear(2, 1);
  scope(() => net.forward(ones([1, 2])).sum().backward());
  assert(net.weight.grad !== null && net.bias!.grad !== null);
  net.zeroGrad();
  assert(net.weight.grad === null && net.bias!.grad === null);
});

Deno.test("loadStateDict() copies into the tensors that are there", async () => {
  using from = new Net();
  using to = new Net();
  const weight = to.head.at(1)!.namedParameters()[0]![1];
  assertEquals(to.loadStateDict(from.stateDict()), { missing: [], unexpected: [] });
  assertStrictEquals(to.stateDict()["head.1.weight"], weight);
  const [a, b] = [Object.values(from.stateDict()), Object.values(to.stateDict())];
  const data = await readAll([...a, ...b]);
  a.forEach((_, i) => assertEquals(data[i], data[i + a.length]));
  from.gain.requiresGrad_(false).fill_(7);
  assertEquals([...await to.gain.data()], [1]);
});

Deno.test("loadStateDict() lists all that does not fit, and changes nothing", async () => {
  using net = new nn.Sequential(new nn.Linear(2, 3), new nn.Linear(3, 1));
  using zero = zeros([3, 2]);
  using wrong = zeros([1, 4]);
  using more = zeros([3]);
  const dict = { "0.weight": zero, "1.weight": wrong, "fc.bias": more, "0.bias": more };
  const before = [...await net.parameters()[0]!.data()];
  const error = assertThrows(() => net.loadStateDict(dict), TypeError);
  assertEquals(
    error.message,
    "Cannot load the state of Sequential:\n  missing 1.bias\n  unexpected fc.bias\n" +
      "  wrong shape: 1.weight is [1, 4] and must be [1, 3]",
  );
  assertThrows(() => net.loadStateDict(dict, { strict: false }), TypeError, "wrong shape");
  assertEquals([...await net.parameters()[0]!.data()], before);

  const { "1.weight": _, ...rest } = dict;
  assertEquals(net.loadStateDict(rest, { strict: false }), {
    missing: ["1.weight", "1.bias"],
    unexpected: ["fc.bias"],
  });
  assertEquals([...await net.parameters()[0]!.data()], [0, 0, 0, 0, 0, 0]);
});

Deno.test("a state without any count of batches is one of an old PyTorch, and loads", () => {
  using net = new nn.Sequential(new nn.BatchNorm2d(2), new nn.BatchNorm2d(2));
  const names = Object.keys(net.stateDict());
  const without = (part: string) =>
    Object.fromEntries(Object.entries(net.stateDict()).filter(([name]) => !name.includes(part)));
  assertEquals(names.filter((name) => name.includes("batches")).length, 2);
  assertEquals(net.loadStateDict(without("num_batches_tracked")), { missing: [], unexpected: [] });
  // Beside another count it is missing.
  assertThrows(
    () => net.loadStateDict(without("1.num_batches_tracked")),
    TypeError,
    "missing 1.num_batches_tracked",
  );
});

Deno.test("a name of Object's is missing like any other", () => {
  class Odd extends nn.Module {
    override forward(x: Tensor): Tensor {
      return x;
    }
  }
  using net = new Odd();
  Object.assign(net, { valueOf: new nn.Parameter(ones([1])) });
  assertThrows(() => net.loadStateDict({}), TypeError, "missing valueOf");
});

Deno.test("to() converts floats, shared ones once, and frees the old ones", async () => {
  const before = memory().liveBytes;
  using net = new nn.Sequential(new nn.Linear(2, 2), new nn.Linear(2, 2));
  const [first, second] = [...net] as [nn.Linear, nn.Linear];
  second.weight.dispose();
  second.weight = first.weight;
  first.bias!.requiresGrad_(false);
  const old = first.weight;
  net.to("f16");
  assertStrictEquals(first.weight, second.weight);
  assertEquals(net.parameters().map((p) => p.dtype), ["f16", "f16", "f16"]);
  assertEquals(net.parameters().map((p) => p.requiresGrad), [true, false, true]);
  assertThrows(() => old.add(1), Error, "was freed");
  assertThrows(() => net.to("i32"), TypeError, "must be f32 or f16");
  net.dispose();
  await synchronize();
  assertNothingLeft(before);
});

Deno.test("toString() prints as PyTorch does", () => {
  using net = new Net();
  assertEquals(
    `${net}`,
    `Net(
  (stem): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))
  (blocks): ModuleList(
    (0-1): 2 x Block(
      (conv): Conv2d(2, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
      (act): ReLU()
    )
  )
  (head): Sequential(
    (0): Flatten(start_dim=1, end_dim=-1)
    (1): Linear(in_features=8, out_features=3, bias=True)
  )
)`,
  );
  assertEquals(Deno.inspect(new nn.Sequential()), "Sequential()");
});

Deno.test("summary() prints torchsummary's table, draws nothing and leaves modes alone", () => {
  using net = new nn.Sequential(
    new nn.Conv2d(1, 4, { kernelSize: 3, padding: 1 }),
    new nn.ReLU(),
    new nn.Sequential(new nn.MaxPool2d(2), new nn.Dropout()),
    new nn.Flatten(),
    new nn.Linear(4 * 4 * 4, 10),
  );
  net.at(0)!.requiresGrad_(false);
  net.at(3)!.eval();
  manualSeed(3);
  const before = memory().liveBytes;
  // 1 sample of 64 elements; outputs 256 + 256 + 64 + 64 + 64 + 10, twice; 690 parameters.
  assertEquals(
    net.summary([1, 8, 8]),
    `----------------------------------------------------------------
        Layer (type)               Output Shape         Param #
================================================================
            Conv2d-1              [-1, 4, 8, 8]              40
              ReLU-2              [-1, 4, 8, 8]               0
         MaxPool2d-3              [-1, 4, 4, 4]               0
           Dropout-4              [-1, 4, 4, 4]               0
           Flatten-5                   [-1, 64]               0
            Linear-6                   [-1, 10]             650
================================================================
Total params: 690
Trainable params: 650
Non-trainable params: 40
----------------------------------------------------------------
Input size (MB): 0.00
Forward/backward pass size (MB): 0.01
Params size (MB): 0.00
Estimated Total Size (MB): 0.01
----------------------------------------------------------------`,
  );
  assertEquals(rngState().calls, 0);
  assertNothingLeft(before);
  assertEquals(net.modules().map((m) => m.training), [
    ...[true, true, true, true, true, true],
    ...[false, true],
  ]);
});

Deno.test("summary() gives a lone layer a line", () => {
  using layer = new nn.Linear(3, 2);
  assert(layer.summary([3]).includes("Linear-1                    [-1, 2]               8"));
});

Deno.test("LATHE_CHECK=nan names the module by its path", async () => {
  using net = new Net();
  net.namedParameters().find(([name]) => name === "blocks.1.conv.weight")![1]
    .requiresGrad_(false).fill_(Infinity);
  setDebug({ check: "nan" });
  try {
    await assertRejects(
      async () => {
        const y = scope(() => net.forward(ones([1, 1, 4, 4])));
        await y.data();
      },
      CheckError,
      "Op conv2d in Net.blocks.1.conv:",
    );
  } finally {
    setDebug({ check: "off" });
  }
});

Deno.test("a forward that throws leaves no module behind on the path", async () => {
  class Fails extends nn.Module {
    override forward(_x: Tensor): Tensor {
      throw new Error("on purpose");
    }
  }
  using bad = new nn.Sequential(new Fails());
  using good = new nn.Linear(1, 1);
  good.weight.requiresGrad_(false).fill_(NaN);
  setDebug({ check: "nan" });
  try {
    using x = ones([1, 1]);
    assertThrows(() => bad.forward(x), Error, "on purpose");
    using y = good.forward(x);
    await assertRejects(() => y.data(), CheckError, "in Linear:");
  } finally {
    setDebug({ check: "off" });
  }
});

Deno.test("ModuleList holds modules and has no forward", () => {
  const list = new nn.ModuleList([new nn.ReLU(), new nn.Tanh()]);
  list.append(new nn.Sigmoid());
  assertEquals(list.length, 3);
  assertEquals([...list].map((m) => `${m}`), ["ReLU()", "Tanh()", "Sigmoid()"]);
  assertStrictEquals(list.at(-1), list[2]);
  assertThrows(() => list.forward(), TypeError, "call its modules one by one");
});
