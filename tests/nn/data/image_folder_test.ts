import { assertEquals, assertRejects } from "@std/assert";
import { Buffer } from "node:buffer";
import { PNG } from "npm:pngjs@7.0.0";
import { encodeJpeg } from "../../helpers/jpeg_file.ts";
import { openImageFolder } from "../../../nn/data/image_folder.ts";
import { FormatError } from "../../../nn/format_error.ts";

/** A PNG of one pixel. */
function pixel(r: number, g: number, b: number): Uint8Array {
  const png = new PNG({ width: 1, height: 1 });
  png.data = Buffer.from([r, g, b, 255]);
  return Uint8Array.from(PNG.sync.write(png));
}

async function withFiles(
  files: Record<string, Uint8Array>,
  body: (dir: string) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    for (const [path, bytes] of Object.entries(files)) {
      const folder = `${dir}/${path}`.replace(/\/[^/]*$/, "");
      await Deno.mkdir(folder, { recursive: true });
      await Deno.writeFile(`${dir}/${path}`, bytes);
    }
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("openImageFolder() takes folders of more files than a call has arguments", async () => {
  const count = 200_000, { readDir } = Deno;
  const entry = { isSymlink: false, isFile: true, isDirectory: false };
  Deno.readDir = async function* (path) {
    const [name] = String(path).match(/[^/]+$/)!;
    const inside = { root: "class", class: "inner" }[name];
    if (inside) return yield { ...entry, name: inside, isFile: false, isDirectory: true };
    for (let i = 0; i < count; i++) yield { ...entry, name: `${i}.png` };
  };
  try {
    const folder = await openImageFolder("root");
    assertEquals([folder.length, folder.files[count - 1]!.path], [
      count,
      "root/class/inner/99999.png",
    ]);
  } finally {
    Deno.readDir = readDir;
  }
});

Deno.test("openImageFolder() finds classes and pictures in order", async () => {
  const files = {
    "dog/b.png": pixel(4, 5, 6),
    "dog/a.PNG": pixel(7, 8, 9),
    "Cat/more/x.png": pixel(1, 2, 3),
    "dog/.hidden.png": pixel(0, 0, 0),
    "dog/note.txt": new Uint8Array(1),
    ".git/x.png": pixel(0, 0, 0),
    "list.csv": new Uint8Array(1),
  };
  await withFiles(files, async (dir) => {
    for (const root of [dir, `${dir}/`, new URL(`file://${dir}/`)]) {
      const folder = await openImageFolder(root);
      assertEquals([folder.length, folder.classes], [3, ["Cat", "dog"]]);
      assertEquals(folder.files.map(({ path }) => path.slice(dir.length)), [
        "/Cat/more/x.png",
        "/dog/a.PNG",
        "/dog/b.png",
      ]);
      const data = Uint8Array.of(7, 8, 9);
      assertEquals(await folder.get(1), { data, width: 1, height: 1, channels: 3, label: 1 });
    }
    const grey = await openImageFolder(dir, { channels: 1 });
    assertEquals((await grey.get(0)).channels, 1);
    await assertRejects(() => grey.get(3), RangeError, "valid are 0 to 2");
  });
});

Deno.test("openImageFolder() reads PNG and JPEG files, whatever their names say", async () => {
  const jpeg = await encodeJpeg(new Uint8Array(3).fill(9), { size: [1, 1], quality: 100 });
  const files = { "a/1.png": pixel(1, 2, 3), "a/2.JPG": jpeg, "a/3.png": jpeg, "a/4.jpeg": jpeg };
  await withFiles(files, async (dir) => {
    const folder = await openImageFolder(dir);
    assertEquals(folder.length, 4);
    assertEquals((await folder.get(0)).data, Uint8Array.of(1, 2, 3));
    for (const index of [1, 2, 3]) {
      assertEquals((await folder.get(index)).data, Uint8Array.of(9, 9, 9));
    }
    const some = await openImageFolder(dir, { extensions: [".jpg"] });
    assertEquals(some.files.map(({ path }) => path), [`${dir}/a/2.JPG`]);
  });
});

Deno.test("openImageFolder() says what is missing, and get() which file is damaged", async () => {
  await withFiles({ "a/1.png": new Uint8Array(9), "x.png": pixel(0, 0, 0) }, async (dir) => {
    const folder = await openImageFolder(dir);
    await assertRejects(() => folder.get(0), FormatError, `Cannot read ${dir}/a/1.png: `);
    await assertRejects(
      () => openImageFolder(`${dir}/none`),
      Deno.errors.NotFound,
      "no such folder",
    );
    await assertRejects(
      () => openImageFolder(`${dir}/a`),
      Deno.errors.NotFound,
      "Cannot find classes",
    );
    await Deno.mkdir(`${dir}/b`);
    const empty = `Cannot use ${dir}/b as a class: it has no files that end in .png, .jpg, `;
    await assertRejects(() => openImageFolder(dir), Deno.errors.InvalidData, empty);
  });
});
