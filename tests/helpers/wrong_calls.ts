/** Calls that types rule out but plain JavaScript lets through, and the errors they must end in. */

import { assert, assertEquals, assertThrows } from "@std/assert";

/** What types forbid. */
// deno-lint-ignore no-explicit-any
export const any = (value?: unknown) => value as any;

/** Calls, and the messages they must throw. */
export function checkErrors(kind: typeof Error, cases: [() => unknown, string][]): void {
  for (const [fn, message] of cases) {
    const error = assertThrows(fn) as Error;
    assertEquals(error.message, message);
    assertEquals(error.constructor, kind, message);
  }
}

/** Calls of functions with `options`, which must all ask for an object, and for names as they are here. */
// deno-lint-ignore no-explicit-any
export function checkAllOptions(calls: Record<string, (options: any) => unknown>): void {
  for (const [name, call] of Object.entries(calls)) {
    for (const [options, text] of [["on", '"on"'], [null, "null"], [[1], "[1]"]] as const) {
      const { message } = assertThrows(() => call(options), TypeError, undefined, name);
      const start = new RegExp(`^Cannot .+ with options ${text.replace(/[[\]]/g, "\\$&")}: write `);
      assert(start.test(message), `${name}: ${message}`);
    }
    const { message } = assertThrows(() => call({ no_name: 1 }), TypeError, undefined, name);
    assert(
      /^Cannot .+ with no_name: it (is noName|takes \w+)/.test(message),
      `${name}: ${message}`,
    );
  }
}
