import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { boardHandler, serveBoard } from "../../../nn/run/board.ts";
import type { BoardRun } from "../../../nn/run/board_runs.ts";
import { BOARD_CLIENT } from "../../../nn/run/board_client.ts";

const HOST = "127.0.0.1:8265";

/** A folder `runs` with two runs, a damaged one and traps, beside a secret. */
async function inRuns(body: (runs: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  const write = (path: string, text: string) => Deno.writeTextFileSync(`${dir}/${path}`, text);
  const config = (more: object) =>
    JSON.stringify({
      experiment: "letters",
      preset: "quick",
      seed: 1,
      options: { lr: 0.1, data: null },
      created: "2026-05-04T00:00:00.000Z",
      versions: {},
      ...more,
    });
  try {
    for (const name of ["runs", "runs/a", "runs/b c%", "runs/bad", "runs/empty", "outside"]) {
      Deno.mkdirSync(`${dir}/${name}`);
    }
    write("runs/a/config.json", config({}));
    write("runs/a/metrics.csv", "Epoch,Loss\n1,0.5\n2,nan\n3,0.2");
    write("runs/a/summary.json", `{"seconds": 7, "metrics": {"top1": 0.9, "note": "x"}}`);
    write("runs/a/report.html", "<p>report of a</p>");
    write("runs/a/secret.txt", "SECRET");
    write("runs/b c%/config.json", config({ created: "2026-06-01T00:00:00.000Z", seed: 2 }));
    write("runs/b c%/report.html", "<p>report of b</p>");
    write("runs/bad/config.json", `{"seed": NaN}`);
    write("secret.txt", "SECRET");
    write("report.html", "SECRET");
    write("outside/config.json", config({ experiment: "SECRET" }));
    write("outside/report.html", "SECRET");
    Deno.symlinkSync(`${dir}/outside`, `${dir}/runs/link`);
    Deno.mkdirSync(`${dir}/runs/trap`);
    write("runs/trap/config.json", config({ created: "2020", seed: 3 }));
    Deno.symlinkSync(`${dir}/secret.txt`, `${dir}/runs/trap/report.html`);
    Deno.symlinkSync(`${dir}/secret.txt`, `${dir}/runs/trap/metrics.csv`);
    await body(`${dir}/runs`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function ask(runs: string, path: string, init: RequestInit = {}): Promise<Response> {
  const handle = boardHandler({ runs, hosts: [HOST, "localhost:8265"] });
  return handle(new Request(`http://${HOST}${path}`, { headers: { host: HOST }, ...init }));
}

async function list(runs: string): Promise<BoardRun[]> {
  return await (await ask(runs, "/api/runs")).json();
}

Deno.test("the board lists runs, the newest first, and says what is damaged", () =>
  inRuns(async (runs) => {
    const found = await list(runs);
    assertEquals(found.map(({ name }) => name), ["b c%", "a", "trap", "bad"]);
    const { metrics, scores, seconds, options, report, error } = found[1]!;
    assertEquals(metrics, [["Epoch", [1, 2]], ["Loss", [0.5, null]]]); // without the torn line
    assertEquals([scores, seconds, report, error], [{ top1: 0.9 }, 7, true, undefined]);
    assertEquals(options, { lr: "0.1", data: "null" });
    assertMatch(found[3]!.error!, /bad\/config\.json: invalid JSON at byte 9, expected/);
  }));

Deno.test("the board follows runs that go on", () =>
  inRuns(async (runs) => {
    const handle = boardHandler({ runs, hosts: [HOST] });
    const loss = async () => {
      const request = new Request(`http://${HOST}/api/runs`, { headers: { host: HOST } });
      const all: BoardRun[] = await (await handle(request)).json();
      return all.find(({ name }) => name === "a")!.metrics[1]![1];
    };
    assertEquals(await loss(), [0.5, null]);
    Deno.writeTextFileSync(`${runs}/a/metrics.csv`, "5\n4,0.1\n", { append: true });
    assertEquals(await loss(), [0.5, null, 0.25, 0.1]);
    Deno.removeSync(`${runs}/a/metrics.csv`);
    assertEquals((await list(runs)).find(({ name }) => name === "a")!.metrics, []);
  }));

Deno.test("the board has no runs where there is no folder", async () => {
  assertEquals(await list("/nonexistent/runs"), []);
});

Deno.test("the board serves its page and reports, each under a strict policy", () =>
  inRuns(async (runs) => {
    for (const path of ["/", "/board.js", "/board.css", "/uplot.js", "/uplot.css", "/api/runs"]) {
      const response = await ask(runs, path);
      assertEquals([path, response.status], [path, 200]);
      const policy = response.headers.get("content-security-policy")!;
      assertStringIncludes(policy, "default-src 'none'; script-src 'self'");
      assert(!policy.includes("unsafe"), policy);
      assertEquals(response.headers.get("x-content-type-options"), "nosniff");
      assertEquals(response.headers.get("access-control-allow-origin"), null);
      await response.body?.cancel();
    }
    const page = await (await ask(runs, "/")).text();
    assert(!/<script>|style=|onload=/.test(page), "the policy refuses what is inline");
    for (const [path, text] of [["a", "report of a"], ["b%20c%25", "report of b"]]) {
      const response = await ask(runs, `/runs/${path}/report.html`);
      assertStringIncludes(await response.text(), text!);
      assertMatch(response.headers.get("content-security-policy")!, /^sandbox allow-scripts;/);
    }
  }));

Deno.test("no path of the board leads out of the runs or to their other files", () =>
  inRuns(async (runs) => {
    const names = ["..", "%2e%2e", "..%2f", "%2e%2e%2foutside", "..%5coutside", "link", "trap"];
    const paths = [
      ...names.map((name) => `/runs/${name}/report.html`),
      ...names.map((name) => `/runs/a/${name}/report.html`),
      "/runs/a/secret.txt",
      "/runs/a/config.json",
      "/runs/a/report.html/",
      "/runs/a%00/report.html",
      "/runs/%ff/report.html",
      "/runs/empty/report.html",
      "/runs//report.html",
      "/runs/./report.html",
      "/runs/a/../../secret.txt",
      "/secret.txt",
      "/report.html",
      "//etc/passwd",
      "/%2fetc%2fpasswd",
      "/api/runs/..",
      "/api/",
    ];
    for (const path of paths) {
      const response = await ask(runs, path);
      const text = await response.text();
      assert(!text.includes("SECRET"), path);
      assertEquals([path, response.status], [path, 404]);
    }
    assert(!JSON.stringify(await list(runs)).includes("SECRET"));
  }));

Deno.test("the board answers GET and HEAD under its own name only", () =>
  inRuns(async (runs) => {
    for (const host of ["evil.example", "evil.example:8265", "127.0.0.1", "127.0.0.1:80", ""]) {
      const response = await ask(runs, "/api/runs", { headers: { host } });
      assertEquals([host, response.status], [host, 421]);
    }
    for (const host of ["LOCALHOST:8265", HOST]) {
      assertEquals((await ask(runs, "/", { headers: { host } })).status, 200);
    }
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      const response = await ask(runs, "/api/runs", { method, headers: { host: HOST } });
      assertEquals([method, response.status], [method, 405]);
    }
    assertEquals((await ask(runs, "/", { method: "HEAD", headers: { host: HOST } })).status, 200);
  }));

Deno.test("serveBoard() listens on this machine and ends by its signal", () =>
  inRuns(async (runs) => {
    const stop = new AbortController();
    const { promise, resolve } = Promise.withResolvers<string>();
    const end = serveBoard({ runs, port: 0, signal: stop.signal, onListen: resolve });
    const url = await promise;
    assertMatch(url, /^http:\/\/127\.0\.0\.1:\d+\/$/);
    assertEquals((await (await fetch(`${url}api/runs`)).json()).length, 4);
    // A page elsewhere whose name was made to mean this machine.
    using connection = await Deno.connect({
      hostname: "127.0.0.1",
      port: Number(new URL(url).port),
    });
    const lines = ["GET /api/runs HTTP/1.1", "Host: evil.example", "Connection: close", "", ""];
    await connection.write(new TextEncoder().encode(lines.join("\r\n")));
    const text = await new Response(connection.readable).text();
    assertMatch(text, /^HTTP\/1\.1 421 /);
    stop.abort();
    await end;
  }));

Deno.test("the board's script is one and makes no HTML of what folders hold", () => {
  new Function(BOARD_CLIENT); // throws where it does not parse
  assert(!/innerHTML|insertAdjacentHTML|document\.write/.test(BOARD_CLIENT));
});
