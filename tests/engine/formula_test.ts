/** Formulas as trees: what is read is what is written, and derivatives are what differences give. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { derivative, type Formula, namesIn, parse, print } from "../../engine/ops/formula.ts";

const FUNCTIONS: Readonly<Record<string, (...of: number[]) => number>> = {
  abs: Math.abs,
  sign: Math.sign,
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  pow: Math.pow,
  max: Math.max,
  inverseSqrt: (v) => 1 / Math.sqrt(v),
  select: (no, yes, condition) => condition ? yes : no,
};

/** The value in float64. */
function valueOf(f: Formula, at: Readonly<Record<string, number>>): number {
  switch (f.kind) {
    case "number":
      return Number(f.text);
    case "name":
      return at[f.name]!;
    case "minus":
      return -valueOf(f.of, at);
    case "not":
      return Number(!valueOf(f.of, at));
    case "call":
      return FUNCTIONS[f.name]!(...f.of.map((g) => valueOf(g, at)));
    case "binary": {
      const [a, b] = [valueOf(f.left, at), valueOf(f.right, at)];
      const all: Record<string, number> = {
        "+": a + b,
        "-": a - b,
        "*": a * b,
        "/": a / b,
        "<": Number(a < b),
        ">": Number(a > b),
        "<=": Number(a <= b),
        ">=": Number(a >= b),
        "==": Number(a === b),
        "!=": Number(a !== b),
        "&&": Number(a && b),
        "||": Number(a || b),
      };
      return all[f.operator]!;
    }
  }
}

const FORMULAS = [
  "1.0 - x * 2e-1 - y / x / 3.0",
  "-x * x + -(y - x)",
  "exp(-x * x) * log(y) / sqrt(x + y)",
  "select(x * y, y / (1.0 + exp(-x)), x > 0.5 && !(y < 1.0) || x == y)",
  "pow(x, y) * abs(x - y) + max(x * x, y)",
  "inverseSqrt((2.0 - x) * (1.0 + y)) * sign(x - 3.0)",
];
const POINTS = [{ x: 0.7, y: 1.3 }, { x: 0.3, y: 0.4 }, { x: 1.6, y: 0.2 }];

Deno.test("what is written is read as the same formula", () => {
  for (const text of FORMULAS) {
    const f = parse(text);
    assertEquals(parse(print(f)), f);
    assertEquals([...namesIn(f)].sort(), ["x", "y"]);
    const js = text.replace(/\b([a-z]\w+)\(/gi, "F.$1(");
    for (const at of POINTS) {
      const want = new Function("F", "x", "y", `return ${js}`)(FUNCTIONS, at.x, at.y);
      assertEquals(valueOf(f, at), Number(want), text);
    }
  }
});

Deno.test("derivatives of first and second order are what differences give", () => {
  const h = 1e-4;
  for (const text of FORMULAS) {
    for (const v of ["x", "y"] as const) {
      const first = derivative(parse(text), v);
      for (const [f, d] of [[parse(text), first], [first, derivative(first, v)]] as const) {
        for (const at of POINTS) {
          const [above, below] = [h, -h].map((t) => valueOf(f, { ...at, [v]: at[v] + t }));
          const want = (above! - below!) / (2 * h);
          const got = valueOf(d, at);
          // Differences are h² / 6 of a third derivative off, of at most a few hundred here.
          assert(
            Math.abs(got - want) < 1e-5 * Math.max(1, Math.abs(want)),
            `d ${print(f)} / d${v}: ${got}, not ${want}`,
          );
        }
      }
    }
  }
});

Deno.test("functions are differentiated through a text of lets and a return", () => {
  const module = `
fn squashed(v: f32, by: f32) -> f32 {
  let e = exp(-v * by);
  return v / (1.0 + e);
}
fn branching(v: f32) -> f32 {
  if (v > 0.0) { return v; }
  return 0.0;
}`;
  const got = derivative(parse("squashed(x, y) * 2.0"), "x", module);
  for (const at of POINTS) {
    const s = 1 / (1 + Math.exp(-at.x * at.y));
    assert(Math.abs(valueOf(got, at) - 2 * (s + at.x * at.y * s * (1 - s))) < 1e-12);
  }
  assertThrows(
    () => derivative(parse("branching(x)"), "x", module),
    Error,
    "there is no derivative of it",
  );
  assertEquals(print(derivative(parse("branching(y)"), "x", module)), "0.0");
});

Deno.test("what is no formula is refused", () => {
  assertThrows(() => parse("x + "), Error, "Cannot read x + : its end");
  assertThrows(() => parse("x y"), Error, "nothing may follow");
  assertThrows(() => parse("x % y"), Error, "what is");
  assertThrows(() => parse("f(x"), Error, "in place of )");
  assertThrows(() => derivative(parse("x > y"), "x"), Error, "true or false");
});
