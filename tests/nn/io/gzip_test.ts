import { assert, assertEquals, assertRejects } from "@std/assert";
import { FormatError } from "../../../nn/format_error.ts";
import { crc32, gunzip, gzip, isGzip } from "../../../nn/io/gzip.ts";

async function unpack(bytes: Uint8Array): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  await gunzip(bytes, { file: "a.gz", sink: (piece) => pieces.push(piece) });
  return join(...pieces);
}

function join(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

/** Bytes that compress little. */
function noise(length: number): Uint8Array {
  let state = 1;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state >>> 24;
  });
}

async function platformGzip(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream()
    .pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

Deno.test("crc32() gives the check value of the catalogue", () => {
  // CRC-32/ISO-HDLC: https://reveng.sourceforge.io/crc-catalogue/
  const bytes = new TextEncoder().encode("123456789");
  assertEquals(crc32(bytes), 0xcbf43926);
  assertEquals(crc32(bytes.subarray(4), crc32(bytes.subarray(0, 4))), 0xcbf43926);
  assertEquals(crc32(new Uint8Array(0)), 0);
});

Deno.test("isGzip() looks at the first two bytes", async () => {
  assert(isGzip(await gzip(new Uint8Array(0))));
  assert(!isGzip(Uint8Array.of(0x1f)));
  assert(!isGzip(Uint8Array.of(0x50, 0x4b, 3, 4)));
});

Deno.test("gunzip() reads what gzip() and the platform write", async () => {
  // Sizes around the pieces of 16 KiB that gunzip() works in.
  for (const length of [0, 1, 1000, 16_300, 16_384, 16_400, 70_000]) {
    for (const bytes of [noise(length), new Uint8Array(length)]) {
      assertEquals(await unpack(await gzip(bytes)), bytes, `${length}`);
      assertEquals(await unpack(await platformGzip(bytes)), bytes, `${length}, platform`);
    }
  }
});

Deno.test("gzip() is read by the platform", async () => {
  const bytes = noise(5000);
  const stream = new Blob([await gzip(bytes)]).stream().pipeThrough(
    new DecompressionStream("gzip"),
  );
  assertEquals(new Uint8Array(await new Response(stream).arrayBuffer()), bytes);
});

Deno.test("gunzip() joins the members of a file, wherever they meet", async () => {
  const small = noise(40), first = await gzip(small);
  // The second member starts at each place around the end of the first piece.
  for (let length = 16_330; length < 16_350; length++) {
    const big = noise(length);
    const file = join(await gzip(big), first, first);
    assertEquals(await unpack(file), join(big, small, small), `${length}`);
  }
});

Deno.test("gunzip() reads a header with name, comment and extra field", async () => {
  const packed = await gzip(noise(100));
  const text = (value: string) => new TextEncoder().encode(`${value}\0`);
  const head = packed.slice(0, 10);
  head[3] = 4 + 8 + 16;
  const file = join(head, Uint8Array.of(2, 0, 9, 9), text("name"), text("note"), packed.slice(10));
  assertEquals(await unpack(file), noise(100));
});

Deno.test("gunzip() refuses damage in every member", async () => {
  const first = await gzip(noise(50)), second = await gzip(noise(60));
  for (const at of [first.length - 8, first.length - 1, first.length + second.length - 5]) {
    const file = join(first, second);
    file[at]! ^= 1;
    const error = await assertRejects(() => unpack(file), FormatError, "gzip checksum");
    assert(at - error.offset < 8 && at >= error.offset);
  }
});

Deno.test("gunzip() refuses bytes after the last member", async () => {
  const packed = await gzip(noise(50));
  for (let extra = 1; extra < 40; extra++) {
    await assertRejects(() => unpack(join(packed, new Uint8Array(extra))), FormatError);
  }
});

Deno.test("gunzip() passes on what the sink throws", async () => {
  const packed = await gzip(new Uint8Array(1_000_000));
  let calls = 0;
  const sink = () => {
    calls++;
    throw new RangeError("enough");
  };
  await assertRejects(() => gunzip(packed, { file: "a.gz", sink }), RangeError, "enough");
  assertEquals(calls, 1);
});
