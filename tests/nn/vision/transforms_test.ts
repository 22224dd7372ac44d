import { assertEquals, assertThrows } from "@std/assert";
import { init, nn, tensor } from "../../../mod.ts";

Deno.test("rotation from a range turns by its angles", async () => {
  await init();
  const x = tensor([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]]);
  const quarter = nn.vision.randomRotation(x, { degrees: [90, 90] });
  assertEquals(await quarter.array(), [[[[3, 6, 9], [2, 5, 8], [1, 4, 7]]]]);
  const far = nn.vision.randomRotation(x, { degrees: [-450, -450] });
  assertEquals(await far.array(), [[[[7, 4, 1], [8, 5, 2], [9, 6, 3]]]]);
  assertThrows(
    () => nn.vision.randomRotation(x, { degrees: [1, 0] }),
    RangeError,
    "Cannot rotate by 1 to 0 degrees: the range must be in order",
  );
});
