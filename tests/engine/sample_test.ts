import { assertEquals, assertThrows } from "@std/assert";
import { gradcheck } from "../../engine/gradcheck.ts";
import { init } from "../../engine/gpu/device.ts";
import { tensor, zeros } from "../../engine/creation.ts";
import { interpolate } from "../../engine/functions_resize.ts";
import { adaptiveMaxPool2d, affineGrid, gridSample } from "../../engine/functions_sample.ts";
import { readAll } from "../../engine/read.ts";
import { assertClose } from "../helpers/close.ts";

await init();

/** Unit roundoff of f32. */
const U = 2 ** -24;

const image = () => tensor([[[[1, 2, 3], [4, 5, 6]]]]);

Deno.test("gridSample reads pixels, halves between them, and what lies outside", async () => {
  // Across: the left edge, the middle of the first two pixels, the middle, past the right edge.
  const grid = tensor([[[[-1, -0.5], [-1 / 3, -0.5], [0, 0], [1.25, 0.5]]]]);
  const results = await readAll([
    gridSample(image(), grid),
    gridSample(image(), grid, { padding: "border" }),
    gridSample(image(), grid, { alignCorners: true }),
    gridSample(image(), grid, { alignCorners: true, padding: "border" }),
    gridSample(image(), grid, { mode: "nearest" }),
    gridSample(image(), grid, { mode: "nearest", padding: "border" }),
  ]);
  // Edges: pixel positions (-0.5, 0), (0.5, 0), (1, 0.5), (2.875, 1).
  assertClose(results[0]!, [0.5, 1.5, 3.5, 0.75], { atol: 16 * U });
  assertClose(results[1]!, [1, 1.5, 3.5, 6], { atol: 16 * U });
  // Centres: (0, 0.25), (2/3, 0.25), (1, 0.5), (2.25, 0.75).
  assertClose(results[2]!, [1.75, 1.75 + 2 / 3, 3.5, 0.75 * (0.25 * 3 + 0.75 * 6)], {
    atol: 16 * U,
  });
  assertClose(results[3]!, [1.75, 1.75 + 2 / 3, 3.5, 5.25], { atol: 16 * U });
  // Halves to even: -0.5 → 0; 0.5 lies on the far side by the rounding of 1/3 or not, so it is skipped.
  assertEquals([results[4]![0], results[4]![2], results[4]![3]], [1, 2, 0]);
  assertEquals([results[5]![0], results[5]![2], results[5]![3]], [1, 2, 6]);
});

Deno.test("affineGrid of the identity gives the image back, and a shift moves it", async () => {
  const same = tensor([[[1, 0, 0], [0, 1, 0]]]);
  const size = [1, 1, 2, 3];
  const shifted = tensor([[[1, 0, 2 / 3], [0, 1, 0]]]);
  const results = await readAll([
    affineGrid(same, size),
    affineGrid(same, size, { alignCorners: true }),
    affineGrid(same, [1, 1, 1, 1], { alignCorners: true }),
    gridSample(image(), affineGrid(same, size)),
    gridSample(image(), affineGrid(same, size, { alignCorners: true }), { alignCorners: true }),
    gridSample(image(), affineGrid(shifted, size)),
  ]);
  const third = 2 / 3;
  assertClose(results[0]!, [
    ...[-third, -0.5, 0, -0.5, third, -0.5],
    ...[-third, 0.5, 0, 0.5, third, 0.5],
  ], { atol: 2 * U });
  assertEquals([...results[1]!], [-1, -1, 0, -1, 1, -1, -1, 1, 0, 1, 1, 1]);
  assertEquals([...results[2]!], [0, 0]);
  assertClose(results[3]!, [1, 2, 3, 4, 5, 6], { atol: 32 * U });
  assertClose(results[4]!, [1, 2, 3, 4, 5, 6], { atol: 32 * U });
  assertClose(results[5]!, [2, 3, 0, 5, 6, 0], { atol: 32 * U });
});

Deno.test("gridSample of an affine grid has the gradients of central differences", async () => {
  const x = tensor([[[[1, -2, 3], [4, 0.5, -6], [2, 7, 1]]]], { requiresGrad: true });
  const theta = tensor([[[0.7, 0.2, 0.11], [-0.3, 0.8, 0.07]]], { requiresGrad: true });
  await gradcheck((x, theta) => gridSample(x, affineGrid(theta, [1, 1, 4, 3])), [x, theta]);
});

Deno.test("gridSample and affineGrid name what does not fit", () => {
  const thrown: [() => unknown, string][] = [
    [() => gridSample(image(), zeros([1, 2, 3])), "they must be [N, C, H, W] and [N, OH, OW, 2]"],
    [() => gridSample(image(), zeros([2, 2, 3, 2])), "Cannot gridSample [1, 1, 2, 3] f32 at [2,"],
    [() => affineGrid(zeros([1, 2, 3]), [2, 1, 4, 4]), "Cannot make a grid for [2, 1, 4, 4]"],
    [
      () => interpolate(image(), { size: 4, mode: "nearest", alignCorners: true }),
      "Cannot interpolate nearest with alignCorners",
    ],
  ];
  for (const [fn, text] of thrown) assertThrows(fn, TypeError, text);
});

Deno.test("interpolate with alignCorners keeps the corners", async () => {
  const x = tensor([[[[0, 3], [6, 9]]]]);
  const [up, one, wide] = await readAll([
    interpolate(x, { size: [2, 4], alignCorners: true }),
    interpolate(x, { size: 1, alignCorners: true }),
    interpolate(tensor([[[[5, 7]]]]), { size: [3, 3], alignCorners: true }),
  ]);
  assertClose(up!, [0, 1, 2, 3, 6, 7, 8, 9], { atol: 16 * U });
  assertClose(one!, [0], { atol: 0 });
  assertClose(wide!, [5, 6, 7, 5, 6, 7, 5, 6, 7], { atol: 16 * U });
});

Deno.test("adaptiveMaxPool2d takes the largest of overlapping windows", async () => {
  const x = tensor([[[[1, 5, 2], [4, 3, 6], [7, 0, 9]]]], { requiresGrad: true });
  const y = adaptiveMaxPool2d(x, 2);
  y.sum().backward();
  const [values, grad] = await readAll([y, x.grad!]);
  // Windows of 2 x 2 that share the middle row and column.
  assertEquals([...values!], [5, 6, 7, 9]);
  assertEquals([...grad!], [0, 1, 0, 0, 0, 1, 1, 0, 1]);
  assertThrows(() => adaptiveMaxPool2d(x, 0), RangeError, "whole numbers of at least 1");
});
