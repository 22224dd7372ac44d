/** Reads WGSL into a tree. It takes what the kernels use and refuses the rest by name. */

import {
  type Block,
  type Expr,
  type Fn,
  type GlobalConst,
  type GlobalVar,
  type Member,
  type Module,
  type Parameter,
  type ScalarName,
  type Statement,
  type Type,
  WgslError,
} from "./syntax.ts";

interface Token {
  readonly kind: "word" | "number" | "mark" | "end";
  readonly text: string;
  readonly at: number;
}

const TOKEN =
  /\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\/|(0[xX][0-9a-fA-F]+[iu]?|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[iufh]?)|([A-Za-z_]\w*)|(>>=|<<=|&&|\|\||->|\+\+|--|==|!=|<=|>=|<<|>>|[-+*/%&|^]=|[-+*\/%&|^~!<>=(){}[\],;:.@])/y;

function tokens(text: string): Token[] {
  const list: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex, match = TOKEN.exec(text);
    if (!match) throw new WgslError(text, at, `cannot read ${JSON.stringify(text[at])}`);
    const [, number, word, mark] = match;
    if (number) list.push({ kind: "number", text: number, at });
    else if (word) list.push({ kind: "word", text: word, at });
    else if (mark) list.push({ kind: "mark", text: mark, at });
  }
  list.push({ kind: "end", text: "the end", at: text.length });
  return list;
}

/** Words after which `<` opens a template. */
const TEMPLATES =
  /^(array|atomic|bitcast|vec[234]|subgroup_matrix_(left|right|result)|subgroupMatrix(Load|Store))$/;
const SCALARS = new Set(["bool", "i32", "u32", "f32", "f16"]);
const LEVELS: readonly (readonly string[])[] = [
  ["||"],
  ["&&"],
  ["|"],
  ["^"],
  ["&"],
  ["==", "!="],
  ["<", ">", "<=", ">="],
  ["<<", ">>"],
  ["+", "-"],
  ["*", "/", "%"],
];

/** Reads a text. Throws {@linkcode WgslError} where it cannot. */
export function parse(text: string): Module {
  return new Parser(text).module();
}

class Parser {
  readonly #text: string;
  readonly #tokens: Token[];
  #next = 0;
  readonly #named = new Map<string, Type>();
  /** Whole-number constants, which may stand for lengths. */
  readonly #lengths = new Map<string, number>();

  constructor(text: string) {
    this.#text = text;
    this.#tokens = tokens(text);
  }

  module(): Module {
    const enables: string[] = [];
    const vars: GlobalVar[] = [], constants: GlobalConst[] = [], functions: Fn[] = [];
    while (this.#peek().kind !== "end") {
      if (this.#accept(";")) continue;
      const attributes = this.#attributes();
      const { text: word, at } = this.#take();
      if (word === "enable" || word === "requires") {
        enables.push(this.#word());
        this.#expect(";");
      } else if (word === "diagnostic") {
        while (!this.#accept(";")) this.#take();
      } else if (word === "alias") {
        const name = this.#word();
        this.#expect("=");
        this.#named.set(name, this.#type());
        this.#expect(";");
      } else if (word === "struct") this.#struct();
      else if (word === "const") constants.push(this.#const(at));
      else if (word === "var") vars.push(this.#global(at, attributes));
      else if (word === "fn") functions.push(this.#fn(at, attributes));
      else throw this.#error(at, `a declaration cannot begin with ${word}`);
    }
    return { text: this.#text, enables, vars, constants, functions };
  }

  #error(at: number, message: string): WgslError {
    return new WgslError(this.#text, at, message);
  }

  #peek(ahead = 0): Token {
    return this.#tokens[Math.min(this.#next + ahead, this.#tokens.length - 1)]!;
  }

  #take(): Token {
    const token = this.#peek();
    this.#next++;
    return token;
  }

  #is(text: string): boolean {
    const token = this.#peek();
    return token.kind !== "number" && token.text === text;
  }

  #accept(text: string): boolean {
    if (!this.#is(text)) return false;
    this.#next++;
    return true;
  }

  #expect(text: string): Token {
    const token = this.#take();
    if (token.text === text) return token;
    // Two templates may end at once.
    if (text === ">" && /^>[>=]/.test(token.text)) {
      this.#next--;
      this.#tokens[this.#next] = { ...token, text: token.text.slice(1), at: token.at + 1 };
      return token;
    }
    throw this.#error(token.at, `${text} is missing before ${token.text}`);
  }

  #word(): string {
    const token = this.#take();
    if (token.kind !== "word") throw this.#error(token.at, `${token.text} is no name`);
    return token.text;
  }

  #attributes(): Map<string, Expr[]> {
    const found = new Map<string, Expr[]>();
    while (this.#accept("@")) {
      const name = this.#word();
      found.set(name, this.#is("(") ? this.#args() : []);
    }
    return found;
  }

  #constNumber(expr: Expr | undefined): number {
    if (expr?.kind === "literal") return Number(expr.value);
    if (expr?.kind === "name" && this.#lengths.has(expr.name)) return this.#lengths.get(expr.name)!;
    if (expr?.kind === "binary") {
      const a = this.#constNumber(expr.a), b = this.#constNumber(expr.b);
      if (expr.op === "+") return a + b;
      if (expr.op === "-") return a - b;
      if (expr.op === "*") return a * b;
    }
    throw this.#error(expr?.at ?? this.#peek().at, "not a constant that is understood here");
  }

  #struct(): void {
    const name = this.#word(), members: Member[] = [];
    this.#expect("{");
    while (!this.#accept("}")) {
      this.#attributes();
      const member = this.#word();
      this.#expect(":");
      members.push({ name: member, type: this.#type() });
      if (!this.#accept(",")) {
        this.#expect("}");
        break;
      }
    }
    this.#named.set(name, { kind: "struct", name, members });
  }

  #const(at: number): GlobalConst {
    const name = this.#word();
    const type = this.#accept(":") ? this.#type() : null;
    this.#expect("=");
    const value = this.#expr();
    this.#expect(";");
    if (value.kind === "literal" && typeof value.value === "number") {
      this.#lengths.set(name, value.value);
    }
    return { at, name, type, value };
  }

  #global(at: number, attributes: Map<string, Expr[]>): GlobalVar {
    this.#expect("<");
    const space = this.#word();
    const access = this.#accept(",") ? this.#word() : "read";
    this.#expect(">");
    const name = this.#word();
    this.#expect(":");
    const type = this.#type();
    this.#expect(";");
    if (space !== "storage" && space !== "uniform" && space !== "workgroup") {
      throw this.#error(at, `variables of ${space} are not understood`);
    }
    const bound = space !== "workgroup";
    if (bound && this.#constNumber(attributes.get("group")?.[0]) !== 0) {
      throw this.#error(at, "only group 0 is understood");
    }
    return {
      at,
      name,
      type,
      space: space === "storage" ? access as "read" | "read_write" : space,
      binding: bound ? this.#constNumber(attributes.get("binding")?.[0]) : -1,
    };
  }

  #fn(at: number, attributes: Map<string, Expr[]>): Fn {
    const name = this.#word(), parameters: Parameter[] = [];
    this.#expect("(");
    while (!this.#accept(")")) {
      const own = this.#attributes(), builtin = own.get("builtin")?.[0];
      const parameter = this.#word();
      this.#expect(":");
      const type = this.#type();
      parameters.push({
        name: parameter,
        type,
        builtin: builtin?.kind === "name" ? builtin.name : null,
      });
      if (!this.#accept(",")) {
        this.#expect(")");
        break;
      }
    }
    const result: Type = this.#accept("->") ? this.#type() : { kind: "void" };
    const sizes = attributes.get("workgroup_size")?.map((e) => this.#constNumber(e));
    return {
      at,
      name,
      parameters,
      result,
      body: this.#block(),
      workgroup: sizes ? [sizes[0] ?? 1, sizes[1] ?? 1, sizes[2] ?? 1] : null,
    };
  }

  #type(): Type {
    const { at } = this.#peek(), name = this.#word();
    if (SCALARS.has(name)) return { kind: "scalar", name: name as ScalarName };
    const short = name.match(/^vec([234])([iufh])$/);
    if (short) {
      const of = ({ i: "i32", u: "u32", f: "f32", h: "f16" } as const)[short[2]!]!;
      return { kind: "vector", size: Number(short[1]), of };
    }
    const known = this.#named.get(name);
    if (known) return known;
    if (!TEMPLATES.test(name)) throw this.#error(at, `the type ${name} is not known`);
    this.#expect("<");
    const type = this.#templated(name, at);
    this.#expect(">");
    return type;
  }

  #scalar(): ScalarName {
    const { at } = this.#peek(), type = this.#type();
    if (type.kind !== "scalar") throw this.#error(at, "a scalar belongs here");
    return type.name;
  }

  #length(): number {
    return this.#constNumber(this.#binary(LEVELS.length - 2));
  }

  #templated(name: string, at: number): Type {
    if (name === "array") {
      const of = this.#type();
      return { kind: "array", of, length: this.#accept(",") ? this.#length() : null };
    }
    if (name === "atomic") return { kind: "atomic", of: this.#scalar() };
    if (name.startsWith("vec")) {
      return { kind: "vector", size: Number(name[3]), of: this.#scalar() };
    }
    if (!name.startsWith("subgroup_matrix_")) throw this.#error(at, `${name} is no type`);
    const of = this.#scalar();
    this.#expect(",");
    const columns = this.#length();
    this.#expect(",");
    const side = name.slice("subgroup_matrix_".length) as "left" | "right" | "result";
    return { kind: "matrix", side, of, columns, rows: this.#length() };
  }

  #block(): Block {
    const { at } = this.#expect("{"), body: Statement[] = [];
    while (!this.#accept("}")) {
      if (this.#accept(";")) continue;
      body.push(this.#statement());
    }
    return { at, kind: "block", body };
  }

  #statement(): Statement {
    const { text: word, at } = this.#peek();
    switch (word) {
      case "{":
        return this.#block();
      case "if":
        return this.#if();
      case "for":
        return this.#for();
      case "while": {
        this.#take();
        const test = this.#expr();
        return { at, kind: "for", first: null, test, step: null, body: this.#block() };
      }
      case "loop":
        this.#take();
        return { at, kind: "for", first: null, test: null, step: null, body: this.#block() };
      case "switch":
        return this.#switch();
      case "return": {
        this.#take();
        const value = this.#is(";") ? null : this.#expr();
        this.#expect(";");
        return { at, kind: "return", value };
      }
      case "break":
      case "continue":
        this.#take();
        this.#expect(";");
        return { at, kind: word };
    }
    const statement = this.#simple();
    this.#expect(";");
    return statement;
  }

  /** A declaration, assignment or call, without its semicolon. */
  #simple(): Statement {
    const { text: word, at } = this.#peek();
    if (word === "let" || word === "var" || word === "const") {
      this.#take();
      const name = this.#word();
      const type = this.#accept(":") ? this.#type() : null;
      const value = this.#accept("=") ? this.#expr() : null;
      return { at, kind: "declare", mutable: word === "var", name, type, value };
    }
    if (word === "_") {
      this.#take();
      this.#expect("=");
      return { at, kind: "assign", to: null, op: "", value: this.#expr() };
    }
    const to = this.#unary();
    const { text: mark } = this.#peek();
    if (mark === "++" || mark === "--") {
      this.#take();
      const value: Expr = { at, kind: "literal", type: "int", value: 1 };
      return { at, kind: "assign", to, op: mark[0]!, value };
    }
    if (/^([-+*/%&|^]|<<|>>)?=$/.test(mark)) {
      this.#take();
      return { at, kind: "assign", to, op: mark.slice(0, -1), value: this.#expr() };
    }
    if (to.kind !== "call") throw this.#error(at, "not a statement");
    return { at, kind: "call", call: to };
  }

  #if(): Statement {
    const { at } = this.#expect("if");
    const test = this.#expr(), then = this.#block();
    const otherwise = this.#accept("else") ? this.#is("if") ? this.#if() : this.#block() : null;
    return { at, kind: "if", test, then, otherwise };
  }

  #for(): Statement {
    const { at } = this.#expect("for");
    this.#expect("(");
    const first = this.#is(";") ? null : this.#simple();
    this.#expect(";");
    const test = this.#is(";") ? null : this.#expr();
    this.#expect(";");
    const step = this.#is(")") ? null : this.#simple();
    this.#expect(")");
    return { at, kind: "for", first, test, step, body: this.#block() };
  }

  #switch(): Statement {
    const { at } = this.#expect("switch");
    const of = this.#expr(), cases: { on: (Expr | "default")[]; body: Block }[] = [];
    this.#expect("{");
    while (!this.#accept("}")) {
      const on: (Expr | "default")[] = [];
      if (this.#accept("default")) on.push("default");
      else {
        this.#expect("case");
        do {
          if (this.#is(":") || this.#is("{")) break;
          on.push(this.#accept("default") ? "default" : this.#expr());
        } while (this.#accept(","));
      }
      this.#accept(":");
      cases.push({ on, body: this.#block() });
    }
    return { at, kind: "switch", of, cases };
  }

  #expr(): Expr {
    return this.#binary(0);
  }

  #binary(level: number): Expr {
    const marks = LEVELS[level];
    if (!marks) return this.#unary();
    let a = this.#binary(level + 1);
    for (;;) {
      const { kind, text: op, at } = this.#peek();
      if (kind !== "mark" || !marks.includes(op)) return a;
      this.#take();
      a = { at, kind: "binary", op, a, b: this.#binary(level + 1) };
    }
  }

  #unary(): Expr {
    const { kind, text: op, at } = this.#peek();
    if (kind === "mark" && /^[-!~&*]$/.test(op)) {
      this.#take();
      return { at, kind: "unary", op, of: this.#unary() };
    }
    let expr = this.#primary();
    for (;;) {
      const { at } = this.#peek();
      if (this.#accept("[")) {
        expr = { at, kind: "index", of: expr, index: this.#expr() };
        this.#expect("]");
      } else if (this.#accept(".")) {
        expr = { at, kind: "member", of: expr, name: this.#word() };
      } else return expr;
    }
  }

  #args(): Expr[] {
    this.#expect("(");
    const args: Expr[] = [];
    while (!this.#accept(")")) {
      args.push(this.#expr());
      if (!this.#accept(",")) {
        this.#expect(")");
        break;
      }
    }
    return args;
  }

  #primary(): Expr {
    const token = this.#peek(), { at, text } = token;
    if (this.#accept("(")) {
      const expr = this.#expr();
      this.#expect(")");
      return expr;
    }
    if (token.kind === "number") {
      this.#take();
      return { at, kind: "literal", ...numberOf(text) };
    }
    if (token.kind !== "word") throw this.#error(at, `${text} is no expression`);
    if (text === "true" || text === "false") {
      this.#take();
      return { at, kind: "literal", type: "bool", value: text === "true" };
    }
    const opens = this.#peek(1).text;
    if (TEMPLATES.test(text) && opens === "<" && !/^(bitcast$|subgroupM)/.test(text)) {
      const type = this.#type();
      return { at, kind: "construct", type, args: this.#args() };
    }
    if (opens === "(" && (SCALARS.has(text) || /^vec[234][iufh]$/.test(text))) {
      const type = this.#type();
      return { at, kind: "construct", type, args: this.#args() };
    }
    if (opens === "(" && this.#named.has(text)) {
      const type = this.#type();
      return { at, kind: "construct", type, args: this.#args() };
    }
    this.#take();
    const template: (Type | string)[] = [];
    if (TEMPLATES.test(text) && this.#accept("<")) {
      do {
        const word = this.#peek().text;
        template.push(/_major$/.test(word) ? this.#word() : this.#type());
      } while (this.#accept(","));
      this.#expect(">");
    }
    if (this.#is("(")) return { at, kind: "call", name: text, template, args: this.#args() };
    return { at, kind: "name", name: text };
  }
}

function numberOf(text: string): { type: ScalarName; value: number } {
  const hex = /^0x/i.test(text);
  const suffix = text.match(hex ? /[iu]$/ : /[iufh]$/)?.[0] ?? "";
  const value = Number(suffix ? text.slice(0, -1) : text);
  const type = ({ i: "i32", u: "u32", f: "f32", h: "f16" } as const)[suffix] ??
    (hex || /^\d+$/.test(text) ? "int" : "float");
  return { type, value };
}
