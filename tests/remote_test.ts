/** @file The library and the experiments by URL, from a folder that knows nothing of this repository. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { runLetters, TINY } from "./experiments/letters_run.ts";

const ONE_EPOCH = TINY.map((arg, i) => TINY[i - 1] === "--epochs" ? "1" : arg);
const ROOT = new URL("../", import.meta.url);

/** Serves the repository's files on localhost. */
function serve() {
  return Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    const path = new URL(request.url).pathname.slice(1);
    const file = new URL(path, ROOT);
    if (!file.href.startsWith(ROOT.href)) return new Response(null, { status: 403 });
    const type = path.endsWith(".json") ? "application/json" : "application/typescript";
    try {
      return new Response(await Deno.readFile(file), { headers: { "content-type": type } });
    } catch {
      return new Response(null, { status: 404 });
    }
  });
}

Deno.test("mod.ts imports by URL without an import map or a permission, and computes a gradient", async () => {
  const cwd = await Deno.makeTempDir();
  const server = serve();
  const { port } = server.addr;
  try {
    await Deno.writeTextFile(
      `${cwd}/main.ts`,
      `import { init, tensor } from "http://127.0.0.1:${port}/mod.ts";
await init();
const x = tensor([1, 2, 3], { requiresGrad: true });
x.square().sum().backward();
console.log(JSON.stringify(await x.grad.array()));
`,
    );
    const { code, stdout, stderr } = await new Deno.Command("deno", {
      args: ["run", "--no-prompt", `--allow-import=127.0.0.1:${port}`, "main.ts"],
      cwd,
      env: { NO_COLOR: "1" },
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    assertEquals([code, text(stdout).trim()], [0, "[2,4,6]"], text(stderr));
  } finally {
    await server.shutdown();
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("experiments/letters.ts trains by URL and writes only below the folder it runs in", async () => {
  const cwd = await Deno.makeTempDir();
  const server = serve();
  const { port } = server.addr;
  try {
    const { code, stdout, stderr } = await runLetters(ONE_EPOCH, {
      cwd,
      script: `http://127.0.0.1:${port}/experiments/letters.ts`,
      permissions: [`--allow-import=127.0.0.1:${port}`, "--allow-read=.", "--allow-write=."],
    });
    assertEquals(code, 0, stderr);
    assertStringIncludes(stdout, "Report: runs/letters-");
    const runs = [...Deno.readDirSync(`${cwd}/runs`)].map((e) => e.name);
    assertEquals(runs.length, 1);
    const summary = JSON.parse(await Deno.readTextFile(`${cwd}/runs/${runs[0]}/summary.json`));
    assert(summary.metrics.valTop1 >= 0);
  } finally {
    await server.shutdown();
    await Deno.remove(cwd, { recursive: true });
  }
});
