import { assertEquals } from "@std/assert";
import { loadOps, OPS_TABLE, opsTable } from "../helpers/ops_table.ts";

/** The words of a table: `deno fmt` sets the columns' widths. */
function words(text: string): string {
  return text.replace(/-{3,}/g, "---").replace(/\s+/g, " ");
}

Deno.test("engine/OPS.md says what the records say: deno task docs:ops writes it", async () => {
  await loadOps();
  assertEquals(words(await Deno.readTextFile(OPS_TABLE)), words(opsTable()));
});
