import { assertEquals, assertThrows } from "@std/assert";
import { fromBytes } from "../../engine/functions.ts";
import { init } from "../../engine/gpu/device.ts";

await init();

Deno.test("fromBytes() gives byte · scale for any length and any place in a buffer", async () => {
  const all = Uint8Array.from({ length: 1031 }, (_, i) => (i * 37 + 11) % 256);
  for (const length of [0, 1, 2, 3, 4, 5, 7, 255, 256, 257, 1023]) {
    for (const start of [0, 1, 2, 3]) {
      const bytes = all.subarray(start, start + length);
      using x = fromBytes(bytes, { shape: [length], scale: 1 });
      assertEquals([...await x.data()], [...bytes], `${length} bytes from ${start} on`);
    }
  }
  using pixels = fromBytes(new Uint8Array([0, 51, 255, 1]), { shape: [2, 2] });
  const scaled = (byte: number) => Math.fround(byte * Math.fround(1 / 255));
  assertEquals(await pixels.array(), [[0, scaled(51)], [1, scaled(1)]]);
});

Deno.test("fromBytes() refuses a shape of another size", () => {
  assertThrows(
    () => fromBytes(new Uint8Array(5), { shape: [2, 3] }),
    TypeError,
    "Cannot make [2, 3] from 5 bytes: it needs 6",
  );
});
