import { assertEquals, assertMatch } from "@std/assert";

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
