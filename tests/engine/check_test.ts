/** LATHE_CHECK and LATHE_DEBUG: planted faults are found and named. */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import type { DeviceArray } from "../../engine/array.ts";
import { inModule } from "../../engine/check.ts";
import { ones, randn, tensor, zeros } from "../../engine/creation.ts";
import { CheckError } from "../../engine/errors.ts";
import { checkpoint } from "../../engine/functions_autograd.ts";
import { conv2d, dropout } from "../../engine/functions.ts";
import { crossEntropy } from "../../engine/functions_loss.ts";
import { debug, setDebug } from "../../engine/gpu/debug.ts";
import { gpu, init } from "../../engine/gpu/device.ts";
import { defineOp, type Op } from "../../engine/op.ts";
import { pointwise } from "../../engine/ops/launch_pointwise.ts";
import { memory, synchronize } from "../../engine/read.ts";
import { scope } from "../../engine/scope.ts";
import { apply, type Tensor } from "../../engine/tensor.ts";
import { ROOT } from "../helpers/source.ts";

await init();

function map(name: string, expression: string, x: DeviceArray): DeviceArray {
  return pointwise({ name, inputs: { x }, expression, compute: "f32", result: "f32" }, x);
}

/** x + 1, but too much above 5: by a quarter from 6 to 7, else by 1 %. Its gradient is NaN there. */
const planted: Op<Record<never, never>> = defineOp<Record<never, never>>({
  name: "plantedFault",
  check: ([x]) => [x!],
  forward(ctx, [x]) {
    ctx.save(x!);
    return [
      map(
        "planted",
        "(x + 1.0) * select(select(1.0, 1.01, x > 5.0), 1.25, x >= 6.0 && x < 7.0)",
        x!,
      ),
    ];
  },
  backward(ctx) {
    return [map("planted_backward", "select(1.0, log(-x), x > 5.0)", ctx.saved[0]!)];
  },
  reference: ([x]) => [{ ...x!, data: x!.data.map((v) => v + 1) }],
  samples: [],
});

function fault(x: Tensor): Tensor {
  return apply(planted, [x], {})[0]!;
}

/** A test under a check mode, which it leaves again. */
function checking(check: "reference" | "nan", name: string, fn: () => Promise<void>): void {
  Deno.test(name, async () => {
    await synchronize();
    setDebug({ check });
    try {
      await fn();
    } finally {
      setDebug({ check: "off" });
    }
  });
}

checking("reference", "LATHE_CHECK=1 names the op, the modules and the element", async () => {
  const x = tensor([[1, 2], [3, 6]]);
  const y = inModule("Net", () => inModule("body.0", () => fault(x).mul(2)));
  await assertRejects(
    () => y.data(),
    CheckError,
    "Op plantedFault in Net.body.0: output 0 [2, 2] is 8.75 at [1, 1], the float64 reference gives 7",
  );
  assertEquals(await fault(tensor([1])).array(), [2], "said once");
  fault(x);
  await assertRejects(() => synchronize(), CheckError, "Op plantedFault: output 0");
});

checking("reference", "LATHE_CHECK=1 finds 1 % in ops of any scale and size", async () => {
  for (const at of [5.5, 200, 1e5, 1e20]) {
    const x = tensor([at, -at, at / 3]);
    fault(x);
    await assertRejects(() => synchronize(), CheckError, "Op plantedFault");
  }
  const large = zeros([300, 300]);
  large.select(0, 299).slice(0, 299).fill_(5.5);
  fault(large);
  await assertRejects(() => synchronize(), CheckError, "at [299, 299]");
});

checking("reference", "LATHE_CHECK=1 is silent about what is right", async () => {
  scope(() => {
    const x = randn([4, 3, 8, 8], { requiresGrad: true });
    const w = randn([5, 3, 3, 3], { requiresGrad: true });
    const y = inModule("Net", () => dropout(conv2d(x, w, { padding: 1 }).relu(), 0.5)).flatten(1);
    const target = tensor([0, 1, 2, 3], { dtype: "i32" });
    const logits = y.mul(10).matmul(randn([320, 4])).to("f16").to("f32");
    crossEntropy(logits, target).add(logits.topk(2).values.exp().log().mean()).backward();
    logits.argmax(1).eq(target).to("f32").mean();
    x.max().maximum(x.min()).add(x.reshape(-1).sum());
    tensor([3, 4], { dtype: "u32" }).sub(tensor([4, 3], { dtype: "u32" })); // wraps
    zeros([2 ** 17]).max(); // more elements than a call takes arguments
  });
  await synchronize();
});

checking("reference", "LATHE_CHECK=1 lets long products round at every factor", async () => {
  // 3 · fl(1/3) = 1 + 2^-25 rounds to 1 each time: 2,048 pairs are 2^-14 off, 1,024 units of 2^-24.
  const pairs = tensor(Array.from({ length: 4096 }, (_, i) => i % 2 ? 1 / 3 : 3));
  const products = pairs.cumprod(0);
  await synchronize();
  assertEquals((await products.data()).at(-1), 1, "every pair has rounded");
});

checking("nan", "LATHE_CHECK=nan names the first op whose output is not finite", async () => {
  const x = tensor([[1, 0], [4, 2]]);
  const y = inModule("Net", () => inModule("head", () => x.log()).mul(2));
  await assertRejects(
    () => y.data(),
    CheckError,
    "Op log in Net.head: output 0 [2, 2] is -Infinity at [0, 1], the first value that is not finite",
  );
  tensor([-1]).sqrt();
  await assertRejects(() => synchronize(), CheckError, "Op sqrt: output 0 [1] is NaN at [0]");
  assertEquals(await tensor([4]).sqrt().array(), [2]);
});

checking("reference", "LATHE_CHECK=1 lets long products round at every factor", async () => {
  // 3 · fl(1/3) = 1 + 2^-25 rounds to 1 each time: 2,048 pairs are 2^-14 off, 1,024 units of 2^-24.
  const pairs = tensor(Array.from({ length: 4096 }, (_, i) => i % 2 ? 1 / 3 : 3));
  const products = pairs.cumprod(0);
  await synchronize();
  assertEquals((await products.data()).at(-1), 1, "every pair has rounded");
});

checking("nan", "LATHE_CHECK=nan names the op whose gradient is not finite", async () => {
  const x = tensor([1, 6], { requiresGrad: true });
  inModule("Net", () => inModule("tail", () => fault(x))).sum().backward();
  await assertRejects(
    () => x.grad!.data(),
    CheckError,
    "Gradient of plantedFault in Net.tail: input 0 [2] is NaN at [1], the first value that is not finite",
  );
});

Deno.test("checks that are off cost no copies, and checks free theirs", async () => {
  await synchronize();
  const run = () => scope(() => ones([8], { requiresGrad: true }).exp().sum().backward());
  const dispatches = () => gpu().queue.stats.dispatches;
  let before = dispatches();
  run();
  const plain = dispatches() - before;
  for (const check of ["reference", "nan"] as const) {
    const { liveBytes } = memory();
    before = dispatches();
    setDebug({ check });
    run();
    assert(dispatches() - before > plain, check);
    await synchronize();
    setDebug({ check: "off" });
    assert(memory().liveBytes <= liveBytes, check); // less if garbage was collected
  }
});

Deno.test("inModule() leaves a module that throws", () => {
  try {
    inModule("Broken", () => {
      throw new Error("stop");
    });
  } catch { /* expected */ }
  setDebug({ check: "nan" });
  try {
    tensor([-1]).log();
  } finally {
    setDebug({ check: "off" });
  }
  return assertRejects(() => synchronize(), CheckError, "Op log: output 0");
});

/** Runs a program with the switches in its environment. */
async function withEnv(env: Record<string, string>, code: string, granted = true) {
  const { code: status, stdout, stderr } = await new Deno.Command("deno", {
    args: [
      "run",
      "--no-prompt",
      "--quiet",
      ...(granted ? ["--allow-env=LATHE_DEBUG,LATHE_CHECK"] : []),
      `data:application/typescript,${encodeURIComponent(code)}`,
    ],
    env: { NO_COLOR: "1", ...env },
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { status, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test("the switches are read from the environment where that is allowed", async () => {
  const url = new URL("engine/gpu/debug.ts", ROOT).href;
  const code = `import { debug } from "${url}"; const { level, check } = debug(); ` +
    "console.log(level, check);";
  const [set, denied, wrong] = await Promise.all([
    withEnv({ LATHE_DEBUG: "2", LATHE_CHECK: "nan" }, code),
    withEnv({ LATHE_DEBUG: "2", LATHE_CHECK: "nan" }, code, false),
    withEnv({ LATHE_CHECK: "on" }, code),
  ]);
  assertEquals(set.stdout, "2 nan\n", set.stderr);
  assertEquals(denied.stdout, "0 off\n", denied.stderr);
  assert(wrong.stderr.includes('LATHE_CHECK is "on": it must be 1 or nan'), wrong.stderr);
  assertEquals(debug().level, 0);
});

for (const check of ["nan", "reference"] as const) {
  checking(check, `LATHE_CHECK (${check}) looks at what checkpoint() computes again`, async () => {
    const x = tensor([0.5, -1], { requiresGrad: true });
    checkpoint((x) => x.tanh(), x).sum().backward();
    const want = [0.5, -1].map((v) => 1 - Math.tanh(v) ** 2);
    const got = await x.grad!.data();
    want.forEach((v, i) => assertAlmostEquals(got[i]!, v, 1e-6));
    if (check !== "nan") return;
    checkpoint((x) => x.sub(0.5).log(), x).sum().backward();
    await assertRejects(() => synchronize(), CheckError, "log");
  });
}
