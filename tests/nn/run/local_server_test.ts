import { assertEquals, assertRejects } from "@std/assert";
import { localHosts, serveLocally } from "../../../nn/run/local_server.ts";

Deno.test("serveLocally() says that a port is in use, and ends with its signal", async () => {
  const { promise: opened, resolve } = Promise.withResolvers<string>();
  const end = new AbortController();
  const serving = serveLocally({
    port: 0,
    handler: (hosts) => (request) => Response.json([hosts, request.headers.get("host")]),
    onListen: resolve,
    signal: end.signal,
  });
  const url = new URL(await opened);
  assertEquals(await (await fetch(url)).json(), [[url.host, `localhost:${url.port}`], url.host]);
  await assertRejects(
    () => serveLocally({ port: Number(url.port), handler: () => () => new Response() }),
    Deno.errors.AddrInUse,
    `Cannot serve on port ${url.port}: it is in use; give another port, 0 for any that is free`,
  );
  end.abort();
  await serving;
});

Deno.test("localHosts() are as browsers name them, without the port of http", () => {
  assertEquals(localHosts(8266), ["127.0.0.1:8266", "localhost:8266"]);
  assertEquals(localHosts(80), ["127.0.0.1", "localhost"]);
});
