import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { init } from "../../../engine/mod.ts";
import { stackPictures } from "../../../nn/data/collate.ts";
import type { Picture } from "../../../nn/data/picture.ts";
import { writePng } from "../../../nn/data/png_write.ts";
import { imagesToTensor, resize } from "../../../nn/vision/mod.ts";

Deno.test("stackPictures() puts pictures and labels one after the other", () => {
  const picture = (first: number) => ({
    data: Uint8Array.from({ length: 12 }, (_, i) => first + i),
    width: 2,
    height: 2,
    channels: 3,
  });
  const batch = stackPictures([{ ...picture(0), label: 4 }, picture(12)]);
  assertEquals(batch, {
    images: Uint8Array.from({ length: 24 }, (_, i) => i),
    labels: Int32Array.of(4, 0),
    count: 2,
    height: 2,
    width: 2,
    channels: 3,
  });
  const other = { data: new Uint8Array(6), width: 1, height: 2, channels: 3 };
  assertThrows(() => stackPictures([picture(0), other]), TypeError, "Cannot stack 2x1x3 on 2x2x3");
  assertEquals(stackPictures([]).count, 0);
});

Deno.test("stackPictures() copies no pictures that lie one after the other", () => {
  const bytes = Uint8Array.from({ length: 40 }, (_, i) => i);
  const at = (start: number, length = 4) => {
    return { data: bytes.subarray(start, start + length), width: 2, height: 2, channels: 1 };
  };
  const whole = stackPictures([at(8), at(12), at(16)]).images;
  assertEquals([whole, whole.buffer === bytes.buffer], [bytes.slice(8, 20), true]);
  for (const starts of [[8, 16], [12, 8], [8, 8]]) {
    const { images } = stackPictures(starts.map((start) => at(start)));
    assertEquals([...images], starts.flatMap((start) => [start, start + 1, start + 2, start + 3]));
    assert(images.buffer !== bytes.buffer);
  }
});

Deno.test("imagesToTensor() unpacks and permutes bytes on the GPU", async () => {
  await init();
  const [count, height, width, channels] = [2, 3, 5, 3];
  const images = Uint8Array.from(
    { length: count * height * width * channels },
    (_, i) => i * 37 % 256,
  );
  const tensor = imagesToTensor({ images, count, height, width, channels });
  assertEquals(tensor.shape, [2, 3, 3, 5]);
  const data = await tensor.data();
  for (let at = 0, n = 0; n < count; n++) {
    for (let c = 0; c < channels; c++) {
      for (let p = 0; p < height * width; p++, at++) {
        const byte = images[(n * height * width + p) * channels + c]!;
        assertEquals(data[at], Math.fround(byte * Math.fround(1 / 255)));
      }
    }
  }
});

Deno.test("imagesToTensor() takes pictures of several sizes", async () => {
  await init();
  const picture = (height: number, width: number) => ({
    data: Uint8Array.from({ length: height * width * 3 }, (_, i) => i * 29 % 256),
    height,
    width,
    channels: 3,
  });
  const pictures = [picture(4, 6), picture(3, 3), picture(2, 2)], size = [3, 3] as [number, number];
  const data = await imagesToTensor(pictures, { size }).data();
  for (const [i, one] of pictures.entries()) {
    const alone = await resize(imagesToTensor([one]), size).data();
    assertEquals(data.slice(27 * i, 27 * (i + 1)), alone);
  }
  assertEquals(imagesToTensor([picture(2, 2), picture(2, 2)]).shape, [2, 3, 2, 2]);
  assertThrows(() => imagesToTensor(pictures), TypeError, "Cannot stack 3x3x3 on 4x6x3");
  const grey = { data: Uint8Array.of(1), height: 1, width: 1, channels: 1 };
  assertThrows(() => imagesToTensor([grey, picture(2, 2)], { size }), TypeError);
});

Deno.test("what is no picture, or has bytes for another size, is refused", async () => {
  await init();
  const imageData = { data: new Uint8ClampedArray(8), width: 2, height: 1 }; // as a canvas gives it
  const sized = (bytes: number) => ({
    data: new Uint8Array(bytes),
    width: 2,
    height: 1,
    channels: 4,
  });
  const wrong: [unknown, string][] = [
    [[sized(6)], "a picture of 2x1 pixels with 4 channels and 6 bytes: it must have 8"],
    [[sized(8), sized(9)], "a picture of 2x1 pixels with 4 channels and 9 bytes: it must have 8"],
    [[{ ...sized(8), data: new Float32Array(8) }], "a picture is { data, width, height, channels"],
    [[imageData], "of a canvas's ImageData { data: new Uint8Array(image.data.buffer), width, hei"],
    [[undefined], "Cannot stack undefined: a picture is"],
    [imageData, "with data, width and height: it must be a batch of pictures or a list of them"],
    [null, "Cannot make a tensor of null: it must be a batch of pictures"],
  ];
  for (const [images, message] of wrong) {
    assertThrows(() => imagesToTensor(images as Picture[]), TypeError, message);
  }
  assertThrows(() => stackPictures(sized(8) as unknown as Picture[]), TypeError, "must be a list");
  await assertRejects(
    () => writePng("a.png" as unknown as Picture),
    TypeError,
    'Cannot write "a.png" as a PNG: it takes one picture',
  );
  assertEquals(imagesToTensor([{ ...sized(8), data: imageData.data as never }]).shape, [
    1,
    4,
    1,
    2,
  ]);
});
