import { assert, assertEquals } from "@std/assert";
import { pageHandler } from "../../experiments/browser.ts";

const ROOT = new URL("../../", import.meta.url);

Deno.test("the page's server answers its own host with its files alone", async () => {
  const files = { "index.html": { type: "text/html", body: "<p>page" } };
  const handle = pageHandler({ files, hosts: ["127.0.0.1:8266"] });
  const ask = (path: string, host = "127.0.0.1:8266", method = "GET") =>
    handle(new Request(`http://127.0.0.1:8266${path}`, { method, headers: { host } }));
  const page = ask("/");
  assertEquals([await page.text(), page.headers.get("content-type")], ["<p>page", "text/html"]);
  assertEquals(ask("/index.html").status, 200);
  for (const path of ["/none", "/constructor", "/../deno.json"]) {
    assertEquals(ask(path).status, 404, path);
  }
  assertEquals(ask("/", "evil.example").status, 421);
  assertEquals(ask("/", "127.0.0.1:8266", "POST").status, 405);
});

Deno.test("train:browser writes a page whose script is whole and keeps its using declarations", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  const [, ...args] = tasks["train:browser"].command.split(" ");
  const out = await Deno.makeTempDir();
  try {
    const { code, stdout, stderr } = await new Deno.Command("deno", {
      args: [...args, "--out", `${out}/page`],
      cwd: ROOT,
      env: { NO_COLOR: "1" },
    }).output();
    assertEquals(code, 0, new TextDecoder().decode(stderr));
    assert(new TextDecoder().decode(stdout).includes(`The page is in ${out}/page`));
    const html = await Deno.readTextFile(`${out}/page/index.html`);
    for (const [, file] of html.matchAll(/(?:src|href)="([^":]+)"/g)) {
      assert((await Deno.stat(`${out}/page/${file}`)).size > 0, file);
    }
    const script = await Deno.readTextFile(`${out}/page/page.js`);
    assert(!/^import\b/m.test(script), "it imports another file");
    assert(script.includes("using logits = "), "the bundler lost using declarations");
  } finally {
    await Deno.remove(out, { recursive: true });
  }
});
