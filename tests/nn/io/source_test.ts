import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { nn } from "../../../mod.ts";
import { openRange } from "../../../nn/io/byte_range.ts";
import { readSource } from "../../../nn/io/source.ts";

const { decodeSafetensors, encodeSafetensors, readWeights } = nn.io;

/** A server of files by path; what is not there answers 404, `/broken` 503. */
async function withServer(
  files: Readonly<Record<string, Uint8Array<ArrayBuffer>>>,
  body: (origin: string) => Promise<void>,
): Promise<void> {
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/broken") return new Response("later", { status: 503 });
    const bytes = files[decodeURI(pathname)];
    return bytes ? new Response(bytes) : new Response("no", { status: 404 });
  });
  await body(`http://127.0.0.1:${server.addr.port}`);
}

const WEIGHTS = encodeSafetensors({
  "fc.weight": { dtype: "F32", shape: [2], data: Float32Array.of(1, 2) },
});

Deno.test("readers fetch what a URL or its text names", async () => {
  await withServer(
    { "/a b.safetensors": WEIGHTS, "/t.csv": text("x,y\n1,2\n") },
    async (origin) => {
      const url = `${origin}/a%20b.safetensors`;
      for (const source of [url, new URL(url)]) {
        const { file, arrays } = await readWeights(source);
        assertEquals([file, arrays["fc.weight"]!.data], [url, Float32Array.of(1, 2)]);
      }
      const { columns } = await nn.data.readCsv(`${origin}/t.csv`, {
        columns: { x: "integer", y: "integer" },
      });
      assertEquals(Array.from(columns.y), [2]);
    },
  );
});

Deno.test("data sets of a URL are in memory and read as those of a file", async () => {
  const idx = await nn.data.writeIdx({ shape: [3, 2], data: Uint8Array.of(1, 2, 3, 4, 5, 6) });
  const gzip = new Uint8Array(
    await new Response(new Blob([idx]).stream().pipeThrough(new CompressionStream("gzip")))
      .arrayBuffer(),
  );
  await withServer({ "/a.idx": idx, "/a.idx.gz": gzip }, async (origin) => {
    for (const name of ["a.idx", "a.idx.gz"]) {
      using set = await nn.data.openIdx(`${origin}/${name}`);
      assertEquals([set.length, set.get(1), set.worker], [3, Uint8Array.of(3, 4), undefined]);
    }
  });
});

Deno.test("archives come from URLs as they arrive", async () => {
  const tar = tarOf("a.txt", text("hello"));
  const dir = await Deno.makeTempDir();
  try {
    await withServer({ "/a.tar": tar }, async (origin) => {
      assertEquals(await nn.data.extractArchive(`${origin}/a.tar`, dir), ["a.txt"]);
      for await (const entry of nn.data.readTar(new URL(`${origin}/a.tar`))) {
        assertEquals([entry.name, await entry.bytes()], ["a.txt", text("hello")]);
      }
    });
    assertEquals(Deno.readTextFileSync(`${dir}/a.txt`), "hello");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("a server's refusals name the URL and what it answered", async () => {
  let gone = "";
  await withServer({}, async (origin) => {
    gone = origin;
    const none = `${origin}/none.safetensors`;
    const { message } = await assertRejects(() => readWeights(none), Deno.errors.NotFound);
    assertEquals(message, `Cannot read ${none}: the server answered 404 Not Found`);
    await assertRejects(() => openRange(none), Deno.errors.NotFound, none);
    const broken = `Cannot read ${origin}/broken: the server answered 503 Service Unavailable`;
    await assertRejects(() => readSource(`${origin}/broken`), Error, broken);
  });
  await assertRejects(() => readSource(`${gone}/a`), Error, `Cannot read ${gone}/a: `);
});

Deno.test("an answer that breaks off is an error, never a part of the file", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const url = `http://127.0.0.1:${listener.addr.port}/a`;
  const answering = listener.accept().then(async (connection) => {
    await connection.read(new Uint8Array(4096));
    await connection.write(text("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"));
    connection.close();
  });
  await assertRejects(() => readSource(url), Error, `Cannot read ${url}: the answer broke off (`);
  await answering;
});

Deno.test("a stream that breaks off says which, also inside gzip", async () => {
  const tar = tarOf("a.txt", crypto.getRandomValues(new Uint8Array(512)));
  const gzip = new Blob([tar]).stream().pipeThrough(new CompressionStream("gzip"));
  const gz = new Uint8Array(await new Response(gzip).arrayBuffer());
  for (const start of [tar.subarray(0, 600), gz.subarray(0, 500)]) {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const url = `http://127.0.0.1:${listener.addr.port}/a`;
    const answering = listener.accept().then(async (connection) => {
      await connection.read(new Uint8Array(4096));
      await connection.write(text("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"));
      await connection.write(start);
      connection.close();
    });
    const error = await assertRejects(async () => {
      for await (const entry of nn.data.readTar(url)) await entry.bytes();
    });
    assert(error instanceof Error && error.message.startsWith(`Cannot read ${url}: `), `${error}`);
    assert(!(error instanceof nn.FormatError), error.message);
    await answering;
  }
});

Deno.test("a web page in place of a file is told as such, a file with a wrong type is read", async () => {
  const page = text("\n<!DOCTYPE html>\n<html><body>My app</body></html>");
  const headers = { "content-type": "text/html; charset=utf-8" };
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    return new Response(request.url.endsWith("/app") ? page : WEIGHTS, { headers });
  });
  const origin = `http://127.0.0.1:${server.addr.port}`;
  const message = `Cannot read ${origin}/app: the server answered with a web page`;
  await assertRejects(() => readWeights(`${origin}/app`), Error, message);
  await assertRejects(() => nn.data.readCsv(`${origin}/app`), Error, message);
  assertEquals(Object.keys((await readWeights(`${origin}/a`)).arrays), ["fc.weight"]);
});

Deno.test({
  name: "a URL without permission names the flag to pass",
  permissions: { net: false },
  async fn() {
    await assertRejects(() => readSource("http://127.0.0.1:8099/a"), Deno.errors.NotCapable, "net");
  },
});

Deno.test("what reads files on disk only says what to do with a URL", () => {
  const url = "https://127.0.0.1/a.safetensors";
  const refused = `Cannot read ${url} here, where a file on disk is read; `;
  for (
    const [open, instead] of [
      [() => nn.io.openSafetensors(url), "nn.io.openWeights() reads it from anywhere"],
      [() => nn.data.openCifar10([url]), "give its bytes"],
    ] as const
  ) {
    const { message } = assertThrows(open, TypeError);
    assertEquals(message, refused + instead);
  }
});

Deno.test("a path with a colon is a path", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeFile(`${dir}/http:a`, WEIGHTS);
    const { bytes, file } = await readSource(`${dir}/http:a`);
    assertEquals([file, Object.keys(decodeSafetensors(bytes, { file }).tensors)], [
      `${dir}/http:a`,
      ["fc.weight"],
    ]);
    assert((await openRange(`${dir}/http:a`)).path !== undefined);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

function text(value: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(value);
}

/** A tar archive of one file, ustar. */
function tarOf(name: string, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const tar = new Uint8Array(512 + 512 + 1024);
  tar.set(text(name));
  tar.set(text("0000644\0" + "0000000\0".repeat(2)), 100);
  tar.set(text(data.length.toString(8).padStart(11, "0") + "\0" + "0".repeat(11) + "\0"), 124);
  tar.set(text(" ".repeat(8) + "0"), 148);
  tar.set(text("ustar\0" + "00"), 257);
  const sum = tar.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  tar.set(text(sum.toString(8).padStart(6, "0") + "\0 "), 148);
  tar.set(data, 512);
  return tar;
}
