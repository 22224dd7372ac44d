import { assertEquals, assertMatch } from "@std/assert";
import { zipSync } from "npm:fflate@0.8.3";
import { init, nn } from "../mod.ts";
import { encodeJpeg } from "./helpers/jpeg_file.ts";
import { ordered, pickle, torchTensor } from "./helpers/torch_file.ts";

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

/** What `torch.save(model.state_dict())` writes for a model of these shapes, with zeros. */
function torchFile(model: nn.Module): Uint8Array {
  const files: Record<string, Uint8Array> = {};
  const entries = Object.entries(model.stateDict()).map(([name, { shape, size, dtype }], i) => {
    const kind = dtype === "i32" ? "Long" : "Float";
    files[`archive/data/${i}`] = new Uint8Array(size * (kind === "Long" ? 8 : 4));
    const strides = shape.map((_, d) => shape.slice(d + 1).reduce((a, b) => a * b, 1));
    const view = { key: String(i), length: size, shape: [...shape], strides };
    return [name, torchTensor(kind, view)];
  });
  files["archive/data.pkl"] = Uint8Array.from(pickle(ordered(Object.fromEntries(entries))));
  return zipSync(files, { level: 0 });
}

Deno.test("the README's program for one's own weights runs and prints what its comments say", async () => {
  const readme = await Deno.readTextFile(new URL("../README.md", import.meta.url));
  const [code] = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!)
    .filter((code) => code.includes("loadWeights"));
  const cwd = await Deno.makeTempDir();
  try {
    await init();
    using model = nn.models.resnet18();
    await Deno.writeFile(`${cwd}/resnet18-f37072fd.pth`, torchFile(model));
    const mod = new URL("../mod.ts", import.meta.url).href;
    await Deno.writeTextFile(`${cwd}/main.ts`, code!.replace('"./mod.ts"', JSON.stringify(mod)));
    const { code: status, stdout, stderr } = await new Deno.Command("deno", {
      args: ["run", "--no-prompt", "--allow-read=.", "main.ts"],
      cwd,
      env: { NO_COLOR: "1" },
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    assertEquals(status, 0, text(stderr));
    assertEquals(text(stdout), '120 [ "fc.weight", "fc.bias" ]\n');
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});
