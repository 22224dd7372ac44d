import { assert, assertEquals, assertRejects } from "@std/assert";
import { noGrad } from "../../engine/autograd.ts";
import { ones, rand, randn, tensor } from "../../engine/creation.ts";
import { CheckError } from "../../engine/errors.ts";
import { conv2d, dropout, linear, maxPool2d } from "../../engine/functions.ts";
import { crossEntropy } from "../../engine/functions_loss.ts";
import { init } from "../../engine/gpu/device.ts";
import { customGrad } from "../../engine/functions_custom.ts";
import { gradcheck, gradgradcheck } from "../../engine/gradcheck.ts";
import { defineOp, type Op } from "../../engine/op.ts";
import { pointwise } from "../../engine/ops/launch_pointwise.ts";
import { memory } from "../../engine/read.ts";
import { manualSeed } from "../../engine/rng.ts";
import { scope } from "../../engine/scope.ts";
import { apply } from "../../engine/tensor.ts";

await init();
manualSeed(7);

/** x², whose gradient is wrong by 1 % at one place. */
const planted: Op<Record<never, never>> = defineOp<Record<never, never>>({
  name: "plantedSquare",
  check: ([x]) => [x!],
  forward(ctx, [x]) {
    ctx.save(x!);
    return [square(x!)];
  },
  backward(ctx, [dy]) {
    const [x] = ctx.saved;
    return [
      pointwise({
        name: "planted_backward",
        inputs: { x: x!, dy: dy! },
        expression: "select(2.0, 2.02, x > 2.5) * x * dy",
        compute: "f32",
        result: "f32",
      }, dy!),
    ];
  },
  reference: ([x]) => [{ ...x!, data: x!.data.map((v) => v * v) }],
  samples: [],
});

function square(x: Parameters<typeof planted.forward>[1][number]) {
  return pointwise({
    name: "planted",
    inputs: { x },
    expression: "x * x",
    compute: "f32",
    result: "f32",
  }, x);
}

Deno.test("gradcheck() accepts composites of every kind of op", async () => {
  const [x, w, b] = [
    randn([3, 4], { requiresGrad: true }),
    randn([5, 4], { requiresGrad: true }),
    randn([5], { requiresGrad: true }),
  ];
  await gradcheck((x, w, b) => linear(x!, w!, b).tanh().logSoftmax(1).square().mean(), [x, w, b]);
  await gradcheck(
    (x) => {
      const { values, indices } = x!.topk(2, { dim: 0 });
      const cut = x!.slice(1, 0, 3, 2).transpose(0, 1).reshape(-1);
      return [values, indices, cut.exp().sum(), x!.max(1, { keepdim: true }).sub(x!)];
    },
    [x],
  );
  const target = tensor([0, 2, 1], { dtype: "i32" });
  await gradcheck((x) => crossEntropy(x!, target, { labelSmoothing: 0.1 }), [x]);
});

Deno.test("gradcheck() accepts a small convolutional net", async () => {
  const x = randn([2, 1, 6, 6]);
  const [w, b] = [randn([2, 1, 3, 3], { requiresGrad: true }), ones([2], { requiresGrad: true })];
  await gradcheck((x, w, b) => {
    const h = conv2d(x!, w!, { bias: b, padding: 1 });
    return maxPool2d(h.sigmoid(), 2).flatten(1).sum(1);
  }, [x, w, b]);
});

Deno.test("gradcheck() names the worst element of a wrong gradient", async () => {
  const x = tensor([[1, 2], [3, 0.5]], { requiresGrad: true });
  const error = await assertRejects(
    () => gradcheck((x) => apply(planted, [x!], {})[0]!.sum(), [x]),
    CheckError,
  );
  const [, at, a, n, tolerance] = error.message.match(
    /^Gradient of input 0 \[2, 2\] at \[(.*)\]: backward gives (\S+), central differences (\S+), \S+ apart, tolerance (\S+)$/,
  )!;
  assertEquals(at, "1, 0");
  assert(Math.abs(Number(a) / Number(n) - 1.01) < 1e-6, error.message);
  assert(Number(tolerance) <= 1e-4 * Math.abs(Number(n)) * (1 + 1e-6));
  // The part where the rule is right passes, and a generous tolerance lets it pass whole.
  await gradcheck((x) => apply(planted, [x!], {})[0]!, [tensor([1, 2], { requiresGrad: true })]);
  await gradcheck((x) => apply(planted, [x!], {})[0]!, [x], { tolerance: 0.02 });
});

Deno.test("gradcheck() notices a gradient that is missing or not finite", async () => {
  const x = tensor([1, 2], { requiresGrad: true });
  const y = tensor([0, 0.25], { requiresGrad: true });
  await assertRejects(() => gradcheck((y) => y!.sqrt(), [y]), CheckError, "at [0]");
  // noGrad is a constant to the tape, but not to the differences.
  await assertRejects(
    () => gradcheck((x) => noGrad(() => x!.mul(3)).add(x!), [x]),
    CheckError,
    "backward gives",
  );
});

Deno.test("gradcheck() counts detached tensors, and tensors from outside, as constants", async () => {
  const x = tensor([1, 2], { requiresGrad: true });
  const outside = rand([2], { requiresGrad: true });
  await gradcheck((x) => x!.detach().mul(x!).mul(outside).add(scope(() => outside.exp())), [x]);
  assertEquals([x.grad, outside.grad], [null, null]);
});

Deno.test("gradcheck() says what it cannot check", async () => {
  const x = tensor([1, 2], { requiresGrad: true });
  for (
    const [fn, inputs, message] of [
      [() => dropout(x).add(x), [x], "through dropout: it has no float64 reference"],
      [() => tensor([1]), [x], "no output depends on an input"],
      [() => x, [tensor([1])], "no input requires a gradient"],
      [() => ({ x }), [x], "must return a tensor or an array"],
      [() => Promise.resolve(x), [x], "must return a tensor or an array"],
    ] as const
  ) {
    await assertRejects(() => gradcheck(fn as never, inputs), Error, message);
  }
  const state = tensor([1]);
  await assertRejects(
    () =>
      gradcheck((x) => {
        const y = x!.mul(state);
        noGrad(() => state.add_(1));
        return y;
      }, [x]),
    Error,
    "was changed in place",
  );
});

Deno.test("gradcheck() leaves nothing behind", async () => {
  const x = randn([4], { requiresGrad: true });
  const { liveBytes } = memory();
  await gradcheck((x) => [x!.exp().mul(2), x!.sum()], [x]);
  await assertRejects(() => gradcheck((x) => dropout(x!), [x]), Error);
  await assertRejects(() => gradcheck((x) => x!.reshape(3), [x]), TypeError);
  assert(memory().liveBytes <= liveBytes);
});

Deno.test("gradgradcheck() accepts composites, several outputs and inputs that have no second gradient", async () => {
  const [x, w] = [randn([3, 4], { requiresGrad: true }), randn([5, 4], { requiresGrad: true })];
  const before = memory().liveBytes;
  await gradgradcheck((x, w) => linear(x!, w!).tanh().logSoftmax(1).square().mean(), [x, w]);
  await gradgradcheck((x, w) => [x!.mul(x!).sum(0), w!.sin(), x!.mul(3)], [x, w]);
  await gradgradcheck(
    (x, w) => conv2d(x!, w!, { stride: 2, padding: 1, groups: 2 }).gelu().sum(),
    [
      randn([1, 2, 5, 4], { requiresGrad: true }),
      randn([2, 1, 3, 3], { requiresGrad: true }),
    ],
  );
  assert(memory().liveBytes - before <= 4096, "what the check made is freed");
  assertEquals(x.grad, null);
});

Deno.test("gradgradcheck() finds a rule that is right once, but not twice", async () => {
  const x = randn([3, 2], { requiresGrad: true });
  const constantSlope = customGrad((x) => ({
    value: x!.exp(),
    gradient: (dy) => dy.mul(x!.detach().exp()),
  }));
  await gradcheck((x) => constantSlope(x!), [x]);
  await assertRejects(
    () => gradgradcheck((x) => constantSlope(x!), [x]),
    CheckError,
    "Gradient of the gradient of input 0 [3, 2] at",
  );
  const twice = customGrad((x) => ({ value: x!.exp(), gradient: (dy) => dy.mul(x!.exp()) }));
  await gradgradcheck((x) => twice(x!), [x]);
});

Deno.test("gradgradcheck() says what it cannot check", async () => {
  const x = randn([2, 3], { requiresGrad: true });
  await assertRejects(() => gradgradcheck((x) => x!, [randn([2])]), TypeError, "no input requires");
  await assertRejects(
    () => gradgradcheck((x) => x!.detach().exp(), [x]),
    TypeError,
    "no output depends",
  );
  await assertRejects(
    () => gradgradcheck((x) => dropout(x!, 0.5), [x]),
    Error,
    "no float64 reference",
  );
});
