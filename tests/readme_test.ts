import { assertEquals, assertMatch } from "@std/assert";
import { encodeJpeg } from "./helpers/jpeg_file.ts";

Deno.test("the README's program runs and prints what its comments say", async () => {
  const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));
  const [, code] = /```ts\n([\s\S]*?)```/.exec(readme)!;
  const cwd = await Deno.makeTempDir();
  try {
    const mod = new URL("../mod.ts", import.meta.url).href;
    await Deno.writeTextFile(`${cwd}/main.ts`, code!.replace('"./mod.ts"', JSON.stringify(mod)));
    const { code: status, stdout, stderr } = await new Deno.Command("deno", {
      args: ["run", "--no-prompt", "--allow-read=.", "--allow-write=.", "main.ts"],
      cwd,
      env: { NO_COLOR: "1" },
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    assertEquals(status, 0, text(stderr));
    assertMatch(text(stdout), /\[ \[ 7, 11 \], \[ 9, 13 \] \]\n10 \d\.\d+\n20 0\.\d+\n/);
    assertEquals(Deno.statSync(`${cwd}/net.safetensors`).isFile, true);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("the README's program for one's own images runs", async () => {
  const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));
  const [code] = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!)
    .filter((code) => code.includes("openImageFolder"));
  const cwd = await Deno.makeTempDir();
  try {
    for (const [i, name] of ["cat", "dog"].entries()) {
      await Deno.mkdir(`${cwd}/pictures/train/${name}`, { recursive: true });
      const size = [5 + i, 7] as const, rgb = new Uint8Array(3 * size[0] * size[1]).fill(99);
      const jpeg = await encodeJpeg(rgb, { size, quality: 90 });
      await Deno.writeFile(`${cwd}/pictures/train/${name}/1.jpg`, jpeg);
    }
    const mod = new URL("../mod.ts", import.meta.url).href;
    await Deno.writeTextFile(`${cwd}/main.ts`, code!.replace('"./mod.ts"', JSON.stringify(mod)));
    const { code: status, stdout, stderr } = await new Deno.Command("deno", {
      args: ["run", "--no-prompt", "--allow-read", "main.ts"],
      cwd,
      env: { NO_COLOR: "1" },
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    assertEquals(status, 0, text(stderr));
    assertEquals(text(stdout), '[ 2, 3, 224, 224 ] [ 2 ] [ "cat", "dog" ]\n');
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});
