import { assert, assertRejects } from "@std/assert";
import { allReaders, type Reader } from "./readers.ts";
import { checkSeeds, Finding, fuzzRange, prepare, readOnce } from "./fuzz.ts";
import { FormatError } from "../../nn/format_error.ts";

/** Inputs of each reader; all take about half a minute on two quiet cores. */
const COUNT = 7000;
/** Readers whose files unpack to much more than they are, or to files. */
const SLOW: Readonly<Record<string, number>> = {
  gzip: 1500,
  "idx-gz": 1500,
  csv: 2500,
  tar: 2500,
  "tar-gz": 1000,
  extract: 150,
};

for (const reader of allReaders()) {
  Deno.test(`${reader.name}: each damaged file is read or refused`, async () => {
    const target = await prepare(reader);
    await checkSeeds(target);
    const to = SLOW[reader.name] ?? COUNT;
    const { read, refused } = await fuzzRange(target, { seed: 1, from: 0, to });
    assert(read > 0 && refused > read, `${read} read, ${refused} refused`);
  });
}

Deno.test("the fuzzer finds what a reader must not do", async () => {
  const reader = (read: Reader["read"]): Reader => {
    return { name: "x", seeds: () => [{ content: Uint8Array.of(1) }], read, expansion: 1 };
  };
  const refuse = (found: string, offset: number) => () => {
    throw new FormatError(found, { file: "a", offset, expected: "b" });
  };
  const bytes = Uint8Array.of(1, 2, 3);
  const fails = async (read: Reader["read"], message: string) => {
    await assertRejects(() => readOnce(reader(read), bytes, "x"), Finding, message);
  };
  assert(await readOnce(reader(() => {}), bytes, "x"));
  assert(!await readOnce(reader(refuse("a", 3)), bytes, "x"));
  await fails(() => JSON.parse("{"), "SyntaxError");
  await fails(() => {
    throw new TypeError("a");
  }, "TypeError: a");
  await fails(refuse("a", NaN), "offset NaN");
  await fails(() => new Uint8Array(2 ** 21), `${2 ** 21} bytes in buffers for a file of 3`);
  await fails(() => new Float64Array(2 ** 18).slice(), "bytes in buffers");
  const lenient = { ...reader(() => {}), seeds: () => [{ content: bytes, hostile: true }] };
  await assertRejects(async () => checkSeeds(await prepare(lenient)), Finding, "seed 0: read");
});
