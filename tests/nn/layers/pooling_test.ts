/** Pooling along one dimension, and adaptive maxima, against loops over the windows in float64. */

import { assertEquals, assertThrows } from "@std/assert";
import { gradcheck, init, nn, scope, tensor, zeros } from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";
import { drawn, numbers, U } from "../../helpers/numbers.ts";

await init();

interface Window {
  kernelSize: number;
  stride?: number;
  padding?: number;
  dilation?: number;
  ceilMode?: boolean;
}

/** Number of windows over L places, by PyTorch's rule: the last one must start inside or in the padding before. */
function windows(L: number, w: Window): number {
  const { kernelSize: k, stride = k, padding = 0, dilation = 1, ceilMode = false } = w;
  const steps = (L + 2 * padding - dilation * (k - 1) - 1) / stride;
  if (!ceilMode) return Math.floor(steps) + 1;
  const count = Math.ceil(steps) + 1;
  return (count - 1) * stride >= L + padding ? count - 1 : count;
}

/** The places of window i, those in the padding too. */
function placesOf(i: number, w: Window): number[] {
  const { kernelSize: k, stride = k, padding = 0, dilation = 1 } = w;
  return Array.from({ length: k }, (_, j) => i * stride - padding + j * dilation);
}

/** The function of every window of every row of L numbers. */
function pooled(x: number[], L: number, count: number, f: (row: number[], i: number) => number) {
  return Array.from({ length: x.length / L * count }, (_, n) => {
    const start = Math.floor(n / count) * L;
    return f(x.slice(start, start + L), n % count);
  });
}

const WINDOWS: Window[] = [
  { kernelSize: 2 },
  { kernelSize: 3, stride: 2 },
  { kernelSize: 3, stride: 1, padding: 1 },
  { kernelSize: 3, stride: 2, padding: 1, ceilMode: true },
  { kernelSize: 4, stride: 3, ceilMode: true },
  { kernelSize: 2, stride: 3, padding: 1, ceilMode: true },
];

Deno.test("MaxPool1d gives the largest number of each window", async () => {
  for (
    const w of [
      ...WINDOWS,
      { kernelSize: 2, dilation: 3 },
      { kernelSize: 3, stride: 1, padding: 1, dilation: 2, ceilMode: true },
    ]
  ) {
    for (const L of [7, 8, 9]) {
      // Negative, so that padding with zeros would show.
      const x = numbers(`max ${L}`, 6 * L, -2, -1);
      const count = windows(L, w);
      const want = pooled(
        x,
        L,
        count,
        (row, i) => Math.max(...placesOf(i, w).map((at) => row[at] ?? -Infinity)),
      );
      const { kernelSize, ...options } = w;
      using y = scope(() =>
        new nn.MaxPool1d(kernelSize, options).forward(tensor(x, { shape: [2, 3, L] }))
      );
      assertEquals(y.shape, [2, 3, count], JSON.stringify(w));
      assertEquals([...await y.data()], want, JSON.stringify(w));
    }
  }
});

Deno.test("AvgPool1d gives the mean of each window, with and without the padding", async () => {
  for (const w of WINDOWS) {
    for (const countIncludePad of [true, false]) {
      for (const L of [7, 8]) {
        const x = numbers(`avg ${L}`, 6 * L);
        const count = windows(L, w);
        const { padding = 0 } = w;
        const want = pooled(x, L, count, (row, i) => {
          const places = placesOf(i, w);
          const inside = places.filter((at) => at >= 0 && at < L);
          // Past the padding at the end nothing counts.
          const counted = countIncludePad ? places.filter((at) => at < L + padding) : inside;
          return inside.reduce((sum, at) => sum + row[at]!, 0) / counted.length;
        });
        const { kernelSize, ...options } = w;
        using y = scope(() =>
          new nn.AvgPool1d(kernelSize, { ...options, countIncludePad })
            .forward(tensor(x, { shape: [2, 3, L] }))
        );
        assertEquals(y.shape, [2, 3, count], JSON.stringify(w));
        // At most 3 sums of up to 4, a division of 2.5 ulp of 2 U.
        assertClose(await y.data(), want, { atol: (3 * 4 + 5) * U, what: JSON.stringify(w) });
      }
    }
  }
});

/** The window of place i of `count` over L places. */
function adaptive(i: number, count: number, L: number): [number, number] {
  return [Math.floor(i * L / count), Math.ceil((i + 1) * L / count)];
}

Deno.test("AdaptiveAvgPool1d gives the means of windows that cover the row", async () => {
  for (const [L, count] of [[9, 4], [4, 9], [8, 2], [5, 1]] as const) {
    const x = numbers("adaptive", 6 * L);
    const want = pooled(x, L, count, (row, i) => {
      const window = row.slice(...adaptive(i, count, L));
      return window.reduce((a, b) => a + b) / window.length;
    });
    using y = scope(() => new nn.AdaptiveAvgPool1d(count).forward(tensor(x, { shape: [2, 3, L] })));
    assertEquals(y.shape, [2, 3, count]);
    // 4 sums of up to 5 and a division of 2.5 ulp of 2 U.
    assertClose(await y.data(), want, { atol: (4 * 5 + 5) * U, what: `${L} to ${count}` });
  }
});

Deno.test("AdaptiveMaxPool1d gives the largest numbers of windows that cover the row", async () => {
  for (const [L, count] of [[9, 4], [4, 9], [8, 2], [5, 1]] as const) {
    const x = numbers("adaptive max", 6 * L, -2, -1);
    const want = pooled(x, L, count, (row, i) => Math.max(...row.slice(...adaptive(i, count, L))));
    using y = scope(() => new nn.AdaptiveMaxPool1d(count).forward(tensor(x, { shape: [2, 3, L] })));
    assertEquals(y.shape, [2, 3, count]);
    assertEquals([...await y.data()], want, `${L} to ${count}`);
  }
});

Deno.test("AdaptiveMaxPool2d gives the largest numbers of windows that cover the image", async () => {
  const [H, W] = [7, 5];
  const x = numbers("adaptive max", 6 * H * W, -2, -1);
  for (const size of [[2, 3], [3, 7], [9, 1], 4] as const) {
    const [OH, OW] = typeof size === "number" ? [size, size] : size;
    const want = pooled(x, H * W, OH * OW, (image, i) => {
      const [top, bottom] = adaptive(Math.floor(i / OW), OH, H);
      const [left, right] = adaptive(i % OW, OW, W);
      return Math.max(...image.filter((_, at) => {
        const [h, w] = [Math.floor(at / W), at % W];
        return h >= top && h < bottom && w >= left && w < right;
      }));
    });
    using y = scope(() =>
      new nn.AdaptiveMaxPool2d(size).forward(tensor(x, { shape: [2, 3, H, W] }))
    );
    assertEquals(y.shape, [2, 3, OH, OW]);
    assertEquals([...await y.data()], want, `${size}`);
  }
});

Deno.test("pooling layers have the gradients of central differences", async () => {
  const layers = [
    new nn.MaxPool1d(3, { stride: 2, padding: 1, ceilMode: true }),
    new nn.AvgPool1d(3, { stride: 2, padding: 1, countIncludePad: false }),
    new nn.AdaptiveAvgPool1d(3),
    new nn.AdaptiveMaxPool1d(3),
  ];
  for (const layer of layers) {
    await gradcheck((x) => layer.forward(x!), [drawn("x", [1, 2, 8]).requiresGrad_()]);
  }
  const layer = new nn.AdaptiveMaxPool2d([2, 3]);
  await gradcheck((x) => layer.forward(x!), [drawn("x", [1, 2, 3, 5]).requiresGrad_()]);
});

Deno.test("pooling layers print as PyTorch's", () => {
  const texts: [nn.Module, string][] = [
    [
      new nn.MaxPool1d(2),
      "MaxPool1d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)",
    ],
    [
      new nn.MaxPool1d(3, { stride: 2, padding: 1, dilation: 2, ceilMode: true }),
      "MaxPool1d(kernel_size=3, stride=2, padding=1, dilation=2, ceil_mode=True)",
    ],
    [new nn.AvgPool1d(2), "AvgPool1d(kernel_size=(2,), stride=(2,), padding=(0,))"],
    [
      new nn.AvgPool1d(3, { stride: 2, padding: 1 }),
      "AvgPool1d(kernel_size=(3,), stride=(2,), padding=(1,))",
    ],
    [new nn.AdaptiveAvgPool1d(3), "AdaptiveAvgPool1d(output_size=3)"],
    [new nn.AdaptiveMaxPool1d(3), "AdaptiveMaxPool1d(output_size=3)"],
    [new nn.AdaptiveMaxPool2d([2, 3]), "AdaptiveMaxPool2d(output_size=(2, 3))"],
    [new nn.AdaptiveMaxPool2d(3), "AdaptiveMaxPool2d(output_size=3)"],
  ];
  for (const [layer, text] of texts) assertEquals(`${layer}`, text);
});

Deno.test("pooling layers say what they cannot do", () => {
  const whole = "it must be a whole number of at least 1";
  assertThrows(
    () => new nn.MaxPool1d(0),
    RangeError,
    `Cannot make MaxPool1d with kernelSize 0: ${whole}`,
  );
  assertThrows(() => new nn.MaxPool1d(2, { stride: 0 }), RangeError, "with stride 0");
  assertThrows(() => new nn.MaxPool1d(2, { dilation: 0.5 }), RangeError, "with dilation 0.5");
  assertThrows(
    () => new nn.MaxPool1d(3, 2 as never),
    TypeError,
    "Cannot make MaxPool1d with options 2: write new nn.MaxPool1d(3, { stride: 2 })",
  );
  assertThrows(
    () => new nn.AvgPool1d(1.5),
    RangeError,
    `Cannot make AvgPool1d with kernelSize 1.5: ${whole}`,
  );
  assertThrows(() => new nn.AvgPool1d(2, { stride: -1 }), RangeError, "with stride -1");
  assertThrows(
    () => new nn.AvgPool1d(3, 2 as never),
    TypeError,
    "Cannot make AvgPool1d with options 2: write new nn.AvgPool1d(3, { stride: 2 })",
  );
  assertThrows(
    () => new nn.AdaptiveAvgPool1d(0),
    RangeError,
    `Cannot make AdaptiveAvgPool1d with outputSize 0: ${whole}`,
  );
  assertThrows(
    () => new nn.AdaptiveMaxPool1d(0.5),
    RangeError,
    `Cannot make AdaptiveMaxPool1d with outputSize 0.5: ${whole}`,
  );
  assertThrows(
    () => new nn.AdaptiveMaxPool2d([2, 0]),
    RangeError,
    `Cannot make AdaptiveMaxPool2d with outputSize 0: ${whole}`,
  );
  assertThrows(
    () => new nn.AdaptiveMaxPool2d([1, 2, 3] as never),
    TypeError,
    "Cannot make AdaptiveMaxPool2d with outputSize [1, 2, 3]: it must be a number or [height, width]",
  );
  using row = zeros([1, 1, 4]);
  using flat = zeros([4]);
  for (const layer of [new nn.MaxPool1d(2), new nn.AvgPool1d(2), new nn.AdaptiveAvgPool1d(2)]) {
    assertThrows(
      () => layer.forward(flat),
      TypeError,
      `Cannot pool [4] by ${layer.constructor.name}: it must be [N, C, L] or [C, L]`,
    );
  }
  for (const Layer of [nn.MaxPool1d, nn.AvgPool1d]) {
    const wide = "it may be at most half the kernel [1, 2]";
    assertThrows(() => new Layer(2, { padding: 2 }).forward(row), RangeError, wide);
    assertThrows(() => new Layer(5).forward(row), RangeError, "the output would be empty");
  }
});
