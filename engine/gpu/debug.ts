/**
 * Debug switches, read once from the environment when that needs no prompt.
 *
 * | variable | value | effect |
 * |---|---|---|
 * | `LATHE_DEBUG` | 1 | adapter, buffers the garbage collector had to free, compile times |
 * | | 2 | and a line a dispatch: number, kernel, grid, flops, bytes, memory in use |
 * | | 3 | and each shader's text when it is compiled |
 * | `LATHE_CHECK` | 1 | every op is run again on its float64 reference; the first difference is thrown at the next `await` |
 * | | nan | the first op with a NaN or Inf in its output is thrown at the next `await`, with module and op |
 */

/** How ops are checked while they run; `anomaly` looks at gradients alone, for `detectAnomaly`. */
export type CheckMode = "off" | "reference" | "nan" | "anomaly";

/** The switches; `setDebug` changes them at run time. */
export interface DebugSettings {
  /** 0 silent, 1 device, 2 dispatches, 3 shader text. */
  level: number;
  /** What each op is checked against. */
  check: CheckMode;
  /** Where lines go; standard error by default so that they never mix with results. */
  write: (line: string) => void;
}

let settings: DebugSettings | undefined;

/** The present settings. */
export function debug(): DebugSettings {
  settings ??= {
    level: Number(readEnv("LATHE_DEBUG") ?? 0) || 0,
    check: parseCheck(readEnv("LATHE_CHECK")),
    write: console.error,
  };
  return settings;
}

/**
 * Changes the settings for this process, over what the environment says.
 *
 * @example
 * ```ts
 * import { setDebug } from "../../mod.ts";
 * setDebug({ level: 2 });
 * ```
 */
export function setDebug(change: Partial<DebugSettings>): void {
  Object.assign(debug(), change);
}

function parseCheck(value: string | undefined): CheckMode {
  if (value === undefined || value === "" || value === "0") return "off";
  if (value === "1") return "reference";
  if (value === "nan") return "nan";
  throw new RangeError(`LATHE_CHECK is ${JSON.stringify(value)}: it must be 1 or nan`);
}

/** The variable's value, or undefined where there is no Deno, no such variable or no permission. */
function readEnv(name: string): string | undefined {
  const deno = (globalThis as { Deno?: typeof Deno }).Deno;
  if (!deno) return undefined;
  const permission = deno.permissions?.querySync({ name: "env", variable: name });
  return permission?.state === "granted" ? deno.env.get(name) : undefined;
}
