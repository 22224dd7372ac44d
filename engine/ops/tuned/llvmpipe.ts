/** Written by `deno task tune`. */

import type { TunedTable } from "./mod.ts";

/** Tiles for llvmpipe. */
export const LLVMPIPE: TunedTable = {
  "adapter": "llvmpipe",
  "date": "2026-11-30",
  "deno": "2.9.6",
  "tiles": {},
};
