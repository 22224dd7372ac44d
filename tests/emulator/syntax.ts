/** The part of WGSL that the kernels are written in, as a tree. Source: https://www.w3.org/TR/WGSL/ */

/** Numbers and truth values; "int" and "float" are WGSL's abstract ones, of literals. */
export type ScalarName = "bool" | "i32" | "u32" | "f32" | "f16" | "int" | "float";

/** A type. */
export type Type =
  | { readonly kind: "void" }
  | { readonly kind: "scalar"; readonly name: ScalarName }
  | { readonly kind: "vector"; readonly size: number; readonly of: ScalarName }
  | { readonly kind: "array"; readonly of: Type; readonly length: number | null }
  | { readonly kind: "struct"; readonly name: string; readonly members: readonly Member[] }
  | { readonly kind: "atomic"; readonly of: ScalarName }
  | {
    readonly kind: "matrix";
    readonly side: "left" | "right" | "result";
    readonly of: ScalarName;
    readonly columns: number;
    readonly rows: number;
  };

/** A member of a struct. */
export interface Member {
  readonly name: string;
  readonly type: Type;
}

/** An expression; `at` is its place in the text. */
export type Expr =
  & { readonly at: number }
  & (
    | { readonly kind: "literal"; readonly type: ScalarName; readonly value: number | boolean }
    | { readonly kind: "name"; readonly name: string }
    | { readonly kind: "unary"; readonly op: string; readonly of: Expr }
    | { readonly kind: "binary"; readonly op: string; readonly a: Expr; readonly b: Expr }
    | { readonly kind: "index"; readonly of: Expr; readonly index: Expr }
    | { readonly kind: "member"; readonly of: Expr; readonly name: string }
    | {
      readonly kind: "call";
      readonly name: string;
      /** What stands between `<` and `>`: types, or plain words as `row_major`. */
      readonly template: readonly (Type | string)[];
      readonly args: readonly Expr[];
    }
    | { readonly kind: "construct"; readonly type: Type; readonly args: readonly Expr[] }
  );

/** A statement. */
export type Statement =
  & { readonly at: number }
  & (
    | {
      readonly kind: "declare";
      readonly mutable: boolean;
      readonly name: string;
      readonly type: Type | null;
      readonly value: Expr | null;
    }
    | {
      readonly kind: "assign";
      readonly to: Expr | null;
      readonly op: string;
      readonly value: Expr;
    }
    | { readonly kind: "call"; readonly call: Expr }
    | {
      readonly kind: "if";
      readonly test: Expr;
      readonly then: Block;
      readonly otherwise: Statement | null;
    }
    | {
      readonly kind: "for";
      readonly first: Statement | null;
      readonly test: Expr | null;
      readonly step: Statement | null;
      readonly body: Block;
    }
    | {
      readonly kind: "switch";
      readonly of: Expr;
      readonly cases: readonly {
        readonly on: readonly (Expr | "default")[];
        readonly body: Block;
      }[];
    }
    | { readonly kind: "return"; readonly value: Expr | null }
    | { readonly kind: "break" | "continue" }
    | Block
  );

/** Statements in braces. */
export interface Block {
  readonly at: number;
  readonly kind: "block";
  readonly body: readonly Statement[];
}

/** A parameter of a function, or the built-in value that it takes. */
export interface Parameter extends Member {
  readonly builtin: string | null;
}

/** A function. */
export interface Fn {
  readonly at: number;
  readonly name: string;
  readonly parameters: readonly Parameter[];
  readonly result: Type;
  readonly body: Block;
  /** Threads of a workgroup, of an entry point. */
  readonly workgroup: readonly [number, number, number] | null;
}

/** A variable of a module: bound, or of a workgroup. */
export interface GlobalVar extends Member {
  readonly at: number;
  readonly space: "uniform" | "read" | "read_write" | "workgroup";
  /** Number of its binding; -1 in a workgroup. */
  readonly binding: number;
}

/** A constant of a module. */
export interface GlobalConst {
  readonly at: number;
  readonly name: string;
  readonly type: Type | null;
  readonly value: Expr;
}

/** A whole text. */
export interface Module {
  readonly text: string;
  /** What is enabled or required. */
  readonly enables: readonly string[];
  readonly vars: readonly GlobalVar[];
  readonly constants: readonly GlobalConst[];
  readonly functions: readonly Fn[];
}

/** An error in a text, with its line. */
export class WgslError extends Error {
  override name = "WgslError";

  constructor(text: string, at: number, message: string) {
    const line = text.slice(0, at).split("\n").length;
    super(`line ${line}: ${message}\n  ${text.split("\n")[line - 1]?.trim()}`);
  }
}

/** A type as WGSL writes it. */
export function typeName(type: Type): string {
  switch (type.kind) {
    case "void":
      return "nothing";
    case "scalar":
      return type.name;
    case "vector":
      return `vec${type.size}<${type.of}>`;
    case "array":
      return `array<${typeName(type.of)}${type.length === null ? "" : `, ${type.length}`}>`;
    case "struct":
      return type.name;
    case "atomic":
      return `atomic<${type.of}>`;
    case "matrix":
      return `subgroup_matrix_${type.side}<${type.of}, ${type.columns}, ${type.rows}>`;
  }
}
