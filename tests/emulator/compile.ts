/**
 * Makes JavaScript of WGSL. Functions that meet barriers or subgroups become generators, which give what they
 * wait for: see `workgroup.ts`.
 *
 * Scalars are numbers and booleans, vectors arrays that are never changed in place, arrays of a function arrays.
 */

import { parse } from "./parser.ts";
import { type Runtime } from "./numbers.ts";
import type { Memory } from "./memory.ts";
import {
  type Expr,
  type Fn,
  type GlobalVar,
  type Module,
  type ScalarName,
  type Statement,
  type Type,
  typeName,
  WgslError,
} from "./syntax.ts";

/** What a thread waits for. */
export interface Wait {
  readonly op: "workgroup" | "storage" | "broadcast" | "add" | "load" | "multiply" | "put";
  /** Place in the text: threads wait together only at one place. */
  readonly at: number;
  /** Operands. */
  readonly args: readonly unknown[];
}

/** The built-in values of a thread. */
export type Builtins = Readonly<Record<string, number | readonly number[]>>;

/** A compiled entry point. */
export interface Program {
  readonly vars: readonly GlobalVar[];
  readonly workgroup: readonly [number, number, number];
  /** Whether its threads wait for each other. */
  readonly waits: boolean;
  /** Names the variables of the next run. */
  bind(memories: Readonly<Record<string, Memory | Readonly<Record<string, number>>>>): void;
  /** Runs a thread; where it waits, gives it as a generator. */
  main(builtins: Builtins): Generator<Wait, void, unknown> | void;
}

/** Compiles the entry point `main` of a text. */
export function compile(text: string, runtime: Runtime): Program {
  const module = parse(text);
  const entry = module.functions.find((f) => f.workgroup && f.name === "main");
  if (!entry) throw new WgslError(text, 0, "there is no entry point main");
  const { js, waiting } = new Compiler(module).module();
  const made = new Function("R", js)(runtime) as Pick<Program, "bind" | "main">;
  return { ...made, vars: module.vars, workgroup: entry.workgroup!, waits: waiting.has("main") };
}

const BOOL: Type = { kind: "scalar", name: "bool" };
const VOID: Type = { kind: "void" };
const scalar = (name: ScalarName): Type => ({ kind: "scalar", name });
const WAITS =
  /^(workgroupBarrier|storageBarrier|workgroupUniformLoad|subgroup(Broadcast|Add|MatrixLoad|MatrixStore|MatrixMultiplyAccumulate))$/;
/** Functions of floats, or of all numbers, that are the same for each component. */
const EACH =
  /^(round|fma|abs|min|max|clamp|sign|floor|ceil|trunc|fract|exp2?|log2?|sqrt|inverseSqrt|a?(sin|cos|tan)|atan2|tanh|pow|mix|step|count(LeadingZeros|TrailingZeros|OneBits)|firstLeadingBit)$/;
const COMPARE = /^([=!]=|[<>]=?)$/;

/** Compiled text of a value. */
interface Value {
  readonly js: string;
  readonly type: Type;
}

/** Something that can be stored to. */
type Place =
  | { readonly in: "memory"; readonly memory: string; readonly word: string; readonly type: Type }
  | { readonly in: "local"; readonly js: string; readonly type: Type }
  | { readonly in: "part"; readonly of: Place; readonly index: string; readonly type: Type };

/** The scalar that a type is made of. */
function baseOf(type: Type): ScalarName {
  switch (type.kind) {
    case "scalar":
      return type.name;
    case "vector":
    case "atomic":
      return type.of;
    case "array":
      return baseOf(type.of);
    default:
      throw new TypeError(`Memory of ${typeName(type)} is not understood`);
  }
}

/** Scalars from one element of an array to the next. */
function strideOf(type: Type): number {
  if (type.kind === "vector") return type.size === 3 ? 4 : type.size;
  if (type.kind === "array") return strideOf(type.of) * type.length!;
  return 1;
}

/** The scalar type and number of words of a variable; null where its length is the binding's. */
export function wordsIn(type: Type): { of: ScalarName; words: number | null } {
  const runtime = type.kind === "array" && type.length === null;
  return { of: baseOf(type), words: runtime ? null : strideOf(type) };
}

class Compiler {
  readonly #module: Module;
  readonly #functions: ReadonlyMap<string, Fn>;
  readonly #vars: ReadonlyMap<string, GlobalVar>;
  readonly #waiting: Set<string>;
  #scopes: Map<string, { js: string; type: Type; mutable: boolean }>[] = [new Map()];
  #names = 0;
  /** Places of the text that access memory. */
  #sites = 0;
  #result: Type = VOID;

  constructor(module: Module) {
    this.#module = module;
    this.#functions = new Map(module.functions.map((f) => [f.name, f]));
    this.#vars = new Map(module.vars.map((v) => [v.name, v]));
    this.#waiting = waitingFunctions(module);
  }

  module(): { js: string; waiting: ReadonlySet<string> } {
    const { vars, constants, functions } = this.#module;
    const lines = ['"use strict";'];
    for (const v of vars) lines.push(`let V_${v.name};`);
    for (const { name, type, value } of constants) {
      const made = this.#expr(value);
      const { js, type: as } = type ? this.#as(made, type, value.at) : made;
      lines.push(`const ${this.#declare(name, as, false)} = ${js};`);
    }
    for (const f of functions) lines.push(this.#fn(f));
    const entry = this.#functions.get("main")!;
    const args = entry.parameters.map((p) => `B.${p.builtin}`).join(", ");
    lines.push(
      `return { bind(M) { ${vars.map((v) => `V_${v.name} = M.${v.name};`).join(" ")} }, ` +
        `main(B) { return F_main(${args}); } };`,
    );
    return { js: lines.join("\n"), waiting: this.#waiting };
  }

  #error(at: number, message: string): WgslError {
    return new WgslError(this.#module.text, at, message);
  }

  #declare(name: string, type: Type, mutable: boolean): string {
    const js = `${name}_${this.#names++}`;
    this.#scopes.at(-1)!.set(name, { js, type, mutable });
    return js;
  }

  #inScope<T>(fn: () => T): T {
    this.#scopes.push(new Map());
    try {
      return fn();
    } finally {
      this.#scopes.pop();
    }
  }

  #fn(f: Fn): string {
    return this.#inScope(() => {
      const parameters = f.parameters.map((p) => this.#declare(p.name, p.type, false));
      this.#result = f.result;
      const star = this.#waiting.has(f.name) ? "*" : "";
      return `function${star} F_${f.name}(${parameters.join(", ")}) ${this.#statement(f.body)}`;
    });
  }

  #statement(s: Statement): string {
    switch (s.kind) {
      case "block":
        return this.#inScope(() => `{\n${s.body.map((b) => this.#statement(b)).join("\n")}\n}`);
      case "declare": {
        const value = s.value ? this.#expr(s.value) : null;
        const type = s.type ?? concrete(value!.type);
        const js = value ? this.#as(value, type, s.at).js : zero(type);
        // Arrays and structs are copied: their parts may be changed in place.
        const parts = type.kind === "array" || type.kind === "struct";
        const own = parts && value ? `structuredClone(${js})` : js;
        return `${s.mutable ? "let" : "const"} ${this.#declare(s.name, type, s.mutable)} = ${own};`;
      }
      case "assign": {
        if (!s.to) return `${this.#expr(s.value).js};`;
        const place = this.#place(s.to);
        const value = s.op === ""
          ? this.#expr(s.value)
          : this.#binary(s.op, this.#read(place), this.#expr(s.value), s.at);
        return this.#store(place, this.#as(value, place.type, s.at).js);
      }
      case "call":
        return `${this.#expr(s.call).js};`;
      case "if": {
        const test = this.#as(this.#expr(s.test), BOOL, s.at).js;
        const otherwise = s.otherwise ? ` else ${this.#statement(s.otherwise)}` : "";
        return `if (${test}) ${this.#statement(s.then)}${otherwise}`;
      }
      case "for":
        return this.#inScope(() => {
          const first = s.first ? this.#statement(s.first) : ";";
          const test = s.test ? this.#as(this.#expr(s.test), BOOL, s.at).js : "";
          const step = s.step ? this.#statement(s.step).replace(/;$/, "") : "";
          return `{ ${first} for (; ${test}; ${step}) ${this.#statement(s.body)} }`;
        });
      case "switch": {
        const of = this.#expr(s.of), type = concrete(of.type);
        const cases = s.cases.map(({ on, body }) => {
          const labels = on.map((e) =>
            e === "default" ? "default:" : `case ${this.#as(this.#expr(e), type, e.at).js}:`
          );
          return `${labels.join(" ")} ${this.#statement(body)} break;`;
        });
        return `switch (${this.#as(of, type, s.at).js}) {\n${cases.join("\n")}\n}`;
      }
      case "return":
        return s.value
          ? `return ${this.#as(this.#expr(s.value), this.#result, s.at).js};`
          : "return;";
      default:
        return `${s.kind};`;
    }
  }

  /** The value as `type`, if WGSL converts it by itself. */
  #as(value: Value, type: Type, at: number): Value {
    if (typeName(value.type) === typeName(type)) return value;
    const from = value.type.kind === "vector" ? value.type.of : baseName(value.type);
    const to = type.kind === "vector" ? type.of : baseName(type);
    const sameShape = value.type.kind === type.kind &&
      (type.kind !== "vector" || (value.type as { size: number }).size === type.size);
    const allowed = (from === "int" && to !== "bool") || (from === "float" && /^f/.test(to));
    if (!sameShape || !allowed) {
      throw this.#error(at, `${typeName(value.type)} where ${typeName(type)} belongs`);
    }
    if (type.kind === "vector") {
      return { js: `R.each(${type.size}, (x) => ${rounded("x", to)}, ${value.js})`, type };
    }
    return { js: rounded(value.js, to), type };
  }

  #place(e: Expr): Place {
    if (e.kind === "name") {
      for (let i = this.#scopes.length - 1; i >= 0; i--) {
        const known = this.#scopes[i]!.get(e.name);
        if (known) return { in: "local", js: known.js, type: known.type };
      }
      const global = this.#vars.get(e.name);
      if (!global) throw this.#error(e.at, `${e.name} is not declared`);
      if (global.space === "uniform") {
        return { in: "local", js: `V_${e.name}`, type: global.type };
      }
      return { in: "memory", memory: `V_${e.name}`, word: "0", type: global.type };
    }
    if (e.kind === "index") return this.#indexed(this.#place(e.of), e);
    if (e.kind === "member") return this.#member(this.#place(e.of), e);
    if (e.kind === "unary" && e.op === "&") return this.#place(e.of);
    const { js, type } = this.#expr(e);
    return { in: "local", js: `(${js})`, type };
  }

  #indexed(of: Place, e: Expr & { kind: "index" }): Place {
    const index = this.#expr(e.index);
    if (!/^(int|i32|u32)$/.test(baseName(index.type))) {
      throw this.#error(e.at, `${typeName(index.type)} is no index`);
    }
    const { type } = of;
    if (type.kind === "vector") return part(of, index.js);
    if (type.kind !== "array") throw this.#error(e.at, `${typeName(type)} has no elements`);
    const js = type.length === null ? index.js : `R.inside(${index.js}, ${type.length})`;
    if (of.in === "memory") {
      const word = `${of.word} + ${strideOf(type.of)} * (${js})`;
      return { ...of, word: of.word === "0" ? word.slice(4) : word, type: type.of };
    }
    if (of.in === "part") throw this.#error(e.at, "an array in a vector");
    return { in: "local", js: `${of.js}[${js}]`, type: type.of };
  }

  #member(of: Place, e: Expr & { kind: "member" }): Place {
    const { type } = of;
    if (type.kind === "struct") {
      const member = type.members.find((m) => m.name === e.name);
      if (!member || of.in !== "local") throw this.#error(e.at, `no member ${e.name} here`);
      return { in: "local", js: `${of.js}.${e.name}`, type: member.type };
    }
    if (type.kind !== "vector") throw this.#error(e.at, `${typeName(type)} has no members`);
    const components = [...e.name].map((c) =>
      "xyzw".includes(c) ? "xyzw".indexOf(c) : "rgba".indexOf(c)
    );
    if (components.some((c) => c < 0 || c >= type.size)) {
      throw this.#error(e.at, `${typeName(type)} has no ${e.name}`);
    }
    if (components.length === 1) return part(of, String(components[0]));
    const { js } = this.#read(of);
    return {
      in: "local",
      js: `(v => [${components.map((c) => `v[${c}]`)}])(${js})`,
      type: { ...type, size: components.length },
    };
  }

  #read(place: Place): Value {
    const { type } = place;
    if (place.in === "local") return { js: place.js, type };
    if (place.in === "part") return { js: `${this.#read(place.of).js}[${place.index}]`, type };
    if (type.kind === "vector") {
      return { js: `${place.memory}.loads(${place.word}, ${type.size}, ${++this.#sites})`, type };
    }
    if (type.kind !== "scalar") throw new TypeError(`A read of a whole ${typeName(type)}`);
    return { js: `${place.memory}.load(${place.word}, ${++this.#sites})`, type };
  }

  #store(place: Place, js: string): string {
    if (place.in === "local") return `${place.js} = ${js};`;
    if (place.in === "part") {
      return this.#store(
        place.of,
        `R.changed(${this.#read(place.of).js}, ${place.index}, ${js})`,
      );
    }
    const store = place.type.kind === "vector" ? "stores" : "store";
    return `${place.memory}.${store}(${place.word}, ${js}, ${++this.#sites});`;
  }

  #expr(e: Expr): Value {
    switch (e.kind) {
      case "literal":
        if (e.type === "f32" || e.type === "f16") {
          return { js: rounded(String(e.value), e.type), type: scalar(e.type) };
        }
        return { js: String(e.value), type: scalar(e.type) };
      case "name":
      case "index":
      case "member":
        return this.#read(this.#place(e));
      case "unary":
        return this.#unary(e.op, this.#expr(e.of), e.at);
      case "binary":
        return this.#binary(e.op, this.#expr(e.a), this.#expr(e.b), e.at);
      case "construct":
        return this.#construct(e.type, e.args, e.at);
      case "call":
        return this.#call(e);
    }
  }

  #unary(op: string, { js, type }: Value, at: number): Value {
    const name = baseName(type);
    const on = (x: string) => {
      if (op === "!" && name === "bool") return `(!${x})`;
      if (op === "-" && name === "i32") return `(-${x} | 0)`;
      if (op === "-" && /^(f|int)/.test(name)) return `(-${x})`;
      if (op === "~" && name === "u32") return `(~${x} >>> 0)`;
      if (op === "~" && name === "i32") return `(~${x})`;
      throw this.#error(at, `${op} of ${typeName(type)}`);
    };
    if (type.kind === "vector") {
      return { js: `R.each(${type.size}, (x) => ${on("x")}, ${js})`, type };
    }
    return { js: on(js), type };
  }

  #binary(op: string, a: Value, b: Value, at: number): Value {
    const shift = op === "<<" || op === ">>";
    const size = a.type.kind === "vector"
      ? a.type.size
      : b.type.kind === "vector"
      ? b.type.size
      : 0;
    const [left, right] = [baseName(a.type), baseName(b.type)];
    const name = shift ? left : common(left, right);
    if (!name || (shift && right !== "u32" && right !== "int")) {
      throw this.#error(at, `${typeName(a.type)} ${op} ${typeName(b.type)}`);
    }
    if (a.type.kind === "vector" && b.type.kind === "vector" && a.type.size !== b.type.size) {
      throw this.#error(at, `${typeName(a.type)} ${op} ${typeName(b.type)}`);
    }
    const result = COMPARE.test(op) || op === "&&" || op === "||" ? "bool" : name;
    const to = (v: Value) => shift ? v : this.#as(v, shaped(v.type, name), at);
    const [x, y] = [to(a).js, to(b).js];
    if (size === 0) {
      return { js: operation(op, name, x, y) ?? this.#bad(op, name, at), type: scalar(result) };
    }
    const each = operation(op, name, "x", "y") ?? this.#bad(op, name, at);
    return {
      js: `R.two((x, y) => ${each}, ${x}, ${y})`,
      type: { kind: "vector", size, of: result },
    };
  }

  #bad(op: string, name: string, at: number): never {
    throw this.#error(at, `${op} of ${name}`);
  }

  #construct(type: Type, args: readonly Expr[], at: number): Value {
    if (args.length === 0) return { js: zero(type), type };
    const values = args.map((a) => this.#expr(a));
    if (type.kind === "scalar") return { js: converted(values[0]!, type.name), type };
    if (type.kind === "array") {
      return { js: `[${values.map((v) => this.#as(v, type.of, at).js).join(", ")}]`, type };
    }
    if (type.kind === "struct") {
      const members = type.members.map((m, i) =>
        `${m.name}: ${this.#as(values[i]!, m.type, at).js}`
      );
      return { js: `({ ${members.join(", ")} })`, type };
    }
    if (type.kind !== "vector") throw this.#error(at, `${typeName(type)} is not made here`);
    const parts = values.map((v) =>
      v.type.kind === "vector"
        ? `...R.each(${v.type.size}, (x) => ${
          converted({ js: "x", type: scalar(v.type.of) }, type.of)
        }, ${v.js})`
        : this.#as(v, scalar(type.of), at).js
    );
    if (values.length === 1 && values[0]!.type.kind !== "vector") {
      return { js: `new Array(${type.size}).fill(${parts[0]})`, type };
    }
    const count = values.reduce((n, v) => n + (v.type.kind === "vector" ? v.type.size : 1), 0);
    if (count !== type.size) throw this.#error(at, `${count} components for ${typeName(type)}`);
    return { js: `[${parts.join(", ")}]`, type };
  }

  #call(e: Expr & { kind: "call" }): Value {
    const { name, at, template } = e;
    const fn = this.#functions.get(name);
    if (fn) {
      if (fn.parameters.length !== e.args.length) {
        throw this.#error(at, `${name} takes ${fn.parameters.length} arguments`);
      }
      const args = e.args.map((a, i) => this.#as(this.#expr(a), fn.parameters[i]!.type, at).js);
      const call = `F_${name}(${args.join(", ")})`;
      return { js: this.#waiting.has(name) ? `(yield* ${call})` : call, type: fn.result };
    }
    if (WAITS.test(name)) return this.#wait(e);
    if (name.startsWith("atomic")) return this.#atomic(e);
    const values = e.args.map((a) => this.#expr(a));
    if (EACH.test(name)) return this.#each(name, values, at);
    const [first] = values;
    if (/^vec[234]$/.test(name)) {
      const of = values.map((v) => baseName(v.type)).reduce((x, y) => common(x, y) ?? x);
      const type: Type = {
        kind: "vector",
        size: Number(name[3]),
        of: baseName(concrete(scalar(of))),
      };
      return this.#construct(type, e.args, at);
    }
    if (name === "bitcast") {
      const to = template[0] as Type, from = concrete(first!.type);
      const js = this.#as(first!, from, at).js;
      const one = `R.bits("${baseName(from)}", "${baseName(to)}", x)`;
      if (/f16/.test(baseName(from) + baseName(to))) throw this.#error(at, "bitcast of f16");
      return {
        js: to.kind === "vector"
          ? `R.each(${to.size}, (x) => ${one}, ${js})`
          : one.replace("x)", `${js})`),
        type: to,
      };
    }
    if (name === "pack2x16float") {
      const type: Type = { kind: "vector", size: 2, of: "f32" };
      return { js: `R.packHalves(${this.#as(first!, type, at).js})`, type: scalar("u32") };
    }
    if (name === "select") return this.#select(values, at);
    if (name === "dot" && first?.type.kind === "vector") {
      const of = first.type.of, { size } = first.type;
      const terms = Array.from(
        { length: size },
        (_, i) => operation("*", of, `a[${i}]`, `b[${i}]`)!,
      );
      const sum = terms.reduce((s, t) => operation("+", of, s, t)!);
      return { js: `((a, b) => ${sum})(${values.map((v) => v.js)})`, type: scalar(of) };
    }
    if (name === "all" || name === "any") {
      if (first!.type.kind === "scalar") return this.#as(first!, BOOL, at);
      return { js: `${first!.js}.${name === "all" ? "every" : "some"}((x) => x)`, type: BOOL };
    }
    throw this.#error(at, `the function ${name} is not known`);
  }

  #each(name: string, values: Value[], at: number): Value {
    const of = values.map((v) => baseName(v.type)).reduce((x, y) =>
      common(x, y) ?? this.#bad(name, `${x} and ${y}`, at)
    );
    const whole = of === "int" && /^(abs|min|max|clamp|sign|count\w+|firstLeadingBit)$/.test(name);
    const as = of === "int" ? whole ? "i32" : "f32" : of === "float" ? "f32" : of;
    const size = values.reduce((n, v) => v.type.kind === "vector" ? v.type.size : n, 0);
    const args = values.map((v) => this.#as(v, shaped(v.type, as), at).js).join(", ");
    const call = `R.${as.toUpperCase()}.${name}`;
    if (size === 0) return { js: `${call}(${args})`, type: scalar(as) };
    return { js: `R.each(${size}, ${call}, ${args})`, type: { kind: "vector", size, of: as } };
  }

  #select([no, yes, which]: Value[], at: number): Value {
    const of = common(baseName(no!.type), baseName(yes!.type));
    if (!of || baseName(which!.type) !== "bool") throw this.#error(at, "select of other things");
    const as = baseName(concrete(scalar(of))), type = shaped(no!.type, as);
    const args = [this.#as(no!, type, at).js, this.#as(yes!, type, at).js, which!.js];
    if (type.kind !== "vector") return { js: `R.select(${args.join(", ")})`, type };
    return { js: `R.each(${type.size}, R.select, ${args.join(", ")})`, type };
  }

  #atomic(e: Expr & { kind: "call" }): Value {
    const place = this.#place(e.args[0]!);
    if (place.in !== "memory" || place.type.kind !== "atomic") {
      throw this.#error(e.at, `${e.name} of what is not atomic`);
    }
    const { of } = place.type;
    const value = e.args[1] ? this.#as(this.#expr(e.args[1]), scalar(of), e.at).js : "0";
    const change = ({
      atomicLoad: "old",
      atomicStore: "x",
      atomicExchange: "x",
      atomicMax: "Math.max(old, x)",
      atomicMin: "Math.min(old, x)",
      atomicAdd: operation("+", of, "old", "x"),
      atomicOr: operation("|", of, "old", "x"),
    } as Record<string, string | null>)[e.name];
    if (!change) throw this.#error(e.at, `the function ${e.name} is not known`);
    const js = `((x) => ${place.memory}.atomic(${place.word}, (old) => ${change}))(${value})`;
    return { js, type: e.name === "atomicStore" ? VOID : scalar(of) };
  }

  /** A barrier, or work of a subgroup. */
  #wait(e: Expr & { kind: "call" }): Value {
    const { name, at, args, template } = e;
    const wait = (op: Wait["op"], ...operands: string[]) =>
      `(yield { op: "${op}", at: ${at}, args: [${operands.join(", ")}] })`;
    const uniform = (i: number) => this.#as(this.#expr(args[i]!), scalar("u32"), at).js;
    const memory = () => {
      const place = this.#place(args[0]!);
      if (place.in !== "memory") throw this.#error(at, `${name} of what is no memory`);
      return place;
    };
    if (name === "workgroupBarrier") return { js: wait("workgroup"), type: VOID };
    if (name === "storageBarrier") return { js: wait("storage"), type: VOID };
    if (name === "workgroupUniformLoad") {
      const place = memory();
      const { js, type } = this.#read(place);
      return { js: `[${wait("workgroup")}, ${js}, ${wait("workgroup")}][1]`, type };
    }
    if (name === "subgroupBroadcast") {
      const value = this.#expr(args[0]!), type = concrete(value.type);
      return { js: wait("broadcast", this.#as(value, type, at).js, uniform(1)), type };
    }
    if (name === "subgroupAdd") {
      const value = this.#expr(args[0]!), type = concrete(value.type);
      const add = operation("+", baseName(type), "x", "y");
      return { js: wait("add", this.#as(value, type, at).js, `(x, y) => ${add}`), type };
    }
    if (name === "subgroupMatrixLoad") {
      const type = template[0] as Type & { kind: "matrix" }, place = memory();
      const shape = `{ rows: ${type.rows}, columns: ${type.columns}, rowMajor: ${
        template[1] === "row_major"
      } }`;
      return { js: wait("load", place.memory, uniform(1), uniform(2), shape), type };
    }
    if (name === "subgroupMatrixStore") {
      const place = memory(), value = this.#expr(args[2]!);
      const rowMajor = String(template[0] === "row_major");
      return {
        js: wait("put", place.memory, uniform(1), value.js, uniform(3), rowMajor),
        type: VOID,
      };
    }
    const [a, b, c] = args.map((arg) => this.#expr(arg));
    return {
      js: wait("multiply", a!.js, b!.js, c!.js, `R.${baseOfMatrix(c!.type)}`),
      type: c!.type,
    };
  }
}

function baseOfMatrix(type: Type): ScalarName {
  if (type.kind !== "matrix") throw new TypeError(`${typeName(type)} is no matrix`);
  return type.of;
}

/** Names of the functions that wait, or call one that does. */
function waitingFunctions({ text, functions }: Module): Set<string> {
  const waiting = new Set<string>();
  const bodies = functions.map((f, i) => {
    const end = functions[i + 1]?.at ?? text.length;
    return {
      name: f.name,
      calls: [...text.slice(f.at, end).matchAll(/(\w+)\s*[<(]/g)].map((m) => m[1]!),
    };
  });
  for (let before = -1; before !== waiting.size;) {
    before = waiting.size;
    for (const { name, calls } of bodies) {
      if (calls.some((c) => c !== name && (WAITS.test(c) || waiting.has(c)))) waiting.add(name);
    }
  }
  return waiting;
}

function part(of: Place, index: string): Place {
  const type = scalar((of.type as { of: ScalarName }).of);
  if (of.in === "memory") return { ...of, word: `${of.word} + (${index})`, type };
  return { in: "part", of, index, type };
}

function baseName(type: Type): ScalarName {
  if (type.kind === "scalar") return type.name;
  if (type.kind === "vector") return type.of;
  throw new TypeError(`${typeName(type)} is no number`);
}

/** The type with other scalars. */
function shaped(type: Type, of: ScalarName): Type {
  return type.kind === "vector" ? { ...type, of } : scalar(of);
}

/** The type without abstract numbers. */
function concrete(type: Type): Type {
  if (type.kind !== "scalar" && type.kind !== "vector") return type;
  const name = baseName(type);
  return shaped(type, name === "int" ? "i32" : name === "float" ? "f32" : name);
}

/** The type that two scalars meet in; null if there is none. */
function common(a: ScalarName, b: ScalarName): ScalarName | null {
  if (a === b) return a;
  if (a === "int" && b !== "bool") return b;
  if (b === "int" && a !== "bool") return a;
  if (a === "float" && /^f/.test(b)) return b;
  if (b === "float" && /^f/.test(a)) return a;
  return null;
}

/** A number as a type rounds it, known to be in its range. */
function rounded(js: string, to: ScalarName): string {
  if (to === "f32" || to === "f16") {
    const f = to === "f32"
      ? Math.fround
      : (Math as unknown as { f16round: typeof Math.fround }).f16round;
    return /^-?[\d.e+-]+$/i.test(js) ? String(f(Number(js))) : `R.${to}(${js})`;
  }
  return js;
}

/** A conversion that was asked for. */
function converted({ js, type }: Value, to: ScalarName): string {
  const from = baseName(type);
  if (from === to) return js;
  if (to === "bool") return `(${js} !== 0)`;
  if (from === "bool") return `(${js} ? 1 : 0)`;
  if (to === "f32" || to === "f16") return rounded(js, to);
  const whole = from === "int" || from === "i32" || from === "u32";
  if (to === "i32") return whole ? `(${js} | 0)` : `R.toI32(${js})`;
  return whole ? `(${js} >>> 0)` : `R.toU32(${js})`;
}

function zero(type: Type): string {
  switch (type.kind) {
    case "scalar":
      return type.name === "bool" ? "false" : "0";
    case "vector":
      return `new Array(${type.size}).fill(${type.of === "bool" ? "false" : "0"})`;
    case "array":
      return `Array.from({ length: ${type.length} }, () => ${zero(type.of)})`;
    case "struct":
      return `{ ${type.members.map((m) => `${m.name}: ${zero(m.type)}`).join(", ")} }`;
    case "matrix":
      return `new Float64Array(${type.rows * type.columns})`;
    default:
      throw new TypeError(`${typeName(type)} cannot be declared`);
  }
}

/** An operator on two scalars of one type; null if there is none. */
function operation(op: string, type: ScalarName, a: string, b: string): string | null {
  if (COMPARE.test(op)) {
    if (type === "bool" && !/^[=!]=$/.test(op)) return null;
    return `(${a} ${op === "==" ? "===" : op === "!=" ? "!==" : op} ${b})`;
  }
  if (type === "bool") {
    if (op === "&&" || op === "||") return `(${a} ${op} ${b})`;
    if (op === "&" || op === "|") return `!!(${a} ${op} ${b})`;
    return null;
  }
  const arithmetic = /^[-+*/%]$/.test(op);
  if ((type === "f32" || type === "f16") && op === "/") {
    return `R.${type.toUpperCase()}.divide(${a}, ${b})`;
  }
  if (type === "f32" || type === "f16") return arithmetic ? `R.${type}(${a} ${op} ${b})` : null;
  if (type === "float") return arithmetic ? `(${a} ${op} ${b})` : null;
  if (type === "int") {
    if (op === "/") return `Math.trunc(${a} / ${b})`;
    return arithmetic || /^([&|^]|<<|>>)$/.test(op) ? `(${a} ${op} ${b})` : null;
  }
  const wrap = type === "u32" ? " >>> 0" : " | 0";
  if (op === "+" || op === "-") return `(${a} ${op} ${b}${wrap})`;
  if (op === "*") return `(R.imul(${a}, ${b})${wrap})`;
  if (op === "/") return `R.${type[0]}div(${a}, ${b})`;
  if (op === "%") return `R.${type[0]}mod(${a}, ${b})`;
  if (/^[&|^]$/.test(op)) return `((${a} ${op} ${b})${wrap})`;
  if (op === "<<") return `((${a} << (${b} & 31))${wrap})`;
  if (op === ">>") return `(${a} ${type === "u32" ? ">>>" : ">>"} (${b} & 31))`;
  return null;
}
