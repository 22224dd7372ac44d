/** @file Command line flags of the experiments: a table of flags becomes typed options. */

import { parseArgs } from "npm:deno-std@1.4.0/cli/parse_args.js";
import { isAbsolute } from "npm:deno-std@1.4.0/path/is_absolute.js";
import { join } from "npm:deno-std@1.4.0/path/join.js";
import { resolve } from "npm:deno-std@1.4.0/path/resolve.js";
import { closestString } from "npm:deno-std@1.4.0/text/closest_string.js";
import { levenshteinDistance } from "npm:deno-std@1.4.0/text/levenshtein_distance.js";
import { toKebabCase } from "npm:deno-std@1.4.0/text/to_kebab_case.js";
import { HelpRequest, UsageError } from "./_errors.ts";
import { formatHelp } from "./_help.ts";
import { readEnv } from "./_main.ts";

export { HelpRequest, UsageError } from "./_errors.ts";
export { runMain } from "./_main.ts";

/** What every flag has. */
export interface BaseFlag {
  /** One sentence without a period, for `--help`. */
  help: string;
  /** Unit of the value, for `--help`: `pixels`, `degrees`, … */
  unit?: string;
  /** Heading that `--help` puts above this flag and those after it. */
  group?: string;
}

/** A number, or a whole number. */
export interface NumberFlag extends BaseFlag {
  type: "number" | "integer";
  default?: number;
  /** Smallest value allowed. */
  min?: number;
  /** Largest value allowed. */
  max?: number;
  /** The value must be greater than this. */
  above?: number;
  /** The value must be less than this. */
  below?: number;
}

/** Text, or the path of a file or folder. */
export interface TextFlag extends BaseFlag {
  /** A `path` that the user gives is relative to the folder where the user typed it. */
  type: "string" | "path";
  default?: string;
}

/** One of some words. */
export interface ChoiceFlag extends BaseFlag {
  type: "choice";
  choices: readonly string[];
  default?: string;
}

/** On or off: `--name` and `--no-name`. */
export interface SwitchFlag extends BaseFlag {
  type: "boolean";
  default: boolean;
}

/** One flag. Without a default its option is `undefined` when it is not given. */
export type Flag = NumberFlag | TextFlag | ChoiceFlag | SwitchFlag;

/** Flags by option name: `batchSize` is `--batch-size` on the command line. */
export type FlagTable = Readonly<Record<string, Flag>>;

type ValueOf<F extends Flag> = F extends NumberFlag ? number
  : F extends SwitchFlag ? boolean
  : F extends { type: "choice"; choices: readonly (infer C)[] } ? C
  : string;

/** Whose WebGPU to use, as `init` takes it in `provider`; for scripts that open the GPU. */
export const GPU_FLAG = {
  type: "choice",
  choices: ["native", "dawn"],
  default: "native",
  help: "Whose WebGPU: Deno's own, or Dawn from npm:webgpu, which needs --allow-ffi",
} as const satisfies ChoiceFlag;

/** The options that a table of flags gives. */
export type OptionsOf<T extends FlagTable> = {
  -readonly [K in keyof T]: T[K] extends { default: unknown } ? ValueOf<T[K]>
    : ValueOf<T[K]> | undefined;
};

/** What {@linkcode defineFlags} needs besides the table. */
export interface FlagSetOptions<T extends FlagTable, P extends string> {
  /** The command as a user types it, e.g. `deno task train letters`. */
  command: string;
  /** What it does, in a sentence or two. */
  about: string;
  /** Defaults by preset name; `--preset` chooses. The first one is the default. */
  presets?: Readonly<Record<P, Partial<OptionsOf<T>>>>;
}

/** A command line that was understood. */
export interface ParsedFlags<T extends FlagTable, P extends string> {
  /** The value of every option. */
  options: OptionsOf<T>;
  /** The preset, where there are presets. */
  preset: P;
  /** Options that the command line gives itself. */
  given: ReadonlySet<keyof T | "preset">;
}

/** Options of {@linkcode FlagSet.parse}. */
export interface ParseOptions<T extends FlagTable> {
  /** Values that stand between preset and command line, e.g. those of a run that is resumed. */
  base?: Partial<OptionsOf<T>>;
}

/** A table of flags, ready to parse. */
export interface FlagSet<T extends FlagTable, P extends string> {
  /**
   * Options from the command line: defaults of the table, then the preset's, then those given.
   *
   * @throws {UsageError} A flag is unknown, is given twice, lacks its value or has a wrong one.
   * @throws {HelpRequest} `--help` or `-h` is given.
   */
  parse(args: readonly string[], options?: ParseOptions<T>): ParsedFlags<T, P>;
  /** The text of `--help`. */
  help(): string;
}

/**
 * Declares the flags of an experiment.
 *
 * @example
 * ```ts
 * const flags = defineFlags({
 *   lr: { type: "number", default: 0.01, min: 0, help: "Learning rate" },
 *   data: { type: "path", help: "Folder with the EMNIST files" },
 * }, { command: "deno task train letters", about: "Trains a coupled AlexNet on letters" });
 * await runMain(async () => {
 *   const { options } = flags.parse(Deno.args);
 *   await train(options.lr, options.data);
 * });
 * ```
 */
export function defineFlags<const T extends FlagTable, const P extends string = never>(
  table: T,
  options: FlagSetOptions<T, P>,
): FlagSet<T, P> {
  const presets: Readonly<Record<string, Partial<OptionsOf<T>>>> = options.presets ?? {};
  const presetNames = Object.keys(presets);
  const flags: Record<string, Flag> = { ...table };
  if (presetNames.length > 0) {
    const help = "Set of defaults; other flags override it";
    flags.preset = { type: "choice", choices: presetNames, default: presetNames[0]!, help };
  }
  const parse = (args: readonly string[], { base = {} }: ParseOptions<T> = {}) => {
    if (asksForHelp(args)) throw new HelpRequest(help());
    const given = readArgs(args, flags);
    const preset = String(given.preset ?? presetNames[0]);
    const values: Record<string, unknown> = {};
    for (const [name, flag] of Object.entries(table)) values[name] = flag.default;
    Object.assign(values, presets[preset], withoutUndefined(base), given);
    delete values.preset;
    return {
      // The values were checked against the table that the type comes from.
      options: values as OptionsOf<T>,
      preset: preset as P,
      given: new Set(Object.keys(given)) as ReadonlySet<keyof T | "preset">,
    };
  };
  const help = () => formatHelp({ command: options.command, about: options.about, flags, presets });
  return { parse, help };
}

/** Whether `--help` is among the arguments, even beside wrong ones. */
function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  const flags = end < 0 ? args : args.slice(0, end);
  return flags.includes("--help") || flags.includes("-h");
}

/** The values that the arguments give, by option name. */
function readArgs(
  args: readonly string[],
  flags: Readonly<Record<string, Flag>>,
): Record<string, unknown> {
  const options = new Map(Object.keys(flags).map((option) => [toKebabCase(option), option]));
  const isSwitch = (name: string) => flags[options.get(name) ?? ""]?.type === "boolean";
  const names = [...options.keys()];
  const switches = names.filter(isSwitch).flatMap((name) => [name, `no-${name}`]);
  for (const arg of args) rejectSwitchValue(arg, switches);

  const texts = names.filter((name) => !isSwitch(name));
  const parsed = parseArgs([...args], {
    boolean: switches,
    string: [...texts, "_"],
    collect: [...texts, ...switches],
    unknown: (arg: string, key?: string) => {
      throw unknownArgument(arg, { key, names: [...names, ...switches] });
    },
  });
  // Arguments after `--` do not pass through `unknown`.
  if (parsed._.length > 0) throw unknownArgument(parsed._[0], { names });

  const given: Record<string, unknown> = {};
  for (const [name, option] of options) {
    const plain: unknown[] = parsed[name] ?? [];
    const negated: unknown[] = parsed[`no-${name}`] ?? [];
    if (plain.length + negated.length > 1) {
      throw new UsageError(`Flag --${name} is given twice: give it once`);
    }
    if (negated.length === 1) given[option] = !negated[0];
    if (plain.length === 1) given[option] = readValue(name, flags[option]!, plain[0]);
  }
  return given;
}

/** `--name=value` of a switch: the parser takes any text for `true`. */
function rejectSwitchValue(arg: string, switches: readonly string[]): void {
  const [, name, value] = /^--([^=]+)=(.*)$/s.exec(arg) ?? [];
  if (name === undefined || !switches.includes(name)) return;
  if (!name.startsWith("no-") && (value === "true" || value === "false")) return;
  const plain = name.replace(/^no-/, "");
  throw new UsageError(
    `Flag --${name} takes no value "${value}": write --${plain} or --no-${plain}`,
  );
}

function unknownArgument(
  arg: string,
  { key, names }: { key?: string; names: readonly string[] },
): UsageError {
  if (key === undefined) {
    return new UsageError(`Unexpected argument "${arg}": flags begin with --; --help lists all`);
  }
  if (/^-[\d.]/.test(arg)) {
    return new UsageError(
      `Unexpected value ${arg}: join a negative value to its flag, as --flag=${arg}`,
    );
  }
  const dashes = arg.startsWith("--") ? "--" : "-";
  const nearest: string = closestString(key, [...names]);
  const near = levenshteinDistance(key.toLowerCase(), nearest) <= Math.max(1, key.length * 0.4);
  const tail = near ? `: did you mean --${nearest}? --help lists all` : ": --help lists all";
  return new UsageError(`Unknown flag ${dashes}${key}${tail}`);
}

function readValue(name: string, flag: Flag, value: unknown): unknown {
  if (flag.type === "boolean") return value;
  const text = String(value);
  if (text === "") throw new UsageError(`Flag --${name} needs a value: ${valueRule(flag)}`);
  switch (flag.type) {
    case "number":
    case "integer":
      return readNumber(name, flag, text);
    case "choice":
      if (flag.choices.includes(text)) return text;
      throw new UsageError(`Flag --${name} cannot be "${text}": it must be ${valueRule(flag)}`);
    case "path":
      return userPath(text);
    case "string":
      return text;
  }
}

function readNumber(name: string, flag: NumberFlag, text: string): number {
  const value = Number(text);
  const { min = -Infinity, max = Infinity, above = -Infinity, below = Infinity } = flag;
  const isNumber = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) && Number.isFinite(value);
  const isKind = flag.type === "number" || Number.isSafeInteger(value);
  const inRange = value >= min && value <= max && value > above && value < below;
  if (isNumber && isKind && inRange) return value;
  throw new UsageError(`Flag --${name} cannot be "${text}": it must be ${valueRule(flag)}`);
}

/** What a value must be, in words. */
function valueRule(flag: Exclude<Flag, SwitchFlag>): string {
  switch (flag.type) {
    case "choice":
      return `one of ${flag.choices.join(", ")}`;
    case "path":
      return "a path";
    case "string":
      return "a text";
  }
  const { min, max, above, below } = flag;
  const rules = [
    min === undefined ? "" : `>= ${min}`,
    above === undefined ? "" : `> ${above}`,
    max === undefined ? "" : `<= ${max}`,
    below === undefined ? "" : `< ${below}`,
  ].filter((rule) => rule !== "");
  const kind = flag.type === "integer" ? "a whole number" : "a number";
  return rules.length === 0 ? kind : `${kind} ${rules.join(" and ")}`;
}

/**
 * A path as the user meant it. `deno task` runs in the folder of `deno.json` and keeps the folder where
 * it was typed in `INIT_CWD`.
 */
export function userPath(path: string): string {
  const typedIn = readEnv("INIT_CWD");
  return typedIn === undefined || isAbsolute(path) ? path : join(typedIn, path);
}

/**
 * A path of this process as an argument that the user can type: whole where `userPath` would take it to be in
 * another folder, and in quotes where a shell would take it apart.
 */
export function shellPath(path: string): string {
  const typed = userPath(path);
  return shellWord(typed === path || resolve(typed) === resolve(path) ? path : resolve(path));
}

/** One argument of a command to type. */
export function shellWord(text: string): string {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  // A quotation mark cannot stand inside: '\'' ends the quotation, adds one and begins again.
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function withoutUndefined(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}
