import { assertEquals, assertThrows } from "@std/assert";
import { JsonFault, parseStrictJson, quote } from "../../../nn/io/json_scan.ts";

Deno.test("parseStrictJson() gives the value and where each outer key is", () => {
  const text = ' {"a": {"b": [1, {"a": 2}]}, "c\\"d" : "x:\\\\", "\\u0065":null}';
  const { value, keys } = parseStrictJson(text, 10);
  assertEquals(value, { a: { b: [1, { a: 2 }] }, 'c"d': "x:\\", e: null });
  assertEquals([...keys], [
    ["a", text.indexOf('"a"')],
    ['c"d', text.indexOf('"c')],
    ["e", text.indexOf('"\\u0065')],
  ]);
});

Deno.test("parseStrictJson() throws for a repeated key at any depth, however it is written", () => {
  const cases: [string, number][] = [
    ['{"a":1,"a":1}', 7],
    ['{"a":1,"\\u0061":1}', 7],
    ['[[{"x":{"k":1, "l":[], "k" :2}}]]', 23],
    ['{"__proto__":1,"__proto__":2}', 15],
  ];
  for (const [text, index] of cases) {
    const fault = assertThrows(() => parseStrictJson(text, 10), JsonFault, "repeated key");
    assertEquals(fault.index, index);
  }
});

Deno.test("parseStrictJson() takes a key again in another object, and as a value", () => {
  for (const text of ['[{"a":1},{"a":1}]', '{"a":{"a":"a"},"b":["a","a"]}', '{"a":"a","b":"a"}']) {
    assertEquals(parseStrictJson(text, 10).value, JSON.parse(text));
  }
});

Deno.test("parseStrictJson() throws beyond the depth, before the parse", () => {
  assertEquals(parseStrictJson("[[[]]]", 3).value, [[[]]]);
  assertEquals(parseStrictJson('["[[[[["]', 1).value, ["[[[[["]);
  const fault = assertThrows(() => parseStrictJson("[[[[]]]]", 3), JsonFault, "beyond 3 levels");
  assertEquals(fault.index, 3);
  // JSON.parse alone takes seconds for this one.
  assertThrows(() => parseStrictJson('{"a":'.repeat(5_000_000), 100), JsonFault, "beyond 100");
});

Deno.test("parseStrictJson() throws for what is not JSON", () => {
  for (
    const text of [
      "",
      "{",
      "}",
      "[1,]",
      "{a:1}",
      '{"a":1',
      '"abc',
      '{"\\x":1}',
      "NaN",
      "\ufeff{}",
      "1 2",
    ]
  ) {
    assertThrows(() => parseStrictJson(text, 10), JsonFault);
  }
  assertEquals(assertThrows(() => parseStrictJson('{"a":1,]', 10), JsonFault).index, 7);
  for (const word of ["NaN", "Infinity", "-", "01", "1.", "+1", "1e", "tru", "undefined", "'a'"]) {
    const fault = assertThrows(() => parseStrictJson(`{"é": [1, ${word}]}`, 10), JsonFault);
    assertEquals([word, fault.index], [word, 10]);
  }
});

Deno.test("quote() keeps a name on one line and short", () => {
  assertEquals(quote('a"\n'), '"a\\"\\n"');
  assertEquals(quote("x".repeat(1000)).length, 82);
});
