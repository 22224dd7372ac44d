/** @file The board: a page on localhost that shows all runs side by side. It reads, and only the runs. */

import { checkOptions } from "../../engine/arguments.ts";
import { FormatError } from "../format_error.ts";
import { BOARD_CLIENT } from "./board_client.ts";
import { BOARD_PAGE, BOARD_STYLE } from "./board_page.ts";
import { readRuns, reportOf, type RunReader } from "./board_runs.ts";
import { serveLocally } from "./local_server.ts";
import { REPORT_STYLE } from "./report_style.ts";

/** Options of {@linkcode boardHandler}. */
export interface BoardOptions {
  /** Folder that holds the runs. */
  runs: string;
  /** Hosts that requests may name, with their port: others are pages elsewhere that point here. */
  hosts: readonly string[];
}

/** Options of {@linkcode serveBoard}. */
export interface ServeBoardOptions {
  /** Folder that holds the runs. Default `runs`. */
  runs?: string;
  /** Port on 127.0.0.1; 0 takes a free one. Default 8265. */
  port?: number;
  /** Called when the board can be opened. */
  onListen?: (url: string) => void;
  /** Ends it. */
  signal?: AbortSignal;
}

// Nothing but the board's own files may be loaded or run, and no page may embed it.
const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
  "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
// A report has its script inside. In a sandbox it has no origin, so it cannot read the board.
const REPORT_POLICY = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; " +
  "script-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'";

const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy": POLICY,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

const TYPES = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  json: "application/json; charset=utf-8",
  text: "text/plain; charset=utf-8",
};

/**
 * Answers the requests of the board's page. GET and HEAD only; a run is named by its folder's name as
 * the runs folder lists it, so that no path leads elsewhere, and links are not followed.
 *
 * @example
 * ```ts
 * import { boardHandler } from "./board.ts";
 *
 * const handle = boardHandler({ runs: "runs", hosts: ["127.0.0.1:8265"] });
 * const headers = { host: "127.0.0.1:8265" };
 * const response = await handle(new Request("http://127.0.0.1:8265/api/runs", { headers }));
 * ```
 */
export function boardHandler(options: BoardOptions): (request: Request) => Promise<Response> {
  const { runs, hosts } = options;
  const reader: RunReader = { root: runs, cache: new Map() };
  return async (request) => {
    const host = request.headers.get("host")?.toLowerCase();
    if (host === undefined || !hosts.includes(host)) {
      return answer(`Host ${hosts.join(" or ")} only`, "text", { status: 421 });
    }
    if (request.method !== "GET" && request.method !== "HEAD") {
      return answer("GET only", "text", { status: 405, headers: { allow: "GET, HEAD" } });
    }
    const { pathname } = new URL(request.url);
    try {
      return await route(pathname, reader);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      return answer(reason, "text", { status: error instanceof FormatError ? 422 : 500 });
    }
  };
}

async function route(pathname: string, reader: RunReader): Promise<Response> {
  switch (pathname) {
    case "/":
      return answer(BOARD_PAGE, "html");
    case "/board.js":
      return answer(BOARD_CLIENT, "js");
    case "/board.css":
      return answer(REPORT_STYLE + BOARD_STYLE, "css");
    case "/uplot.js":
    case "/uplot.css": {
      const { js, css } = await loadUplot();
      return pathname.endsWith("js") ? answer(js, "js") : answer(css, "css");
    }
    case "/api/runs":
      return answer(JSON.stringify(await readRuns(reader)), "json");
  }
  const name = /^\/runs\/([^/]+)\/report\.html$/.exec(pathname)?.[1];
  const report = name === undefined ? undefined : await reportOf(reader, decode(name));
  if (report === undefined) return answer("Not found", "text", { status: 404 });
  return answer(report, "html", { headers: { "content-security-policy": REPORT_POLICY } });
}

/** A part of a path without its escapes; as it is if they are none. */
function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function answer(
  body: string | Uint8Array<ArrayBuffer>,
  type: keyof typeof TYPES,
  options: { status?: number; headers?: Record<string, string> } = {},
): Response {
  const { status = 200, headers = {} } = options;
  return new Response(body, {
    status,
    headers: { ...HEADERS, "content-type": TYPES[type], ...headers },
  });
}

/** The chart library's script and style. */
async function loadUplot(): Promise<{ js: string; css: string }> {
  const [{ default: js }, { default: css }] = await Promise.all([
    import("npm:uplot@1.6.32/dist/uPlot.iife.min.js", { with: { type: "text" } }),
    import("npm:uplot@1.6.32/dist/uPlot.min.css", { with: { type: "text" } }),
  ]);
  return { js, css };
}

/**
 * Serves the board on 127.0.0.1 until it is ended: a table of all runs with the options they differ in
 * and their scores, and their curves over each other. It follows runs that go on.
 *
 * @throws {Deno.errors.AddrInUse} If the port is taken.
 */
export async function serveBoard(options: ServeBoardOptions = {}): Promise<void> {
  checkOptions("serveBoard", options, 'serveBoard({ runs: "runs", port: 8000 })');
  const { runs = "runs", port = 8265, onListen, signal } = options;
  const handler = (hosts: readonly string[]) => boardHandler({ runs, hosts });
  await serveLocally({ port, handler, onListen, signal });
}
