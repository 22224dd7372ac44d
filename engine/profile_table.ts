/** @file A profile as lines of text. */

import type { ModuleTime, Profile } from "./profile.ts";

/** Options of `Profile.table`. */
export interface TableOptions {
  /** Kernels shown; default 10. */
  kernels?: number;
  /** Levels of modules shown, 0 for none; default 2. */
  depth?: number;
}

/** Digits that suit the size of a number: three that count. */
function digits(value: number): string {
  if (!Number.isFinite(value)) return "–";
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

function percent(share: number): string {
  return Number.isFinite(share) ? `${(100 * share).toFixed(0)} %` : "–";
}

/** Rows with their columns aligned: the first to the left, the others to the right. */
function align(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, c) => Math.max(...rows.map((row) => row[c]!.length)));
  return rows.map((row) =>
    row.map((cell, c) => c === 0 ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!)).join("  ")
      .trimEnd()
  );
}

/** The text of `Profile.table`. */
export function profileTable(
  profile: Profile,
  { kernels: most = 10, depth = 2 }: TableOptions,
): string {
  const { kernels, dispatches, modules, ms, roofline } = profile;
  const shown = kernels.slice(0, most);
  const rest = kernels.length - shown.length;
  const lines = [
    `${
      digits(ms)
    } ms on the GPU in ${dispatches.length} dispatches of ${kernels.length} kernels; ` +
    `this adapter does at best ${digits(roofline.gflops)} GFLOP/s and ${digits(roofline.gbs)} GB/s`,
    "",
    ...align([
      ["kernel", "calls", "ms", "time", "GFLOP/s", "GB/s", "of best"],
      ...shown.map((k) => [
        k.name,
        `${k.calls}`,
        digits(k.ms),
        percent(k.ms / ms),
        k.flops > 0 ? digits(k.gflops) : "–",
        digits(k.gbs),
        percent(k.roofline),
      ]),
    ]),
    ...(rest > 0 ? [`and ${rest} more`] : []),
  ];
  const top = modules.filter(({ path }) => levelOf(path) < depth);
  if (top.length > 0) lines.push("", ...align(moduleRows(top, ms)));
  return lines.join("\n");
}

function levelOf(path: string): number {
  return path.split(".").length - 1;
}

function moduleRows(modules: readonly ModuleTime[], ms: number): string[][] {
  const inside = modules.filter(({ path }) => levelOf(path) === 0).reduce((n, m) => n + m.ms, 0);
  return [
    ["module", "forward ms", "backward ms", "time"],
    ...modules.map((m) => [
      `${"  ".repeat(levelOf(m.path))}${m.path.split(".").at(-1)}`,
      digits(m.forwardMs),
      digits(m.backwardMs),
      percent(m.ms / ms),
    ]),
    ["outside of modules", "", "", percent(1 - inside / ms)],
  ];
}
