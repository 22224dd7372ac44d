/** @file What the scripts about files share: their arguments. */

import { UsageError } from "./_args.ts";

/** Arguments before the flags, and the flags. */
export function splitArguments(
  args: readonly string[],
  options: { names: readonly string[]; command: string },
): { files: string[]; flags: string[] } {
  const { names, command } = options;
  const first = args.findIndex((arg) => arg.startsWith("-"));
  const files = args.slice(0, first < 0 ? args.length : first);
  const flags = args.slice(files.length);
  const help = flags.includes("--help") || flags.includes("-h");
  if (!help && files.length !== names.length) {
    throw new UsageError(
      `Expected ${names.join(" and ")}, got ${files.length} arguments: ` +
        `${command} ${names.join(" ")} [flags]; --help lists the flags`,
    );
  }
  return { files, flags };
}

/** A size in words: `37.6 kB`, `46.8 MB`. */
export function formatBytes(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let value = bytes, unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
