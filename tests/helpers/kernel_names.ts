/** The names of all kernels, read off the source, with their variants. */

import { readSources } from "./source.ts";

/** The variants that a kernel's name stands for: each a pattern of launched names. */
export function variantsOf(name: string): string[] {
  const parts = name.split(/(\$\{[^}]*\})/);
  return parts.reduce<string[]>((made, part) => {
    const choice = /^\$\{[^}]*\? "(\w*)" : "(\w*)"\}$/.exec(part);
    const options = choice
      ? [choice[1]!, choice[2]!]
      : [part.startsWith("${") ? "[A-Za-z0-9_]+?" : part];
    return made.flatMap((m) => options.map((o) => m + o));
  }, [""]);
}

/** Kernel names in the source: those that end their line; a buffer's is followed by its access. */
export function kernelNames(): string[] {
  const names = readSources(["engine/kernels"]).flatMap(({ text }) =>
    [...text.matchAll(/\bname: (?:`([^`]*)`|"([^"]*)"),\n/g)].map((m) => m[1] ?? m[2]!)
  );
  return [...new Set(names)].filter((name) => !name.startsWith("b_"));
}
