import { assertEquals, assertNotEquals } from "@std/assert";
import { philox4x32, type U32x2, type U32x4 } from "../../engine/philox.ts";

// tests/kat_vectors of Random123 1.14 (philox4x32 10)
const ONES = 0xffffffff;
const KNOWN: [string, U32x4, U32x2, U32x4][] = [
  [
    "zeros",
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    "ones",
    [ONES, ONES, ONES, ONES],
    [ONES, ONES],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    "digits of pi",
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
];

for (const [name, counter, key, words] of KNOWN) {
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
