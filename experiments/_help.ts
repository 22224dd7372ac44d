/** @file The text of `--help`. */

import { toKebabCase } from "npm:deno-std@1.4.0/text/to_kebab_case.js";
import type { Flag } from "./_args.ts";

const WIDTH = 80;
const MAX_NAME_WIDTH = 28;

/** Lists every flag with its value, meaning, unit and default, wrapped to 80 columns. */
export function formatHelp(
  { command, about, flags, presets }: {
    command: string;
    about: string;
    flags: Readonly<Record<string, Flag>>;
    presets: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  },
): string {
  const { preset, ...rest } = flags;
  // The preset comes first, as it changes the others.
  const ordered = [...(preset ? [["preset", preset] as const] : []), ...Object.entries(rest)];
  const rows = ordered.map(([option, flag]) => ({
    name: `  --${flag.type === "boolean" ? "[no-]" : ""}${toKebabCase(option)}${placeholder(flag)}`,
    text: `${flag.help} (${details(option, flag, presets)})`.replace(" ()", ""),
    group: flag.group,
  }));
  rows.push({ name: "  -h, --help", text: "Print this text and end", group: undefined });
  const column = Math.min(MAX_NAME_WIDTH, Math.max(...rows.map(({ name }) => name.length + 2)));
  const lines = [...wrap(about, WIDTH), "", `Usage: ${command} [flags]`, ""];
  for (const { name, text, group } of rows) {
    if (group !== undefined) lines.push("", `${group}:`);
    const [first = "", ...more] = wrap(text, WIDTH - column);
    if (name.length + 2 > column) lines.push(name, " ".repeat(column) + first);
    else lines.push(name.padEnd(column) + first);
    lines.push(...more.map((line) => " ".repeat(column) + line));
  }
  return `${lines.join("\n")}\n`;
}

function placeholder(flag: Flag): string {
  switch (flag.type) {
    case "number":
      return " NUMBER";
    case "integer":
      return " INTEGER";
    case "path":
      return " PATH";
    case "string":
      return " TEXT";
    case "choice":
      return ` ${flag.choices.join("|")}`;
    case "boolean":
      return "";
  }
}

/** Unit and default, and the default of each preset that differs. */
function details(
  option: string,
  flag: Flag,
  presets: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
): string {
  const parts: string[] = flag.unit === undefined ? [] : [flag.unit];
  const own = new Set(Object.values(presets).map((preset) => preset[option] ?? flag.default));
  const show = (value: unknown) => {
    if (flag.type === "boolean") return value ? "on" : "off";
    return String(value);
  };
  if (own.size > 1) {
    for (const [name, preset] of Object.entries(presets)) {
      const value = preset[option] ?? flag.default;
      if (value !== undefined) parts.push(`${name}: ${show(value)}`);
    }
  } else {
    const [value = flag.default] = own;
    if (value !== undefined) parts.push(`default: ${show(value)}`);
  }
  return parts.join("; ");
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  if (line !== "") lines.push(line);
  return lines;
}
