import { assert, assertEquals, assertRejects } from "@std/assert";
import { nn } from "../../../mod.ts";
import { openParts } from "../../../nn/io/parts.ts";
import { ordered, torchTensor, torchZip } from "../../helpers/torch_file.ts";

const { encodeSafetensors, FormatError, openTorch, openWeights } = { ...nn.io, ...nn };

/** A server of one file and what it was asked for. */
interface Server {
  url: string;
  file: Uint8Array<ArrayBuffer>;
  etag: string;
  /** What becomes of an answer. */
  answers: (part: Response, request: Request) => Response;
  /** Ranges that were asked for. */
  ranges: string[];
  /** Bytes sent. */
  sent: number;
}

async function withServer(
  file: Uint8Array,
  body: (server: Server) => Promise<void>,
): Promise<void> {
  const state: Server = {
    url: "",
    file: file.slice(),
    etag: '"1"',
    answers: (part) => part,
    ranges: [],
    sent: 0,
  };
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const range = request.headers.get("range") ?? "";
    state.ranges.push(range);
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range)!;
    const part = state.file.subarray(Number(first), Number(last) + 1);
    state.sent += part.length;
    const end = Number(first) + part.length - 1;
    const headers = {
      etag: state.etag,
      "content-range": `bytes ${first}-${end}/${state.file.length}`,
    };
    return state.answers(new Response(part, { status: 206, headers }), request);
  });
  state.url = `http://127.0.0.1:${server.addr.port}/weights`;
  await body(state);
}

const ROWS = 300, ROW = 1000;
const LARGE = Float32Array.from({ length: ROWS * ROW }, (_, i) => i);
const SMALL = Float32Array.of(1, 2, 3);

const SAFETENSORS = encodeSafetensors({
  a: { dtype: "F32", shape: [ROWS, ROW], data: LARGE },
  b: { dtype: "F32", shape: [ROWS, ROW], data: LARGE },
  c: { dtype: "F32", shape: [3], data: SMALL },
});
const VIEW = { length: ROWS * ROW, shape: [ROWS, ROW], strides: [ROW, 1] };
const TORCH = torchZip(
  ordered({
    a: torchTensor("Float", VIEW),
    b: torchTensor("Float", { ...VIEW, key: "1" }),
    c: torchTensor("Float", { length: 3, shape: [3], strides: [1], key: "2" }),
  }),
  {
    "0": new Uint8Array(LARGE.buffer),
    "1": new Uint8Array(LARGE.buffer),
    "2": new Uint8Array(SMALL.buffer),
  },
);
const BLOCK = 64 * 1024;

Deno.test("openWeights() fetches of a server's file what is read", async () => {
  // A zip archive has its directory at its end, and before its data where they begin.
  for (const [bytes, opening, headers] of [[SAFETENSORS, 1, 0], [TORCH, 2, 1]] as const) {
    await withServer(bytes, async (server) => {
      using file = await openWeights(server.url);
      assertEquals([file.file, file.names.toSorted()], [server.url, ["a", "b", "c"]]);
      assert(server.ranges.length <= opening + 1, server.ranges.join());
      assert(server.sent < (opening + 1) * BLOCK + 1000);
      server.ranges = [];
      const { shape, data } = await file.array("b", { start: 7, end: 9 });
      assertEquals([shape, data], [[2, ROW], LARGE.subarray(7 * ROW, 9 * ROW)]);
      assert(server.ranges.length <= 1 + headers);
      server.sent = 0;
      const all = await Promise.all(["a", "b", "c", "a"].map((name) => file.array(name)));
      assertEquals(all.map(({ data }) => data), [LARGE, LARGE, SMALL, LARGE]);
      assert(server.sent < 3 * LARGE.byteLength + 6 * BLOCK, `${server.sent}`);
    });
  }
});

Deno.test("small tensors that lie together come in one answer", async () => {
  const names = Array.from({ length: 50 }, (_, i) => `${i}`.padStart(2, "0"));
  const [pad, small] = [LARGE, { dtype: "F32", shape: [3], data: SMALL }] as const;
  const bytes = encodeSafetensors({
    ...Object.fromEntries(names.map((name) => [name, small])),
    "0": { dtype: "F32", shape: [pad.length], data: pad },
  });
  await withServer(bytes, async (server) => {
    using file = await openWeights(server.url);
    for (const name of names) assertEquals((await file.array(name)).data, SMALL);
    assert(server.ranges.length <= 3, server.ranges.join());
  });
});

Deno.test("a server without ranges, or that does not say of how many bytes, sends the whole", async () => {
  const answers: Server["answers"][] = [
    () => new Response(SAFETENSORS),
    (part, { headers }) => {
      if (headers.get("range") === "") return new Response(SAFETENSORS);
      return new Response(part.body, { status: 206, headers: { "content-range": "bytes 0-9/*" } });
    },
  ];
  for (const answer of answers) {
    await using server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      (request) =>
        request.headers.has("range")
          ? answer(new Response(SAFETENSORS.slice(0, 10)), request)
          : new Response(SAFETENSORS),
    );
    using file = await openWeights(`http://127.0.0.1:${server.addr.port}/`);
    assertEquals((await file.array("a")).data, LARGE);
  }
});

Deno.test("a file that another takes the place of is not read as one", async () => {
  const changes: [(server: Server) => void, string][] = [
    [(server) => void (server.etag = '"2"'), "another file than when it was opened, expected"],
    [(server) => void (server.file = server.file.slice(0, -4)), "another file than"],
  ];
  for (const [change, message] of changes) {
    await withServer(SAFETENSORS, async (server) => {
      using file = await openWeights(server.url);
      change(server);
      const error = await assertRejects(() => file.array("b"), FormatError, server.url);
      assert(error.message.includes(message.split(",")[0]!), error.message);
    });
  }
});

Deno.test("what a server answers later is checked, and it may answer again", async () => {
  const faults: [Server["answers"], string][] = [
    [() => new Response("later", { status: 503 }), "the server answered 503 Service Unavailable"],
    [() => new Response(SAFETENSORS), "did not answer with the part asked for"],
    [
      ({ status, headers }) => new Response(SAFETENSORS.slice(0, 8), { status, headers }),
      "end of data",
    ],
    [
      ({ body, status, headers }) => {
        const other = new Headers(headers);
        other.set("content-range", `bytes 0-99/${SAFETENSORS.length}`);
        return new Response(body, { status, headers: other });
      },
      "did not answer with the part asked for",
    ],
  ];
  await withServer(SAFETENSORS, async (server) => {
    using file = await openWeights(server.url);
    const { answers } = server;
    for (const [fault, message] of faults) {
      server.answers = fault;
      const { message: said } = await assertRejects(() => file.array("b"), Error, message);
      assert(said.includes(server.url), said);
    }
    server.answers = answers;
    assertEquals((await file.array("b")).data, LARGE);
  });
});

Deno.test("openWeights() reads run folders, paths and bytes, and says what it does not read", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeFile(`${dir}/best.safetensors`, SAFETENSORS);
    for (const source of [dir, `${dir}/best.safetensors`, SAFETENSORS, TORCH]) {
      using file = await openWeights(source);
      assertEquals((await file.array("c")).data, SMALL);
    }
    const npy = nn.io.encodeNpy({ dtype: "F32", shape: [3], data: SMALL });
    await assertRejects(() => openWeights(npy), FormatError, "readWeights() reads others");
    await assertRejects(() => openTorch(SAFETENSORS), FormatError, "no zip archive");
    await assertRejects(() => openWeights(`${dir}/none`), Deno.errors.NotFound, "none");
    await assertRejects(
      () => openWeights(dir, { strip_prefix: "a" } as never),
      TypeError,
      "stripPrefix",
    );
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("a reader's own faults pass through, and it runs again only for bytes", async () => {
  using parts = await openParts(new Blob([SAFETENSORS]), "mine");
  let runs = 0;
  const reading = parts.read(() => {
    runs++;
    parts.range.subarray(0, 8);
    throw new RangeError("own");
  });
  await assertRejects(() => reading, RangeError, "own");
  assertEquals([runs, parts.file, parts.range.length], [2, "mine", SAFETENSORS.length]);
});
