import { assertEquals, assertThrows } from "@std/assert";
import {
  conv2d,
  convTranspose2d,
  init,
  nn,
  ones,
  readAll,
  samePadding,
  type Tensor,
  tensor,
  zeros,
} from "../../../mod.ts";
import { onTiledCore, phases } from "../../../engine/ops/conv_core.ts";
import { assertClose } from "../../helpers/close.ts";
import { Draw } from "../../helpers/draw.ts";

await init();

/** Unit roundoff of f32. */
const U = 2 ** -24;

/** Numbers in [-1, 1) that f32 holds exactly. */
function numbers(name: string, count: number): number[] {
  const draw = new Draw(name);
  return Array.from({ length: count }, () => Math.fround(2 * draw.uniform() - 1));
}

function drawn(name: string, shape: readonly number[]): Tensor {
  return tensor(numbers(name, shape.reduce((n, s) => n * s, 1)), { shape });
}

Deno.test("Conv1d gives the float64 sums", async () => {
  using layer = new nn.Conv1d(4, 6, {
    kernelSize: 3,
    stride: 2,
    padding: [1, 2],
    dilation: 2,
    groups: 2,
  });
  const [x, w, b] = [numbers("x", 4 * 7), numbers("w", 6 * 2 * 3), numbers("b", 6)] as const;
  layer.loadStateDict({ weight: tensor(w, { shape: [6, 2, 3] }), bias: tensor(b) });
  using input = tensor(x, { shape: [1, 4, 7] });
  using y = layer.forward(input);
  // ⌊(7 + 3 - 2 · 2 - 1) / 2⌋ + 1
  assertEquals(y.shape, [1, 6, 3]);
  const want = Array.from({ length: 18 }, (_, i) => {
    const [o, j] = [Math.floor(i / 3), i % 3];
    let sum = b[o]!;
    for (let c = 0; c < 2; c++) {
      for (let k = 0; k < 3; k++) {
        const at = 2 * j - 1 + 2 * k;
        if (at >= 0 && at < 7) {
          sum += w[(o * 2 + c) * 3 + k]! * x[(Math.floor(o / 3) * 2 + c) * 7 + at]!;
        }
      }
    }
    return sum;
  });
  // 7 terms of size at most 1: 6 products and 7 sums of up to 7, each rounded once.
  assertClose(await y.data(), want, { atol: 13 * 7 * U });
  assertEquals(
    `${layer}`,
    "Conv1d(4, 6, kernel_size=(3,), stride=(2,), padding=(1, 2), dilation=(2,), groups=2)",
  );
  assertThrows(() => layer.forward(zeros([7])), TypeError, "Cannot conv1d [7]");
});

Deno.test("padding same keeps the size, with the odd zero at the end", async () => {
  const x = tensor([[[[1, 2, 3], [4, 5, 6]]]]);
  const even = conv2d(x, ones([1, 1, 2, 2]), { padding: "same" });
  const wide = conv2d(x, ones([1, 1, 3, 2]), { padding: "same", dilation: [1, 2] });
  const sides = conv2d(x, ones([1, 1, 2, 2]), {
    padding: { top: 1, bottom: 0, left: 0, right: 0 },
  });
  const [a, b, c] = await readAll([even, wide, sides]);
  assertEquals([even.shape, wide.shape, sides.shape], [[1, 1, 2, 3], [1, 1, 2, 3], [1, 1, 2, 2]]);
  assertEquals([...a!], [12, 16, 9, 9, 11, 6]);
  // Columns j - 1 and j + 1, both rows.
  assertEquals([...b!], [7, 14, 7, 7, 14, 7]);
  assertEquals([...c!], [3, 5, 12, 16]);
  assertThrows(
    () => conv2d(x, ones([1, 1, 2, 2]), { padding: "same", stride: 2 }),
    RangeError,
    "Cannot conv2d with padding same and stride [2, 2]",
  );
});

Deno.test("Conv2dSame pads as TensorFlow", async () => {
  // Sizes and zeros from the formula's source: ⌈size / stride⌉ outputs, the odd zero after.
  assertEquals(samePadding(224, { kernel: 3, stride: 2 }), [0, 1]);
  assertEquals(samePadding(7, { kernel: 3, stride: 2 }), [1, 1]);
  assertEquals(samePadding(112, { kernel: 5, stride: 2 }), [1, 2]);
  assertEquals(samePadding(5, { kernel: 1, stride: 2 }), [0, 0]);
  assertEquals(samePadding(5, { kernel: 3, dilation: 2 }), [2, 2]);
  using layer = new nn.Conv2dSame(1, 1, { kernelSize: 3, stride: 2, bias: false });
  layer.loadStateDict({ weight: ones([1, 1, 3, 3]) });
  using y = layer.forward(tensor([[[[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0], [0, 0, 0, 9]]]]));
  assertEquals(y.shape, [1, 1, 2, 2]);
  assertEquals([...await y.data()], [24, 22, 0, 9]);
  assertEquals(`${layer}`, "Conv2dSame(1, 1, kernel_size=(3, 3), stride=(2, 2), bias=False)");
});

Deno.test("ConvTranspose2d puts a weighted window at every input", async () => {
  using layer = new nn.ConvTranspose2d(1, 2, { kernelSize: 2, stride: 2, outputPadding: [0, 1] });
  assertEquals(layer.weight.shape, [1, 2, 2, 2]);
  assertEquals(layer.bias!.shape, [2]);
  layer.loadStateDict({
    weight: tensor([[[[1, 2], [3, 4]], [[0, 1], [0, 0]]]]),
    bias: tensor([10, 0]),
  });
  using y = layer.forward(tensor([[[[1, 10]]]]));
  assertEquals(y.shape, [1, 2, 2, 5]);
  assertEquals([...await y.data()], [
    ...[11, 12, 20, 30, 10, 13, 14, 40, 50, 10],
    ...[0, 1, 0, 10, 0, 0, 0, 0, 0, 0],
  ]);
  assertEquals(
    `${layer}`,
    "ConvTranspose2d(1, 2, kernel_size=(2, 2), stride=(2, 2), output_padding=(0, 1))",
  );
  using x = zeros([1, 1, 2, 2]);
  assertThrows(
    () => convTranspose2d(x, ones([1, 1, 2, 2]), { outputPadding: 1 }),
    RangeError,
    "outputPadding [1, 1]: it must be below the larger of stride [1, 1] and dilation [1, 1]",
  );
  assertThrows(() => convTranspose2d(x, ones([1, 1, 2, 2]), { padding: 2 }), RangeError, "nothing");
  assertThrows(() => convTranspose2d(x, ones([2, 1, 2, 2])), TypeError, "takes 2 input channels");
});

Deno.test("depthwise kernels give what the tiled core gives", async () => {
  for (const [B, C, M, H, W] of [[2, 3, 1, 17, 13], [1, 2, 3, 8, 33], [3, 5, 1, 2, 3]] as const) {
    const grads = (fn: <T>(run: () => T) => T) =>
      fn(() => {
        const x = drawn("x", [B, C, H, W]).requiresGrad_();
        const w = drawn("w", [C * M, 1, 3, 2]).requiresGrad_();
        const y = conv2d(x, w, {
          groups: C,
          padding: 1,
          stride: [1, 2],
          bias: drawn("b", [C * M]),
        });
        y.mul(drawn("dy", y.shape)).sum().backward();
        return [y, x.grad!, w.grad!];
      });
    const own = await readAll(grads((run) => run()));
    const core = await readAll(grads(onTiledCore));
    // The longest sum, of dW, has B·H·W/2 terms of at most 1; both sides may be off by √n·n ulp.
    const n = B * H * W;
    own.forEach((v, i) => assertClose(v, core[i]!, { atol: 4 * Math.sqrt(n) * U * 8 }));
  }
});

Deno.test("phases() meets every position and tap of a stride exactly once", () => {
  for (const stride of [1, 2, 3, 4]) {
    for (const dilation of [1, 2, 3]) {
      for (const padding of [0, 1, 2]) {
        const at = { size: 9, kernel: 5, stride, padding, dilation };
        const met: string[] = [];
        const positions: number[] = [];
        for (const p of phases(at)) {
          for (let i = 0; i < p.positions; i++) {
            positions.push(p.first + i * stride);
            for (let t = 0; t < p.taps; t++) {
              const o = p.output + i - t * p.outputStep;
              met.push(`${p.first + i * stride} ${p.tap + t * p.tapStep} ${o}`);
            }
          }
        }
        assertEquals(positions.sort((a, b) => a - b), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        const want: string[] = [];
        for (let i = 0; i < 9; i++) {
          for (let k = 0; k < 5; k++) {
            const o = (i + padding - k * dilation) / stride;
            if (Number.isInteger(o)) want.push(`${i} ${k} ${o}`);
          }
        }
        assertEquals(met.sort(), want.sort(), `stride ${stride} dilation ${dilation}`);
      }
    }
  }
});
