/**
 * @file `deno task test:browser`: the engine's, the layers' and the experiments' tests in headless Chromium, whose
 * WebGPU (Dawn) has another shader compiler than Deno's.
 *
 * The tests are the files that `deno task test` runs, bundled as they are; those that need files,
 * processes or a server stay out. Arguments pick the files whose paths hold one of them. Ends with
 * `N passed, N failed`.
 */

import { registeredTests } from "../helpers/registered.ts";
import type { PageResult } from "./shim.ts";

const ROOT = new URL("../../", import.meta.url);
/** Seconds without a word from the browser after which it is given up. */
const PATIENCE = 240;
/** Folders whose tests run in pages. */
const FOLDERS = ["tests/engine", "tests/nn", "tests/experiments"];
/** What a page has no answer to. */
const NEEDS: readonly (readonly [RegExp, string])[] = [
  [/"[^"]*helpers\/(source|registered)\.ts"/, "reads sources"],
  [/from "node:|npm:pngjs/, "needs Node"],
  [/worker_dataset/, "starts workers from modules as they are"],
  [/\bDeno\.(?!test\b|inspect\b|readDirSync\b)\w+/, "needs Deno for files, processes or a server"],
];

/** The test files that pages run, and the others with the reason. */
export function pageTests(): { files: string[]; left: (readonly [string, string])[] } {
  const files: string[] = [];
  const left: (readonly [string, string])[] = [];
  const visit = (folder: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(new URL(`${folder}/`, ROOT))) {
      const path = `${folder}/${name}`;
      if (isDirectory) visit(path);
      else if (name.endsWith("_test.ts")) {
        const text = Deno.readTextFileSync(new URL(path, ROOT));
        const reason = NEEDS.find(([form]) => form.test(text))?.[1];
        if (reason) left.push([path, reason]);
        else files.push(path);
      }
    }
  };
  FOLDERS.forEach(visit);
  left.sort(([a], [b]) => a < b ? -1 : 1);
  return { files: files.sort(), left };
}

/** The module of the page that runs one test file, alone as under `deno test`. */
function entry(file: string): string {
  const at = (path: string) => JSON.stringify(new URL(path, ROOT).href);
  const listsOps = Deno.readTextFileSync(new URL(file, ROOT)).includes("readDirSync");
  const ops = listsOps ? [...Deno.readDirSync(new URL("engine/ops/", ROOT))] : [];
  return `import { report } from ${at("tests/browser/shim.ts")};
import { init } from ${at("engine/mod.ts")};
${ops.map(({ name }) => `import ${at(`engine/ops/${name}`)};`).join("\n")}
await report(async () => {
  await import(${at(file)});
  return (await init()).adapter;
});
`;
}

/** Bundles a page a test file; gives the folder with `page0.js`, `page1.js`, … */
async function bundle(folder: string, files: readonly string[]): Promise<string> {
  const names = files.map((_, i) => `page${i}.ts`);
  for (const [i, file] of files.entries()) {
    await Deno.writeTextFile(`${folder}/${names[i]}`, entry(file));
  }
  const { code, stderr } = await new Deno.Command("deno", {
    args: ["bundle", "--quiet", "--platform", "browser", "--code-splitting", "--outdir", "out"]
      .concat("--config", new URL("deno.json", ROOT).pathname, names),
    cwd: folder,
  }).output();
  if (code !== 0) throw new Error(`The bundle failed: ${new TextDecoder().decode(stderr)}`);
  return `${folder}/out`;
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

/** Like {@linkcode runOnce}; a browser that breaks off before its first word is started again, once. */
async function runInBrowser(
  files: readonly string[],
  { pages, profile }: { pages: string; profile: string },
): Promise<PageResult[]> {
  const results: PageResult[] = [];
  try {
    return await runOnce(files, { pages, profile, results });
  } catch (error) {
    if (results.length > 0) throw error;
    console.log(`${error instanceof Error ? error.message : error}: started again`);
    return await runOnce(files, { pages, profile: `${profile}2`, results });
  }
}

/** Serves the pages, opens the browser on the first and waits until each has reported. */
async function runOnce(
  files: readonly string[],
  { pages, profile, results }: { pages: string; profile: string; results: PageResult[] },
): Promise<PageResult[]> {
  const { promise, resolve, reject } = Promise.withResolvers<PageResult[]>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wait = () => {
    clearTimeout(timer);
    const message = `The browser was silent for ${PATIENCE} s in ${files[results.length]}`;
    timer = setTimeout(() => reject(new Error(message)), PATIENCE * 1000);
  };
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    if (pathname.endsWith(".js")) {
      const script = await Deno.readTextFile(`${pages}/${pathname.slice(1)}`);
      return new Response(script, { headers: { "content-type": "text/javascript" } });
    }
    if (request.method === "POST") {
      wait();
      results.push(await request.json());
      console.log(line(files[results.length - 1]!, results.at(-1)!));
      if (results.length === files.length) resolve(results);
      return new Response(String(results.length));
    }
    // The page's own address says which script it runs: /0, /1, …
    if (!/^\/\d+$/.test(pathname)) return new Response("no such page", { status: 404 });
    const html = `<!doctype html><meta charset="utf-8"><script type="module" src="/page${
      pathname.slice(1)
    }.js"></script>`;
    return new Response(html, { headers: { "content-type": "text/html" } });
  });
  const browser = new Deno.Command("chromium", {
    args: [...FLAGS, `--user-data-dir=${profile}`, `http://127.0.0.1:${server.addr.port}/0`],
    stdout: "null",
    stderr: "null",
  }).spawn();
  wait();
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

/** Tests that a page has registered and Deno has not, or the other way round. */
async function differences(
  files: readonly string[],
  results: readonly PageResult[],
): Promise<PageResult["failures"]> {
  const registered = await registeredTests(files);
  return files.flatMap((file, i) => {
    const { passed, failures, ignored } = results[i]!;
    const here = passed + failures.length + ignored.length;
    const there = registered.filter((t) => t.file === file).length;
    const message = `${here} tests in the page, ${there} in Deno`;
    return here === there ? [] : [{ name: `${file} has the same tests in the page`, message }];
  });
}

function line(file: string, result: PageResult): string {
  const ignored = result.ignored.length > 0 ? `, ${result.ignored.length} ignored` : "";
  return `${file}: ${result.passed} passed, ${result.failures.length} failed${ignored} ` +
    `(${result.seconds.toFixed(1)} s)`;
}

async function main(): Promise<number> {
  const words = Deno.args;
  const { files: all, left } = pageTests();
  const files = all.filter((f) => words.length === 0 || words.some((w) => f.includes(w)));
  if (files.length === 0) {
    throw new RangeError(`No test file's path has ${words.join(" or ")} in it`);
  }
  const folder = await Deno.makeTempDir();
  try {
    const pages = await bundle(folder, files);
    const results = await runInBrowser(files, { pages, profile: `${folder}/profile` });
    const failures = results.flatMap((r) => r.failures);
    failures.push(...await differences(files, results));
    const ignored = results.flatMap((r) => r.ignored);
    for (const { name, message } of failures) console.log(`\n${name}\n${message}`);
    if (ignored.length > 0) console.log("");
    for (const { name, reason } of ignored) console.log(`ignored ${name}: ${reason}`);
    const adapters = new Set(results.map((r) => r.adapter).filter((name) => name !== ""));
    if (words.length === 0) {
      console.log("");
      for (const [file, reason] of left) console.log(`left out ${file}: ${reason}`);
    }
    console.log(`\nAdapter ${[...adapters].join(", ")}, ${ignored.length} ignored`);
    const passed = results.reduce((n, r) => n + r.passed, 0);
    console.log(`${passed} passed, ${failures.length} failed`);
    return failures.length === 0 ? 0 : 1;
  } finally {
    await Deno.remove(folder, { recursive: true }).catch(() => {});
  }
}

if (import.meta.main) Deno.exit(await main());
