import { assert, assertEquals, assertThrows } from "@std/assert";
import { init, manualSeed, memory } from "../../mod.ts";
import { drawLetters, LETTERS, LiveLetters } from "../../experiments/_letters_live.ts";

Deno.test("live letters are learnt a step at a time, and read between the steps", async () => {
  await init();
  manualSeed(1);
  const train = drawLetters(128, { split: "train", seed: 1 });
  const val = drawLetters(70, { split: "test", seed: 1 });
  using live = new LiveLetters({ train, val });
  const losses: number[] = [];
  let held: number | undefined;
  for (let look = 0; look < 3; look++) {
    for (let step = 0; step < 10; step++) await live.step();
    const { loss, accuracy } = await live.progress();
    assert(accuracy >= 0 && accuracy <= 1);
    losses.push(loss);

    const { guesses, ...scores } = await live.validate();
    const right = guesses.filter((guess, i) => guess === val.labels[i]).length;
    assertEquals([guesses.length, scores.accuracy], [70, right / 70]);
    // A letter read alone is read as among the others.
    const shares = await live.read(val.images.slice(69 * 784, 70 * 784));
    assertEquals(shares.length, LETTERS.length);
    assert(Math.abs(shares.reduce((a, b) => a + b) - 1) < 1e-12);
    assertEquals(shares.indexOf(Math.max(...shares)), guesses[69]);
    // What is held does not grow once the step is recorded.
    const { liveBytes } = memory();
    if (look > 0) assertEquals(liveBytes, held);
    held = liveBytes;
  }
  assertEquals([live.steps, live.epochSteps], [30, 8]);
  // It begins near ln 26 = 3.26, above which steps at the full rate may throw it at first.
  assert(losses[2]! < losses[0]! && losses[0]! < 4.5, String(losses));
});

Deno.test("drawn letters fill the middle and are the same again", () => {
  const options = { split: "train", seed: 3 } as const;
  const { images, labels, count } = drawLetters(26, options);
  assertEquals([count, new Set(labels).size], [26, 26]);
  assertEquals(images, drawLetters(26, options).images);
  for (let letter = 0; letter < 26; letter++) {
    const rows = Array.from(
      { length: 28 },
      (_, row) =>
        Math.max(...images.subarray(784 * letter + 28 * row, 784 * letter + 28 * (row + 1))),
    );
    assert(Math.max(rows[0]!, rows[27]!) < 60, `${LETTERS[labels[letter]!]} touches the edge`);
    assert(
      Math.max(...rows.slice(10, 18)) > 100,
      `${LETTERS[labels[letter]!]} is not in the middle`,
    );
  }
});

Deno.test("too few live letters are refused", async () => {
  await init();
  const few = drawLetters(8, { split: "train", seed: 1 });
  assertThrows(
    () => new LiveLetters({ train: few, val: few }),
    RangeError,
    "Cannot train on 8 letters: a batch has 16",
  );
});
