/** @file The table of results and the columns it is compared with. */

import type { Result } from "./measure.ts";

/** Figures of the same work by name, from an earlier run or another library. */
export interface Column {
  readonly title: string;
  /** Milliseconds or bytes by the name of the work, and what of a result they are compared with. */
  readonly figures: ReadonlyMap<string, number>;
  readonly of: "ms" | "wallMs" | "memory";
}

const WIDTH = 56;
/** Dispatches of a run from which on the host's time for one says something: of few a submit is most. */
const MANY = 32;

/** Titles of the table; the last are the host's time a dispatch and the memory at the peak. */
export function header(columns: readonly Column[] = []): string {
  return `${"workload".padEnd(WIDTH)} ${"ms".padStart(9)} ${"low–high".padStart(17)} ` +
    `${"wall ms".padStart(9)} ${"GFLOP/s".padStart(9)} ${
      "GB/s".padStart(8)
    }   best  host µs     MiB` +
    columns.map(({ title }) => `  ${title}`).join("");
}

/** One line of the table. A ratio above 1 means that the result is faster than the column's, or smaller. */
export function formatResult(r: Result, columns: readonly Column[] = []): string {
  const spread = `${r.low.toFixed(2)}–${r.high.toFixed(2)}`;
  const ratios = columns.map(({ title, figures, of }) => {
    const other = figures.get(r.name);
    const text = other === undefined ? "–" : `${(other / r[of]).toFixed(2)}x`;
    return `  ${text.padStart(title.length)}`;
  });
  const gflops = r.gflops > 0 ? r.gflops.toFixed(r.gflops < 1000 ? 2 : 0) : "–";
  const host = r.dispatches < MANY ? "–" : r.hostUs.toFixed(1);
  return `${r.name.padEnd(WIDTH)} ${r.ms.toFixed(2).padStart(9)} ${spread.padStart(17)} ` +
    `${r.wallMs.toFixed(2).padStart(9)} ${gflops.padStart(9)} ${r.gbs.toFixed(2).padStart(8)} ` +
    `${(100 * r.roofline).toFixed(0).padStart(4)} % ${host.padStart(8)} ` +
    `${(r.memory / 2 ** 20).toFixed(1).padStart(7)}${ratios.join("")}`;
}
