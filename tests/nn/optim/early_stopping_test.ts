import { assertEquals, assertThrows } from "@std/assert";
import { EarlyStopping } from "../../../nn/optim/early_stopping.ts";

/** What `step` gave for each value, and whether it had then stopped. */
function run(stopping: EarlyStopping, values: readonly number[]): [boolean, boolean][] {
  return values.map((value) => [stopping.step(value), stopping.stopped]);
}

Deno.test("EarlyStopping stops after patience steps without a smaller number", () => {
  const stopping = new EarlyStopping({ patience: 2 });
  assertEquals(run(stopping, [3, 2, 2, 1, 1.5, 1]), [
    [true, false],
    [true, false],
    [false, false],
    [true, false],
    [false, false],
    [false, true],
  ]);
  assertEquals([stopping.best, stopping.badSteps], [1, 2]);
});

Deno.test("EarlyStopping in mode max wants larger numbers", () => {
  const stopping = new EarlyStopping({ patience: 1, mode: "max" });
  assertEquals(run(stopping, [-5, 0.5, 0.4]), [[true, false], [true, false], [false, true]]);
});

Deno.test("EarlyStopping wants numbers better by more than minDelta", () => {
  const stopping = new EarlyStopping({ patience: 1, minDelta: 0.5 });
  assertEquals(run(stopping, [4, 3, 2.5]), [[true, false], [true, false], [false, true]]);
});

Deno.test("EarlyStopping never takes NaN for better, nor a NaN start for good", () => {
  const stopping = new EarlyStopping({ patience: 2 });
  assertEquals(run(stopping, [NaN, 1, NaN, NaN]), [
    [false, false],
    [true, false],
    [false, false],
    [false, true],
  ]);
});

Deno.test("EarlyStopping goes on from its state", () => {
  const first = new EarlyStopping({ patience: 3 });
  run(first, [2, 3, 3]);
  const second = new EarlyStopping({ patience: 3 });
  assertEquals(second.stateDict(), { best: Infinity, badSteps: 0 });
  second.loadStateDict(structuredClone(first.stateDict()));
  assertEquals(run(second, [2]), [[false, true]]);
});

Deno.test("EarlyStopping names the option that is out of range", () => {
  assertThrows(() => new EarlyStopping({ patience: 0 }), RangeError, "patience 0");
  assertThrows(() => new EarlyStopping({ patience: 1.5 }), RangeError, "whole number");
  assertThrows(() => new EarlyStopping({ patience: 1, minDelta: -1 }), RangeError, "minDelta -1");
});
