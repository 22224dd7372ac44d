import { assert, assertEquals, assertThrows } from "@std/assert";
import { ClassSampler, resampleClasses, WeightedSampler } from "../../../nn/data/samplers.ts";
import { DataLoader } from "../../../nn/data/loader.ts";

function counts(indices: ArrayLike<number>, length: number): number[] {
  const found = new Array<number>(length).fill(0);
  for (const index of Array.from(indices)) found[index]!++;
  return found;
}

Deno.test("WeightedSampler draws in proportion to the weights", () => {
  const weights = [1, 0, 3, 4], n = 40_000;
  const sampler = new WeightedSampler(weights, { numSamples: n, seed: 2 });
  const found = counts(sampler.indices(0), 4);
  for (const [i, weight] of weights.entries()) {
    const p = weight / 8, deviation = Math.sqrt(n * p * (1 - p));
    assert(Math.abs(found[i]! - n * p) <= 5 * deviation, `${found[i]} of ${n} for p = ${p}`);
  }
});

Deno.test("WeightedSampler without replacement draws each once, the heavy ones first", () => {
  const weights = [1, 2, 0, 5], rounds = 20_000;
  const sampler = new WeightedSampler(weights, { numSamples: 3, replacement: false, seed: 1 });
  const first = new Array<number>(4).fill(0), second = new Array<number>(4).fill(0);
  for (let epoch = 0; epoch < rounds; epoch++) {
    const indices = sampler.indices(epoch);
    assertEquals([...indices].sort(), [0, 1, 3]);
    first[indices[0]!]!++;
    second[indices[1]!]!++;
  }
  // First: w / 8. Second: the sum over the others j first of w_j / 8 * w / (8 - w_j).
  const others = (i: number) =>
    [0, 1, 3].filter((j) => j !== i).reduce(
      (sum, j) => sum + weights[j]! / 8 * weights[i]! / (8 - weights[j]!),
      0,
    );
  for (const i of [0, 1, 3]) {
    for (const [found, p] of [[first[i]!, weights[i]! / 8], [second[i]!, others(i)]] as const) {
      const deviation = Math.sqrt(rounds * p * (1 - p));
      assert(Math.abs(found - rounds * p) <= 5 * deviation, `${found} of ${rounds} for p = ${p}`);
    }
  }
});

Deno.test("WeightedSampler depends on seed and epoch alone", () => {
  const make = (seed: number) => new WeightedSampler([1, 2, 3, 4, 5], { numSamples: 50, seed });
  assertEquals(make(1).indices(3), make(1).indices(3));
  assert(make(1).indices(3).join() !== make(1).indices(4).join());
  assert(make(1).indices(3).join() !== make(2).indices(3).join());
  assertEquals(new WeightedSampler([1, 1]).length, 2);
  assertEquals(
    [...new WeightedSampler([0, 1e308, 1e308, 0], { seed: 1 }).indices(0)].sort().at(-1),
    2,
  );
});

Deno.test("WeightedSampler throws for weights and numbers out of range", () => {
  for (const weight of [-1, NaN, Infinity]) {
    assertThrows(() => new WeightedSampler([1, weight]), RangeError, "of sample 1: it must be");
  }
  assertThrows(() => new WeightedSampler([0, 0]), RangeError, "Cannot draw 2 of 0 samples");
  const once = { replacement: false, numSamples: 2 };
  assertThrows(() => new WeightedSampler([1, 0], once), RangeError, "Cannot draw 2 of 1 samples");
  assertThrows(() => new WeightedSampler([1], { numSamples: 0.5 }), RangeError, "Cannot draw 0.5");
  assertThrows(() => new WeightedSampler([1], { seed: -1 }), RangeError, "as seed");
});

const LABELS = [...new Array(9).fill("wren"), "owl", ...new Array(4).fill("kite"), "owl"];

Deno.test("resampleClasses() caps large classes and fills small ones", () => {
  const indices = resampleClasses(LABELS, { cap: 5, floor: 3, seed: 7 });
  const labels = indices.map((index) => LABELS[index]);
  assertEquals(labels, [
    ...new Array(5).fill("wren"),
    ...new Array(3).fill("owl"),
    ...new Array(4).fill("kite"),
  ]);
  const wrens = indices.slice(0, 5);
  assertEquals(new Set(wrens).size, 5, "without replacement");
  assertEquals(indices.slice(8), [10, 11, 12, 13], "whole");
  assertEquals(resampleClasses(LABELS, { cap: 5, floor: 3, seed: 7 }), indices);
  assert(resampleClasses(LABELS, { cap: 5, floor: 3, seed: 8 }).join() !== indices.join());
  assertEquals(resampleClasses(LABELS).length, LABELS.length);
  assertEquals(resampleClasses([]), []);
  assertEquals(resampleClasses(LABELS, { cap: 2, floor: 2 }).length, 6);
});

Deno.test("resampleClasses() draws every member alike", () => {
  const found = new Array<number>(LABELS.length).fill(0), rounds = 3000;
  for (let seed = 0; seed < rounds; seed++) {
    for (const index of resampleClasses(LABELS, { cap: 3, floor: 3, seed })) found[index]!++;
  }
  for (const [index, label] of LABELS.entries()) {
    const size = { wren: 9, owl: 2, kite: 4 }[label as "wren"];
    const mean = rounds * 3 / size, deviation = Math.sqrt(mean);
    assert(Math.abs(found[index]! - mean) <= 5 * deviation, `${found[index]}, not ${mean}`);
  }
});

Deno.test("ClassSampler draws and shuffles anew every epoch", async () => {
  const sampler = new ClassSampler(LABELS, { cap: 5, floor: 3, seed: 1 });
  assertEquals(sampler.length, 12);
  const seen = new Set<number>();
  for (let epoch = 0; epoch < 20; epoch++) {
    const indices = sampler.indices(epoch);
    assertEquals(indices, sampler.indices(epoch));
    const labels = indices.map((index) => LABELS[index]);
    for (const [label, size] of [["wren", 5], ["owl", 3], ["kite", 4]] as const) {
      assertEquals(labels.filter((l) => l === label).length, size);
    }
    if (epoch > 0) assert(indices.join() !== sampler.indices(epoch - 1).join());
    indices.forEach((index) => seen.add(index));
  }
  assertEquals(seen.size, LABELS.length);
  const names = { length: LABELS.length, get: (i: number) => LABELS[i]! };
  const loader = new DataLoader(names, { batchSize: 4, sampler });
  let count = 0;
  for await (const batch of loader) count += batch.length;
  assertEquals(count, 12);
});

Deno.test("resampleClasses() throws for limits out of range", () => {
  for (
    const limits of [{ cap: 0 }, { cap: 2.5 }, { floor: 0 }, { floor: NaN }, { cap: 2, floor: 3 }]
  ) {
    assertThrows(() => resampleClasses(LABELS, limits), RangeError, "Cannot resample classes");
    assertThrows(() => new ClassSampler(LABELS, limits), RangeError, "1 <= floor <= cap");
  }
});
