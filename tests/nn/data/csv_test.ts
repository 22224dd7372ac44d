import { assert, assertEquals, assertRejects } from "@std/assert";
import { readCsv, type ReadCsvOptions } from "../../../nn/data/csv.ts";
import type { CsvType } from "../../../nn/data/csv.ts";
import { FormatError } from "../../../nn/format_error.ts";
import { edits, readAll, truncations } from "../../helpers/fuzz.ts";

function csv(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

async function refuses(
  text: string,
  message: string,
  options: ReadCsvOptions<Record<string, CsvType>> = {},
): Promise<void> {
  const read = () => readCsv(csv(text), { file: "a.csv", ...options });
  await assertRejects(read, FormatError, `Cannot read a.csv: ${message}`);
}

Deno.test("readCsv() reads every column as text by default", async () => {
  assertEquals(await readCsv(csv('a,b\n1,"x, ""y"""\n\n2,"two\nlines"\r\n')), {
    names: ["a", "b"],
    count: 2,
    columns: { a: ["1", "2"], b: ['x, "y"', "two\nlines"] },
  });
  assertEquals((await readCsv(csv("\ufeffa\té\n1\t2"), { separator: "\t" })).columns, {
    a: ["1"],
    é: ["2"],
  });
  assertEquals((await readCsv(csv("a,b\n"))).columns, { a: [], b: [] });
});

Deno.test("readCsv() reads lines that end in LF, CRLF or CR, and keeps all of them in quotes", async () => {
  const inside = ["\n", "\r\n", "\r", "\r\r\n", "\n\r"].map((end) => `x${end}${end}"y"${end}`);
  const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
  for (const end of ["\n", "\r\n", "\r"]) {
    const lines = ["a,b", ...inside.map((text, i) => `${i},${quoted(text)}`)];
    for (const tail of ["", end, end + end]) {
      const { count, columns } = await readCsv(csv(lines.join(end) + tail));
      assertEquals(count, inside.length);
      assertEquals(columns, { a: ["0", "1", "2", "3", "4"], b: inside });
    }
    const at = (text: string) => text.replaceAll("|", end).length;
    await refuses(
      'a,b|"1||",2|3|4,5'.replaceAll("|", end),
      `row of 1 fields at byte ${at('a,b|"1||",2|')}`,
    );
    await refuses('a,b|"||",2|1,x"y|'.replaceAll("|", end), "bad quotes (");
  }
});

Deno.test("readCsv() gives columns of their types", async () => {
  const text = "path,label,score,flag,rest\na.png,3,0.5,true,x\nb.png,-7,,0,x\nc,+1,-1e3,FALSE,x\n";
  const { columns, count, names } = await readCsv(csv(text), {
    columns: { label: "integer", path: "string", score: "number", flag: "boolean" },
  });
  assertEquals(columns.path, ["a.png", "b.png", "c"]);
  assertEquals(columns.label, Int32Array.of(3, -7, 1));
  assertEquals(columns.score, Float64Array.of(0.5, NaN, -1000));
  assertEquals(columns.flag, Uint8Array.of(1, 0, 0));
  assertEquals([count, names.length], [3, 5]);
  const special = await readCsv(csv("x\nnan\n-inf\nInfinity\n.5\n5.\n"), {
    columns: { x: "number" },
  });
  assertEquals(special.columns.x, Float64Array.of(NaN, -Infinity, Infinity, 0.5, 5));
});

Deno.test("readCsv() reads from a path", async () => {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(path, "a\n1\n");
    assertEquals((await readCsv(path)).columns, { a: ["1"] });
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("readCsv() refuses tables that are none, at the byte of the row", async () => {
  await refuses("", "no header at byte 0");
  await refuses("a,b,a\n", 'second column "a" at byte 0, expected each name once');
  await refuses("a,b\n1,2\n3\n", "row of 1 fields at byte 8, expected 2 as in the header (CSV)");
  await refuses('é,b\n\n"1\n1",2\n3\n', "row of 1 fields at byte 14");
  await refuses('a,b\n1,2\n1,x"y\n', "bad quotes (");
  await refuses('a,b\n1,"2\n', "bad quotes (");
  await assertRejects(() => readCsv(Uint8Array.of(0x61, 0xff)), FormatError, "not in UTF-8");
  await refuses("a,b\n", 'no column "c" at byte 0, expected it among "a", "b"', {
    columns: { c: "string" },
  });
});

Deno.test("readCsv() refuses values of another type", async () => {
  const cases: [CsvType, string[], string][] = [
    ["number", ["x", "1,5", "0x10", "1e", "--1", "1 2"], "a number"],
    ["integer", ["", "1.5", "2147483648", "1e3", "x"], "a whole number of 32 bits"],
    ["boolean", ["", "2", "yes"], "true or false"],
  ];
  for (const [type, values, expected] of cases) {
    for (const value of values) {
      const text = `a,b\n0,1\n0,"${value}"\n`;
      const message = `value "${value}" in column "b" at byte 8, expected ${expected}`;
      await refuses(text, message, { columns: { b: type } });
    }
  }
});

Deno.test("readCsv() reads or refuses damaged files", async () => {
  const bytes = csv('path,label\n"a, b.png",1\nc.png,2\n');
  const read = (bytes: Uint8Array) =>
    readCsv(bytes, { columns: { path: "string", label: "integer" } });
  const cut = await readAll(truncations(bytes), read);
  const random = await readAll(edits(bytes, { seed: 12, count: 2000 }), read);
  for (const { result: { count, columns }, how } of [...cut.accepted, ...random.accepted]) {
    assertEquals([columns.path.length, columns.label.length], [count, count], how);
  }
  assert(cut.refused > 20 && random.refused > 1000, `${cut.refused} ${random.refused}`);
});
