import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  broadcastShapes,
  broadcastStrides,
  collapse,
  contiguousStrides,
  coordinatesOf,
  inferReshape,
  isContiguous,
  normalizeDim,
  normalizeDims,
  reshapeStrides,
  show,
  sizeOf,
} from "../../engine/shape.ts";
import { Draw } from "../helpers/draw.ts";

/** Offsets of all elements in row-major order. */
function offsets(shape: readonly number[], strides: readonly number[]): number[] {
  return Array.from(
    { length: sizeOf(shape) },
    (_, i) => coordinatesOf(shape, i).reduce((n, c, d) => n + c * strides[d]!, 0),
  );
}

/** Strides that visit `wanted` in row-major order under `shape`, or null if there are none. */
function bruteForce(shape: readonly number[], wanted: readonly number[]): number[] | null {
  const strides = shape.map((s, d) => {
    if (s === 1) return 0;
    const step = contiguousStrides(shape)[d]!;
    return wanted[step]! - wanted[0]!;
  });
  const found = offsets(shape, strides).map((o) => o + wanted[0]!);
  return found.every((o, i) => o === wanted[i]) ? strides : null;
}

/** A layout: a block permuted, cut in steps, and repeated along some dimensions. */
function randomLayout(draw: Draw): { shape: number[]; strides: number[] } {
  const rank = Math.floor(draw.uniform() * 5);
  const sizes = Array.from({ length: rank }, () => 1 + Math.floor(draw.uniform() * 4));
  const steps = sizes.map(() => draw.uniform() < 0.2 ? 2 : 1);
  const strides = contiguousStrides(sizes.map((s, d) => s * steps[d]!)).map((s, d) =>
    s * steps[d]!
  );
  const order = draw.uniform() < 0.5 ? sizes.map((_, d) => d) : draw.shuffled(rank);
  return {
    shape: order.map((d) => sizes[d]!),
    strides: order.map((d) => draw.uniform() < 0.1 ? 0 : strides[d]!),
  };
}

/** Another shape with as many elements. */
function randomShape(size: number, draw: Draw): number[] {
  const shape: number[] = [];
  let rest = size;
  while (rest > 1) {
    const divisors = Array.from({ length: rest }, (_, i) => i + 1).filter((n) => rest % n === 0);
    const pick = divisors[Math.floor(draw.uniform() * divisors.length)]!;
    shape.push(pick);
    rest /= pick;
    if (shape.length > 5) return [size];
  }
  return shape;
}

Deno.test("reshapeStrides() finds a view exactly where there is one", () => {
  const draw = new Draw("reshapeStrides");
  let [views, copies] = [0, 0];
  for (let n = 0; n < 4000; n++) {
    const { shape, strides } = randomLayout(draw);
    const to = randomShape(sizeOf(shape), draw);
    const wanted = offsets(shape, strides);
    const got = reshapeStrides(shape, strides, to);
    const what = `${show(shape)} by ${show(strides)} to ${show(to)}`;
    if (got) {
      assertEquals(offsets(to, got), wanted, what);
      views++;
    } else {
      assertEquals(bruteForce(to, wanted), null, `${what} can be a view`);
      copies++;
    }
  }
  assert(views > 1000 && copies > 300, `${views} views, ${copies} copies`);
});

Deno.test("reshapeStrides() gives row-major strides where there are no elements", () => {
  assertEquals(reshapeStrides([0, 4], [4, 1], [2, 0]), [1, 1]);
  assertEquals(reshapeStrides([], [], []), []);
  assertEquals(reshapeStrides([], [], [1, 1])?.length, 2);
});

Deno.test("collapse() walks every operand as before, over as few dimensions as it can", () => {
  const draw = new Draw("collapse");
  let merged = 0;
  for (let n = 0; n < 1000; n++) {
    const { shape, strides } = randomLayout(draw);
    const other = strides.map((s) => draw.uniform() < 0.3 ? 0 : s);
    const flat = collapse(shape, [strides, other]);
    assertEquals(offsets(flat.shape, flat.strides[0]!), offsets(shape, strides));
    assertEquals(offsets(flat.shape, flat.strides[1]!), offsets(shape, other));
    assert(flat.shape.length >= 1 && flat.shape.length <= Math.max(1, shape.length));
    if (sizeOf(shape) > 1) assert(!flat.shape.includes(1), show(flat.shape));
    if (flat.shape.length < shape.filter((s) => s > 1).length) merged++;
  }
  assert(merged > 100, `${merged} merged`);
  assertEquals(collapse([2, 3, 4], [[12, 4, 1]]), { shape: [24], strides: [[1]] });
  assertEquals(collapse([2, 3], [[1, 2]]), { shape: [2, 3], strides: [[1, 2]] });
  assertEquals(collapse([], [[], []]), { shape: [1], strides: [[1], [1]] });
});

Deno.test("isContiguous() ignores the strides of dimensions of size 1 and of empty arrays", () => {
  assert(isContiguous([2, 3], [3, 1]));
  assert(!isContiguous([2, 3], [1, 2]));
  assert(isContiguous([2, 1, 3], [3, 99, 1]));
  assert(isContiguous([], []));
  assert(isContiguous([0, 3], [7, 7]));
  assert(!isContiguous([4], [2]));
  assert(!isContiguous([2, 2], [0, 1]));
});

Deno.test("coordinatesOf() inverts row-major numbering", () => {
  assertEquals(coordinatesOf([2, 3], 4), [1, 1]);
  assertEquals(coordinatesOf([], 0), []);
});

Deno.test("broadcastShapes() follows NumPy's rule", () => {
  assertEquals(broadcastShapes("add", [4, 1, 3], [5, 1]), [4, 5, 3]);
  assertEquals(broadcastShapes("add", [], [2, 2]), [2, 2]);
  assertEquals(broadcastShapes("add", [1], [0]), [0]);
  assertEquals(broadcastShapes("add"), []);
  for (const [a, b] of [[[3], [2]], [[0], [2]], [[2, 3], [2, 4]]] as const) {
    assertThrows(() => broadcastShapes("add", a, b), TypeError);
  }
});

Deno.test("broadcastStrides() steps by 0 where a dimension repeats", () => {
  assertEquals(broadcastStrides([3, 1], [1, 1], [2, 3, 4]), [0, 1, 0]);
  assertEquals(broadcastStrides([], [], [2]), [0]);
});

Deno.test("normalizeDims() counts from the front, sorts, and takes all by default", () => {
  assertEquals(normalizeDim("sum", -1, 3), 2);
  assertEquals(normalizeDim("sum", 0, 0), 0);
  assertEquals(normalizeDims("sum", undefined, 3), [0, 1, 2]);
  assertEquals(normalizeDims("sum", [-1, 0], 3), [0, 2]);
  assertEquals(normalizeDims("sum", 0, 0), []);
  for (const dims of [[3], [-4], [0.5], [NaN], [1, -2]]) {
    assertThrows(() => normalizeDims("sum", dims, 3), RangeError);
  }
});

Deno.test("inferReshape() fills one -1 in, and only where one size fits", () => {
  assertEquals(inferReshape([2, 6], [3, -1]), [3, 4]);
  assertEquals(inferReshape([2, 6], [-1]), [12]);
  assertEquals(inferReshape([], [-1, 1]), [1, 1]);
  assertEquals(inferReshape([0, 4], [-1, 4]), [0, 4]);
  assertEquals(inferReshape([0, 4], [2, 0]), [2, 0]);
  for (const to of [[5, -1], [-1, -1], [12.5], [-12], [3, 3], [-2, -6], [0, -1]]) {
    assertThrows(() => inferReshape([2, 6], to), TypeError, "Cannot reshape [2, 6] to");
  }
  // Any size would do: PyTorch refuses this, too.
  assertThrows(() => inferReshape([0, 4], [-1, 0]), TypeError, "Cannot reshape [0, 4] to [-1, 0]");
});
