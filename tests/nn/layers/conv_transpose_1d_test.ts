/** The transposed convolution of rows, against sums of weighted windows in float64. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  convTranspose1d,
  gradcheck,
  init,
  nn,
  ones,
  readAll,
  tensor,
  zeros,
} from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";
import { drawn, numbers, U } from "../../helpers/numbers.ts";

await init();

interface Options {
  stride?: number;
  padding?: number;
  outputPadding?: number;
  dilation?: number;
  groups?: number;
}

const CASES: [number, Options][] = [
  [3, {}],
  [3, { stride: 2, padding: 1, outputPadding: 1 }],
  [3, { stride: 2, padding: 1, outputPadding: 1, dilation: 2, groups: 2 }],
  [2, { stride: 3, groups: 2 }],
  [4, { dilation: 3, padding: 4, outputPadding: 2 }],
  [1, { stride: 2 }],
];

const [N, C, O, L] = [2, 4, 6, 5];

/** Every input adds a weighted window to the output. */
function reference(
  { x, w, b }: Record<"x" | "w" | "b", number[]>,
  K: number,
  options: Options,
): { y: number[]; OL: number } {
  const { stride = 1, padding = 0, outputPadding = 0, dilation = 1, groups = 1 } = options;
  const OL = (L - 1) * stride - 2 * padding + dilation * (K - 1) + outputPadding + 1;
  const [CG, OG] = [C / groups, O / groups];
  const y = Array.from({ length: N * O * OL }, (_, i) => b[Math.floor(i / OL) % O]!);
  for (let n = 0; n < N; n++) {
    for (let c = 0; c < C; c++) {
      for (let o = 0; o < OG; o++) {
        for (let i = 0; i < L; i++) {
          for (let k = 0; k < K; k++) {
            const at = i * stride - padding + k * dilation;
            if (at < 0 || at >= OL) continue;
            const channel = Math.floor(c / CG) * OG + o;
            y[(n * O + channel) * OL + at]! += x[(n * C + c) * L + i]! * w[(c * OG + o) * K + k]!;
          }
        }
      }
    }
  }
  return { y, OL };
}

Deno.test("convTranspose1d and ConvTranspose1d give the float64 sums", async () => {
  for (const [kernelSize, options] of CASES) {
    const what = JSON.stringify({ kernelSize, ...options });
    const OG = O / (options.groups ?? 1);
    const values = {
      x: numbers("x", N * C * L),
      w: numbers("w", C * OG * kernelSize),
      b: numbers("b", O),
    };
    const { y: want, OL } = reference(values, kernelSize, options);
    using x = tensor(values.x, { shape: [N, C, L] });
    using weight = tensor(values.w, { shape: [C, OG, kernelSize] });
    using bias = tensor(values.b);
    using layer = new nn.ConvTranspose1d(C, O, { kernelSize, ...options });
    assertEquals(layer.weight.shape, weight.shape);
    layer.loadStateDict({ weight, bias });
    using y = layer.forward(x);
    using same = convTranspose1d(x, weight, { bias, ...options });
    assertEquals([y.shape, same.shape], [[N, O, OL], [N, O, OL]], what);
    const [got, again] = await readAll([y, same]);
    // At most 4 · 4 products and a bias, of size 1 each: 16 products, and 16 sums of up to 17.
    assertClose(got!, want, { atol: (16 + 16 * 17) * U, what });
    assertEquals(again, got, what);
  }
});

Deno.test("ConvTranspose1d without bias has none", async () => {
  using layer = new nn.ConvTranspose1d(1, 1, { kernelSize: 2, stride: 2, bias: false });
  assertEquals(Object.keys(layer.stateDict()), ["weight"]);
  layer.loadStateDict({ weight: tensor([[[1, -2]]]) });
  using y = layer.forward(tensor([[[3, 0, 5]]]));
  assertEquals([...await y.data()], [3, -6, 0, 0, 5, -10]);
});

Deno.test("convTranspose1d has the gradients of central differences", async () => {
  await gradcheck(
    (x, w, bias) =>
      convTranspose1d(x!, w!, {
        bias,
        stride: 2,
        padding: 1,
        outputPadding: 1,
        dilation: 2,
        groups: 2,
      }),
    [
      drawn("x", [2, 4, 3]).requiresGrad_(),
      drawn("w", [4, 2, 3]).requiresGrad_(),
      drawn("b", [4]).requiresGrad_(),
    ],
  );
});

Deno.test("ConvTranspose1d starts uniform in ±1 / √(outputs of a group · K)", async () => {
  using layer = new nn.ConvTranspose1d(200, 8, { kernelSize: 5, groups: 2 });
  // PyTorch counts the weight's second size as inputs.
  const bound = 1 / Math.sqrt(4 * 5);
  const [w, b] = await readAll([layer.weight, layer.bias!]);
  const largest = Math.max(...w!.map(Math.abs));
  // 4000 draws all below 1 - 20 / 4000 have a chance of e^-20.
  assert(largest <= bound * (1 + U) && largest > bound * (1 - 20 / w!.length), `${largest}`);
  assert(b!.every((v) => Math.abs(v) <= bound * (1 + U)));
});

Deno.test("ConvTranspose1d prints as PyTorch's", () => {
  using usual = new nn.ConvTranspose1d(4, 6, { kernelSize: 3 });
  using strided = new nn.ConvTranspose1d(4, 6, {
    kernelSize: 3,
    stride: 2,
    padding: 1,
    outputPadding: 1,
  });
  using all = new nn.ConvTranspose1d(4, 6, {
    kernelSize: 2,
    dilation: 2,
    outputPadding: 1,
    groups: 2,
    bias: false,
  });
  assertEquals([usual, strided, all].map(String), [
    "ConvTranspose1d(4, 6, kernel_size=(3,), stride=(1,))",
    "ConvTranspose1d(4, 6, kernel_size=(3,), stride=(2,), padding=(1,), output_padding=(1,))",
    "ConvTranspose1d(4, 6, kernel_size=(2,), stride=(1,), dilation=(2,), output_padding=(1,), " +
    "groups=2, bias=False)",
  ]);
});

Deno.test("ConvTranspose1d and convTranspose1d say what they cannot do", () => {
  const make = (options: object) => () =>
    new nn.ConvTranspose1d(4, 6, { kernelSize: 3, ...options });
  const least = (n: number) => `it must be a whole number of at least ${n}`;
  for (
    const [name, value, text] of [
      ["kernelSize", 0, least(1)],
      ["stride", 0, least(1)],
      ["dilation", 0.5, least(1)],
      ["padding", -1, least(0)],
      ["outputPadding", -1, least(0)],
    ] as const
  ) {
    assertThrows(
      make({ [name]: value }),
      RangeError,
      `Cannot make ConvTranspose1d with ${name} ${value}: ${text}`,
    );
  }
  assertThrows(
    make({ groups: 4 }),
    RangeError,
    "Cannot make ConvTranspose1d with 4 to 6 channels in 4 groups: groups must divide both",
  );
  assertThrows(
    () => new nn.ConvTranspose1d(4, 6, 3 as never),
    TypeError,
    "Cannot make ConvTranspose1d with options 3: write new nn.ConvTranspose1d(3, 8, { kernelSize: 3 })",
  );
  using x = zeros([1, 2, 3]);
  using w = ones([2, 1, 2]);
  using image = zeros([1, 2, 1, 3]);
  assertThrows(
    () => convTranspose1d(image, w),
    TypeError,
    "Cannot convTranspose1d [1, 2, 1, 3] with weight [2, 1, 2]: they must be [N, C, L] or " +
      "[C, L], and [C, O / groups, K]",
  );
  assertThrows(() => convTranspose1d(x, image), TypeError, "with weight [1, 2, 1, 3]");
  assertThrows(
    () => convTranspose1d(x, w, 2 as never),
    TypeError,
    "Cannot convTranspose1d with options 2: write convTranspose1d(x, w, { bias, stride: 2 })",
  );
  assertThrows(
    () => convTranspose1d(x, w, { outputPadding: 1 }),
    RangeError,
    "it must be below the larger of stride [1, 1] and dilation [1, 1]",
  );
  assertThrows(
    () => convTranspose1d(x, w, { padding: 2 }),
    RangeError,
    "the padding leaves nothing of the output",
  );
  using more = zeros([1, 3, 3]);
  assertThrows(() => convTranspose1d(more, w), TypeError, "the weight takes 2 input channels");
});
