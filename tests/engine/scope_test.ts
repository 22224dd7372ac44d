/** Lifetimes. Every test frees all it made, so that no garbage of one test moves another's counts. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { noGrad } from "../../engine/autograd.ts";
import { ones, randn, tensor, zeros } from "../../engine/creation.ts";
import { checkpoint, grad } from "../../engine/functions_autograd.ts";
import { gpu, init } from "../../engine/gpu/device.ts";
import { setDebug } from "../../engine/gpu/debug.ts";
import { memory, readAll, synchronize } from "../../engine/read.ts";
import { keep, scope } from "../../engine/scope.ts";
import type { Tensor } from "../../engine/tensor.ts";
import { collectedTensors } from "../../engine/tensor_base.ts";

await init();
randn([1]).dispose(); // the generator's own buffer stays

/** A test that must leave live bytes and buffers as it found them. */
function balanced(name: string, fn: () => void | Promise<void>): void {
  Deno.test(name, async () => {
    const { liveBytes, buffers } = memory();
    await fn();
    assertEquals([memory().liveBytes, memory().buffers], [liveBytes, buffers], "left behind");
  });
}

balanced("a training step leaves live bytes where it found them, 100 times", async () => {
  const [w1, w2] = [
    keep(randn([8, 16], { requiresGrad: true })),
    keep(randn([16, 4], { requiresGrad: true })),
  ];
  const x = tensor(Array.from({ length: 40 }, (_, i) => Math.sin(i)), { shape: [5, 8] });
  let loss = zeros([]);
  let baseline = 0;
  const pooled: number[] = [];
  for (let step = 0; step < 100; step++) {
    const next = scope(() => {
      const y = x.matmul(w1).relu().matmul(w2).logSoftmax(1).square().mean();
      y.backward();
      noGrad(() => {
        for (const w of [w1, w2]) w.add_(w.grad!, { alpha: -0.02 });
      });
      w1.grad = w2.grad = null;
      return y.detach();
    });
    loss.dispose();
    loss = next;
    if (step === 1) baseline = memory().liveBytes;
    if (step >= 1) assertEquals(memory().liveBytes, baseline, `step ${step}`);
    pooled.push(memory().pooledBytes);
  }
  // log² softmax is least, log² 4 = 1.92, where all four classes are equally likely.
  const last = await loss.item();
  assert(last > Math.log(4) ** 2 && last < 2, `loss ${last}`);
  assertEquals(pooled[99], pooled[10], "the pool grows");
  for (const t of [w1, w2, x, loss]) t.dispose();
});

balanced("scope() keeps what it returns, however deep, and what keep() names", async () => {
  let kept: Tensor | undefined;
  const outside = tensor([1]);
  const result = scope(() => {
    kept = keep(outside.add(1));
    const lost = outside.add(2);
    const inner = scope(() => [lost.add(3), lost.add(4)] as const);
    outside.add(5);
    return {
      a: inner[0],
      list: [[outside.add(6)]],
      map: new Map([["m", outside.add(7)]]),
      same: outside,
      words: "no tensor",
      none: null,
    };
  });
  const found = [result.a, result.list[0]![0]!, result.map.get("m")!, kept!, outside];
  assertEquals((await readAll(found)).map((d) => d[0]), [6, 7, 8, 2, 1]);
  for (const t of found) t.dispose();
});

balanced("scope() frees everything when its function throws", () => {
  assertThrows(
    () =>
      scope(() => {
        ones([10]).exp();
        throw new Error("stop");
      }),
    Error,
    "stop",
  );
});

balanced("scope() refuses async functions and frees what they made", async () => {
  let made: Tensor | undefined;
  assertThrows(
    () =>
      scope(async () => {
        made = ones([10]);
        await Promise.resolve();
      }),
    TypeError,
    "Cannot scope an async function",
  );
  assertThrows(() => made!.add(1), Error, "was freed");
  await synchronize();
});

balanced("a freed tensor names its shape when it is used, and may be freed again", () => {
  const x = ones([2, 3]);
  const view = x.reshape(3, 2);
  x.dispose();
  x.dispose();
  const message = "Cannot use a tensor [2, 3] that was freed: return it from scope() or keep() it";
  assertThrows(() => x.add(1), Error, message);
  assertThrows(() => x.device, Error, message);
  view.add(1).dispose(); // the memory lives as long as a view of it
  view.dispose();
});

balanced("using frees at the end of the block", () => {
  let outer: Tensor;
  {
    using x = ones([4]);
    using y = x.mul(2);
    outer = y;
    assertEquals(memory().buffers > 0, true);
  }
  assertThrows(() => outer.add(1), Error, "was freed");
});

balanced("disposing of a result frees the graph behind it", () => {
  using x = tensor([1, 2, 3], { requiresGrad: true });
  const before = memory().buffers;
  const y = scope(() => x.exp().exp().exp().sum()); // each exp saves its output
  assertEquals(memory().buffers, before + 4);
  y.dispose();
  assertEquals(memory().buffers, before);
});

balanced("backward() frees saved tensors as it passes them", () => {
  using x = tensor([1, 2, 3], { requiresGrad: true });
  const before = memory().buffers;
  using y = scope(() => x.exp().exp().exp().sum());
  y.backward();
  assertEquals(memory().buffers, before + 2); // y and the gradient
});

balanced("a long chain neither overflows the stack nor keeps its memory", async () => {
  using x = tensor([1], { requiresGrad: true });
  const before = memory().buffers;
  scope(() => {
    let y: Tensor = x;
    for (let i = 0; i < 3000; i++) y = y.mul(1);
    y.sum().backward();
  });
  assertEquals(await x.grad!.array(), [1]);
  assertEquals(memory().buffers, before + 1);
});

balanced("a gradient that reaches a freed leaf is dropped", () => {
  using y = scope(() => {
    const x = tensor([1, 2], { requiresGrad: true });
    return x.square().sum();
  });
  y.backward();
});

balanced("an op that fails half-way frees what it took", () => {
  using a = tensor([[1, 2]]);
  const { launch } = gpu().queue;
  gpu().queue.launch = () => {
    throw new Error("planted");
  };
  try {
    for (const fail of [() => a.transpose(0, 1).softmax(0), () => a.exp(), () => a.sum()]) {
      assertThrows(() => scope(fail), Error, "planted");
    }
  } finally {
    gpu().queue.launch = launch;
  }
});

balanced("a gradient that is returned or kept outlives its leaf", async () => {
  let kept: Tensor | undefined;
  const given = scope(() => {
    const inner = scope(() => {
      const [x, y, z] = [[1, 2], [3, 4], [5, 6]].map((v) => tensor(v, { requiresGrad: true }));
      x!.mul(y!).mul(z!).sum().backward();
      kept = keep(z!.grad!);
      return { grads: [x!.grad] };
    });
    const w = tensor([1, 1], { requiresGrad: true });
    w.mul(inner.grads[0]!).sum().backward();
    return w.grad!;
  });
  assertEquals(await given.array(), [15, 24]);
  assertEquals(await kept!.array(), [3, 8]);
  for (const t of [given, kept!]) t.dispose();

  // Of a leaf that lives on it stays the leaf's.
  const leaf = tensor([2], { requiresGrad: true });
  scope(() => (leaf.square().sum().backward(), leaf.grad));
  assertEquals(await leaf.grad!.array(), [4]);
  leaf.dispose();
});

balanced("a walk back that fails keeps nothing of what it collected", () => {
  scope(() => {
    const x = tensor([1, 2], { requiresGrad: true });
    const y = x.square();
    const z = y.exp();
    noGrad(() => x.add_(1));
    assertThrows(() => grad(z.mul(3).sum(), [z, y, x]), Error, "changed in place");
    assertThrows(() => grad([z.sum(), z], [y]), TypeError, "without a seed");
  });
});

balanced("integers made of a graph do not hold it", () => {
  using x = tensor([1, 2], { requiresGrad: true });
  scope(() => {
    for (const dtype of ["i32", "u32", "bool"] as const) {
      assert(!x.exp().mul(2).to(dtype).requiresGrad);
    }
    assert(!checkpoint((t) => t!.exp().to("i32"), x).requiresGrad);
  });
});

balanced("peakBytes is the most that was live", () => {
  gpu().pool.resetPeak();
  const before = memory();
  using _a = zeros([1 << 16]);
  zeros([1 << 18]).dispose();
  assertEquals(memory().peakBytes, before.liveBytes + 4 * ((1 << 16) + (1 << 18)));
});

Deno.test("the garbage collector frees what nobody did, and counts it", async () => {
  // V8 gives gc() to modules by a flag only; without it, allocating makes it run sooner or later.
  const before = collectedTensors();
  const lines: string[] = [];
  setDebug({ level: 1, write: (line) => lines.push(line) });
  const { buffers } = memory();
  for (let i = 0; i < 30; i++) zeros([16]);
  // What leaves its scopes is nobody's, too.
  for (let i = 0; i < 10; i++) scope(() => scope(() => [zeros([16])]));
  for (let i = 0; i < 10; i++) scope(() => void keep(zeros([16])));
  assertEquals(memory().buffers, buffers + 50);
  for (let i = 0; i < 200 && collectedTensors() < before + 50; i++) {
    new Array(1 << 20).fill(i);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert(collectedTensors() - before >= 50);
  assert(memory().buffers <= buffers);
  setDebug({ level: 0, write: console.error });
  const counts = lines.map((line) =>
    Number(/^\[lathe\] the garbage collector freed (\d+) /.exec(line)?.[1])
  );
  assertEquals(counts.reduce((a, b) => a + b, 0), collectedTensors() - before, lines.join("\n"));
  assert(lines.length <= 10, `${lines.length} lines`);
});
