/**
 * @file `deno task test:browser`: the engine's and the layers' tests in headless Chromium, whose WebGPU
 * (Dawn) has another shader compiler than Deno's.
 *
 * The tests are the files that `deno task test` runs, bundled as they are; those that need files,
 * processes or a server stay out. Ends with `N passed, N failed`.
 */

import type { PageResult } from "./shim.ts";

const ROOT = new URL("../../", import.meta.url);
/** Seconds after which the browser is given up. */
const PATIENCE = 600;
/** Folders whose tests run in the page. */
const FOLDERS = [
  "tests/engine",
  "tests/engine/gpu",
  "tests/nn",
  "tests/nn/optim",
  "tests/nn/models",
];
/** What a page has no answer to. */
const NEEDS_DENO =
  /Deno\.(Command|readTextFile|makeTempDir|readFile|writeFile|env|serve|open|permissions|stat|remove|mkdir|build)\b/;

/** Test files that need nothing of Deno but `Deno.test`. */
export function pageTests(): string[] {
  const files: string[] = [];
  for (const folder of FOLDERS) {
    for (const { name, isFile } of Deno.readDirSync(new URL(`${folder}/`, ROOT))) {
      if (!isFile || !name.endsWith("_test.ts")) continue;
      const path = `${folder}/${name}`;
      if (!NEEDS_DENO.test(Deno.readTextFileSync(new URL(path, ROOT)))) files.push(path);
    }
  }
  return files.sort();
}

/** The module that the page runs. */
function entry(files: readonly string[]): string {
  const ops = [...Deno.readDirSync(new URL("engine/ops/", ROOT))].map((e) =>
    `engine/ops/${e.name}`
  );
  const imports = [...ops, ...files].map((path) => `import "${new URL(path, ROOT).href}";`);
  const at = (path: string) => JSON.stringify(new URL(path, ROOT).href);
  return `import { runAll } from ${at("tests/browser/shim.ts")};
import { init } from ${at("mod.ts")};
${imports.join("\n")}
const post = (path, body) => fetch(path, { method: "POST", body });
try {
  const result = await runAll(async () => (await init()).adapter, (line) => void post("/line", line));
  await post("/result", JSON.stringify(result));
} catch (error) {
  await post("/broken", String(error?.stack ?? error));
}
`;
}

async function bundle(folder: string, files: readonly string[]): Promise<string> {
  await Deno.writeTextFile(`${folder}/entry.ts`, entry(files));
  const { code, stderr } = await new Deno.Command("deno", {
    args: ["bundle", "--quiet", "--platform", "browser", "-o", "page.js", "entry.ts"]
      .concat("--config", new URL("deno.json", ROOT).pathname),
    cwd: folder,
  }).output();
  if (code !== 0) throw new Error(`The bundle failed: ${new TextDecoder().decode(stderr)}`);
  return await Deno.readTextFile(`${folder}/page.js`);
}

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Serves the page, opens the browser on it and waits for its report. */
async function runInBrowser(script: string, folder: string): Promise<PageResult> {
  const { promise, resolve, reject } = Promise.withResolvers<PageResult>();
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/page.js") {
      return new Response(script, { headers: { "content-type": "text/javascript" } });
    }
    if (request.method === "POST") {
      const text = await request.text();
      if (pathname === "/result") resolve(JSON.parse(text));
      else if (pathname === "/broken") reject(new Error(`The page broke: ${text}`));
      else console.log(text);
      return new Response();
    }
    const html =
      '<!doctype html><meta charset="utf-8"><script type="module" src="page.js"></script>';
    return new Response(html, { headers: { "content-type": "text/html" } });
  });
  const browser = new Deno.Command("chromium", {
    args: [
      ...FLAGS,
      `--user-data-dir=${folder}/profile`,
      `http://127.0.0.1:${server.addr.port}/`,
    ],
    stdout: "null",
    stderr: "null",
  }).spawn();
  const timer = setTimeout(
    () => reject(new Error(`The browser did not report within ${PATIENCE} s`)),
    PATIENCE * 1000,
  );
  browser.status.then(({ code }) => reject(new Error(`The browser ended with code ${code}`)));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    try {
      browser.kill("SIGKILL");
    } catch { /* it ended by itself */ }
    await browser.status;
    await server.shutdown();
  }
}

async function main(): Promise<number> {
  const files = pageTests();
  const folder = await Deno.makeTempDir();
  try {
    console.log(`${files.length} test files in Chromium: ${files.join(" ")}`);
    const result = await runInBrowser(await bundle(folder, files), folder);
    for (const { name, message } of result.failures) console.log(`\n${name}\n${message}`);
    console.log(
      `\nAdapter ${result.adapter}, ${result.seconds.toFixed(0)} s, ${result.ignored} ignored`,
    );
    console.log(`${result.passed} passed, ${result.failures.length} failed`);
    return result.failures.length === 0 ? 0 : 1;
  } finally {
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  }
}

if (import.meta.main) Deno.exit(await main());
