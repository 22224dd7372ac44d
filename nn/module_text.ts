/** @file Modules as PyTorch prints them. */

import type { Module } from "./module.ts";

/** Text with every line but the first moved in by two spaces. */
function indent(text: string): string {
  return text.replaceAll("\n", "\n  ");
}

/** The name, settings and children of a module; `Module.toString`. */
export function describeModule(module: Module): string {
  const extra = module.extraRepr();
  const children = module.namedChildren().map(([name, child]) =>
    `(${name}): ${indent(`${child}`)}`
  );
  return describe(module.constructor.name, extra, children);
}

/** As {@linkcode describeModule}, with equal neighbours in one line: `(0-5): 6 x Linear(…)`. */
export function describeList(module: Module): string {
  const runs: { text: string; names: string[] }[] = [];
  for (const [name, child] of module.namedChildren()) {
    const text = `${child}`;
    const last = runs.at(-1);
    if (last?.text === text) last.names.push(name);
    else runs.push({ text, names: [name] });
  }
  const lines = runs.map(({ text, names }) =>
    names.length === 1
      ? `(${names[0]}): ${indent(text)}`
      : `(${names[0]}-${names.at(-1)}): ${names.length} x ${indent(text)}`
  );
  return describe(module.constructor.name, "", lines);
}

function describe(name: string, extra: string, children: readonly string[]): string {
  if (children.length === 0 && !extra.includes("\n")) return `${name}(${extra})`;
  const lines = [...(extra === "" ? [] : extra.split("\n")), ...children];
  return `${name}(\n  ${lines.join("\n  ")}\n)`;
}

/** A number, or a tuple as Python prints it: `(6, 6)`, `(6,)`. */
export function pythonSize(size: number | readonly number[]): string {
  if (typeof size === "number") return String(size);
  return size.length === 1 ? `(${size[0]},)` : `(${size.join(", ")})`;
}

/** `True` or `False`. */
export function pythonBool(value: boolean): string {
  return value ? "True" : "False";
}

/** A float as Python prints it: `1.0`, `1e-05`. */
export function pythonFloat(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    return value.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
  }
  return Number.isInteger(value) ? value.toFixed(1) : String(value);
}
