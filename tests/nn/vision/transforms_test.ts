import { assertEquals, assertThrows } from "@std/assert";
import { init, nn, tensor } from "../../../mod.ts";

Deno.test("rotation from a range turns by its angles", async () => {
  await init();
  const x = tensor([[[[1, 2], [3, 4]]]]);
  const quarter = nn.vision.randomRotation(x, { degrees: [90, 90] });
  assertEquals(await quarter.array(), [[[[2, 4], [1, 3]]]]);
  const far = nn.vision.randomRotation(x, { degrees: [-450, -450] });
  assertEquals(await far.array(), [[[[3, 1], [4, 2]]]]);
  assertThrows(
    () => nn.vision.randomRotation(x, { degrees: [1, 0] }),
    RangeError,
    "Cannot rotate by 1 to 0 degrees: the range must be in order",
  );
});
