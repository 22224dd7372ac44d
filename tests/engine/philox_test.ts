import { assertEquals, assertNotEquals } from "@std/assert";
import { philox4x32, type U32x2, type U32x4 } from "../../engine/philox.ts";
import { KNOWN_PHILOX } from "../helpers/philox_vectors.ts";

for (const [name, counter, key, words] of KNOWN_PHILOX) {
  Deno.test(`philox4x32() gives the known answer for ${name}`, () => {
    assertEquals(philox4x32(counter, key), words);
  });
}

Deno.test("philox4x32() does not change its arguments", () => {
  const counter: U32x4 = [1, 2, 3, 4], key: U32x2 = [5, 6];
  philox4x32(counter, key);
  assertEquals([counter, key], [[1, 2, 3, 4], [5, 6]]);
});

Deno.test("philox4x32() depends on every word of counter and key", () => {
  const base = philox4x32([0, 0, 0, 0], [0, 0]);
  for (let word = 0; word < 6; word++) {
    const words = [0, 0, 0, 0, 0, 0];
    words[word] = 0x80000000;
    const [c0, c1, c2, c3, k0, k1] = words as [number, number, number, number, number, number];
    assertNotEquals(philox4x32([c0, c1, c2, c3], [k0, k1]), base, `word ${word}`);
  }
});
