/** The tables that `deno task tune` measured, by adapter. */

import { LLVMPIPE } from "./llvmpipe.ts";

/** Tiles that were measured to be faster than the planner's own choice. */
export interface TunedTable {
  /** Name of the adapter without what stands in brackets. */
  readonly adapter: string;
  /** Day of the measurement. */
  readonly date: string;
  /** Deno it ran on. */
  readonly deno: string;
  /** Names of tiles by class of products; classes that are absent keep the planner's choice. */
  readonly tiles: Readonly<Record<string, string>>;
}

const keys = new Map<string, string>();

/** An adapter's name without its version, driver and width, which stand in brackets. */
export function adapterKey(adapter: string): string {
  let key = keys.get(adapter);
  if (key === undefined) keys.set(adapter, key = adapter.replace(/\s*\(.*$/, "").trim());
  return key;
}

/** Every table. */
export const TUNED: readonly TunedTable[] = [LLVMPIPE];
