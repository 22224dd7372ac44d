import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { meanAveragePrecision, precisionRecall } from "../../nn/metrics_detection.ts";

const A = [0.1, 0.1, 0.3, 0.3], B = [0.5, 0.5, 0.9, 0.9], C = [0, 0, 1, 0.5];
const NOWHERE = [0.91, 0.01, 0.99, 0.05];
/** Two images: A and B, C. Right, wrong, right, A again. */
const OBJECTS = [[[0, ...A], [0, ...B], [-1, 0, 0, 1, 1], [0, ...NOWHERE]], [[0, ...C]]];
const FOUND = [
  [[0, 0.6, ...A], [0, 0.9, ...A], [-1, 0.99, ...B]],
  [[0, 0.8, ...NOWHERE], [0, 0.7, ...C]],
];

Deno.test("precisionRecall() takes each object once, the best detection first", () => {
  const { scores, precision, recall, objects } = precisionRecall(FOUND, OBJECTS);
  assertEquals(objects, 3);
  assertEquals([...scores], [0.9, 0.8, 0.7, 0.6]);
  assertEquals([...precision], [1, 1 / 2, 2 / 3, 2 / 4]);
  assertEquals([...recall], [1 / 3, 1 / 3, 2 / 3, 2 / 3]);
});

Deno.test("precisionRecall() counts an overlap equal to the threshold, and none below", () => {
  // Halves of a box overlap it by exactly one half.
  const half = [[[0, 1, 0, 0, 0.5, 1]]], whole = [[[0, 0, 0, 1, 1]]];
  assertEquals([...precisionRecall(half, whole).precision], [1]);
  assertEquals([...precisionRecall(half, whole, { iouThreshold: 0.51 }).precision], [0]);
});

Deno.test("precisionRecall() leaves other classes and detections past the most out", () => {
  assertEquals(precisionRecall(FOUND, OBJECTS, { classId: 1 }).scores.length, 0);
  assertEquals([...precisionRecall(FOUND, OBJECTS, { maxDetections: 1 }).scores], [0.9, 0.8]);
});

Deno.test("meanAveragePrecision() is COCO's mean over 101 recalls", () => {
  // Recalls 0 to 0.33 at precision 1, 0.34 to 0.66 at 2/3, none after.
  const expected = (34 + 33 * 2 / 3) / 101;
  const { map, atIou } = meanAveragePrecision(FOUND, OBJECTS);
  assertEquals(atIou.length, 10);
  // The boxes that are right are exact, so every overlap counts them.
  for (const ap of atIou) assertAlmostEquals(ap, expected, 1e-12);
  assertAlmostEquals(map, expected, 1e-12);
});

Deno.test("meanAveragePrecision() reads the precision at NumPy's recalls", () => {
  // Of 100 objects the first n are found, all at precision 1. np.linspace(0, 1, 101) has these n / 100 one
  // unit in the last place higher, so that a recall of n / 100 does not reach them.
  const above = [35, 41, 47, 57, 69, 70, 82, 83, 94, 95];
  const boxes = Array.from({ length: 100 }, (_, i) => [i, 0, i + 0.5, 1]);
  const objects = [boxes.map((box) => [0, ...box])];
  for (let n = 0; n <= 100; n++) {
    const found = [boxes.slice(0, n).map((box, i) => [0, 1 - i / 200, ...box])];
    const { map } = meanAveragePrecision(found, objects, { iouThresholds: [0.5] });
    const reached = n === 0 ? 0 : above.includes(n) ? n : n + 1;
    assertEquals(map, reached / 101, `${n} found`);
  }
});

Deno.test("meanAveragePrecision() asks for NumPy's overlaps", () => {
  // np.linspace(0.5, 0.95, 10). 0.5 + i * 0.05 has two others: 0.8500000000000001 and 0.9.
  const numpy = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95];
  for (const [i, threshold] of numpy.entries()) {
    const found = [[[0, 0.9, 0, 0, 1, 1]]], objects = [[[0, 0, 0, threshold, 1]]];
    const { atIou } = meanAveragePrecision(found, objects);
    assertEquals(atIou, numpy.map((_, k) => k <= i ? 1 : 0), `overlap ${threshold}`);
  }
});

Deno.test("meanAveragePrecision() falls with the overlap asked for", () => {
  // Shifted by an eighth of its width: an overlap of 7/9.
  const found = [[[0, 0.9, 0.125, 0, 1.125, 1]]], objects = [[[0, 0, 0, 1, 1]]];
  const { map, atIou } = meanAveragePrecision(found, objects);
  assertEquals(atIou, [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);
  assertAlmostEquals(map, 0.6, 1e-12);
});

Deno.test("meanAveragePrecision() is the mean over classes that have objects", () => {
  const objects = [[[0, ...A], [1, ...B]]];
  const found = [[[0, 0.9, ...A], [2, 0.8, ...C]]];
  assertEquals(meanAveragePrecision(found, objects).map, 0.5);
  assertEquals(meanAveragePrecision([[]], [[]]).map, 0);
  assert(meanAveragePrecision([[]], objects).map === 0);
});

Deno.test("detection metrics need as many lists of both", () => {
  assertThrows(() => precisionRecall([[]], []), TypeError, "1 images with objects of 0");
});
