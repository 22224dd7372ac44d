import { assertEquals } from "@std/assert";
import { FormatError } from "../../nn/format_error.ts";

Deno.test("FormatError has one line that a terminal only prints, whatever the file holds", () => {
  const options = { file: "a\nb", offset: 3, expected: "c\u2028d" };
  const error = new FormatError("name \u001b[2J\u009b\u007f\u202e", options);
  assertEquals(
    error.message,
    "Cannot read a\\u000ab: name \\u001b[2J\\u009b\\u007f\\u202e at byte 3, expected c\\u2028d",
  );
  assertEquals([error.file, error.offset, error.expected], ["a\nb", 3, "c\u2028d"]);
});

Deno.test("FormatError shortens what is too long to read", () => {
  const long = "7, ".repeat(10_000);
  const { message } = new FormatError(long, { file: long, offset: 0, expected: long });
  assertEquals(message.length, "Cannot read :  at byte 0, expected ".length + 3 * 300);
});
