/**
 * @file `deno task train:browser`: the letters experiment on the WebGPU of a browser, on this machine only.
 *
 *   deno task train:browser
 *   deno task train:browser --port 9000
 *   deno task train:browser --out DIR         the page as files, for any web server
 *
 * The page trains, shows its loss and what it reads wrong, reads letters that are drawn on it, and saves its
 * weights. Nothing leaves the browser.
 */

import { writeFileAtomic } from "../nn/io/atomic.ts";
import { serveLocally } from "../nn/run/local_server.ts";
import { REPORT_STYLE } from "../nn/run/report_style.ts";
import { defineFlags, runMain } from "./_args.ts";
import { LETTERS_PAGE, LETTERS_STYLE } from "./_letters_page_html.ts";

const FLAGS = defineFlags({
  port: { type: "integer", default: 8266, min: 0, max: 65535, help: "Port on 127.0.0.1" },
  out: { type: "path", help: "Folder to write the page into instead of serving it" },
}, {
  command: "deno task train:browser",
  about: "Trains the letters experiment on the WebGPU of a browser.",
});

/** A file of the page. */
interface PageFile {
  readonly type: string;
  readonly body: string | Uint8Array<ArrayBuffer>;
}

/** The files of the page by name; the script is all of the library that it uses, in one file. */
export async function pageFiles(): Promise<Record<string, PageFile>> {
  const { default: uplot } = await import("npm:uplot@1.6.32/dist/uPlot.min.css", {
    with: { type: "text" },
  });
  return {
    "index.html": { type: "text/html; charset=utf-8", body: LETTERS_PAGE },
    "page.css": { type: "text/css; charset=utf-8", body: REPORT_STYLE + LETTERS_STYLE },
    "uplot.css": { type: "text/css; charset=utf-8", body: uplot },
    "page.js": { type: "text/javascript; charset=utf-8", body: await bundle() },
  };
}

/** Answers GET with the files. Only pages of these hosts may ask. */
export function pageHandler(
  { files, hosts }: { files: Readonly<Record<string, PageFile>>; hosts: readonly string[] },
): (request: Request) => Response {
  return (request) => {
    const host = request.headers.get("host")?.toLowerCase();
    if (host === undefined || !hosts.includes(host)) {
      return new Response(`Host ${hosts.join(" or ")} only`, { status: 421 });
    }
    if (!["GET", "HEAD"].includes(request.method)) return new Response("GET only", { status: 405 });
    const name = new URL(request.url).pathname.slice(1) || "index.html";
    const file = Object.hasOwn(files, name) ? files[name] : undefined;
    if (!file) return new Response("Not found", { status: 404 });
    return new Response(file.body, {
      headers: { "content-type": file.type, "cache-control": "no-store" },
    });
  };
}

async function bundle(): Promise<Uint8Array<ArrayBuffer>> {
  const { success, errors, outputFiles } = await Deno.bundle({
    entrypoints: [new URL("_letters_page.ts", import.meta.url).href],
    platform: "browser",
    // Not minified: the esbuild 0.25.5 of Deno 2.9 then loses `using`, so that nothing is freed (esbuild#4482).
    write: false,
  });
  const script = outputFiles?.[0]?.contents;
  if (success && script) return script as Uint8Array<ArrayBuffer>;
  throw new Error(`Cannot bundle the page: ${errors.map(({ text }) => text).join("\n")}`);
}

async function writePage(folder: string, files: Readonly<Record<string, PageFile>>): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const encoder = new TextEncoder();
  for (const [name, { body }] of Object.entries(files)) {
    const bytes = typeof body === "string" ? encoder.encode(body) : body;
    await writeFileAtomic(`${folder}/${name}`, bytes);
  }
}

if (import.meta.main) {
  await runMain(async () => {
    const { options } = FLAGS.parse(Deno.args);
    const files = await pageFiles();
    if (options.out !== undefined) {
      await writePage(options.out, files);
      console.log(`The page is in ${options.out}; serve that folder over https, or on localhost`);
      return;
    }
    await serveLocally({
      port: options.port,
      handler: (hosts) => pageHandler({ files, hosts }),
      onListen: (url) => console.log(`Open ${url} in a browser with WebGPU; Ctrl-C ends it`),
    });
  });
}
