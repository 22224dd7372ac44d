/**
 * WGSL expressions as trees: read, differentiated, written. The gradients of pointwise ops are text in their
 * tables (`dy * cosine(x)`), so gradients of those follow from the text and are again one kernel each.
 */

/** An expression. */
export type Formula =
  | { readonly kind: "number"; readonly text: string }
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "call"; readonly name: string; readonly of: readonly Formula[] }
  | { readonly kind: "not" | "minus"; readonly of: Formula }
  | {
    readonly kind: "binary";
    readonly operator: string;
    readonly left: Formula;
    readonly right: Formula;
  };

/** Binary operators, those that bind the least first. */
const LEVELS: readonly (readonly string[])[] = [
  ["||"],
  ["&&"],
  ["==", "!=", "<", "<=", ">", ">="],
  ["+", "-"],
  ["*", "/"],
];
const TOKEN =
  /\s*(?:((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)|([A-Za-z_]\w*)|(\|\||&&|[<>=!]=|[-+*/()<>!,]))/y;

/**
 * Reads an expression.
 *
 * @throws {Error} where the text has something else than names, numbers, calls and the operators above
 */
export function parse(text: string): Formula {
  const tokens = tokensOf(text);
  let at = 0;
  const take = (wanted?: string): string => {
    const token = tokens[at++];
    if (token === undefined || wanted !== undefined && token !== wanted) {
      throw new Error(`Cannot read ${text}: ${token ?? "its end"} in place of ${wanted ?? "more"}`);
    }
    return token;
  };
  const atom = (): Formula => {
    const token = take();
    if (token === "-") return { kind: "minus", of: atom() };
    if (token === "!") return { kind: "not", of: atom() };
    if (token === "(") {
      const inside = level(0);
      take(")");
      return inside;
    }
    if (/^[.\d]/.test(token)) return { kind: "number", text: token };
    if (tokens[at] !== "(") return { kind: "name", name: token };
    take("(");
    const of = [level(0)];
    while (tokens[at] === ",") {
      take(",");
      of.push(level(0));
    }
    take(")");
    return { kind: "call", name: token, of };
  };
  const level = (n: number): Formula => {
    if (n === LEVELS.length) return atom();
    let left = level(n + 1);
    while (LEVELS[n]!.includes(tokens[at] ?? "")) {
      left = { kind: "binary", operator: take(), left, right: level(n + 1) };
    }
    return left;
  };
  const whole = level(0);
  if (at < tokens.length) {
    throw new Error(`Cannot read ${text}: nothing may follow ${tokens[at - 1]}`);
  }
  return whole;
}

function tokensOf(text: string): string[] {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.trimEnd().length) {
    const start = TOKEN.lastIndex;
    const found = TOKEN.exec(text);
    if (!found) throw new Error(`Cannot read ${text}: what is ${text.slice(start)}`);
    tokens.push(found[1] ?? found[2] ?? found[3]!);
  }
  return tokens;
}

/** The text of an expression, with all its parentheses. */
export function print(f: Formula): string {
  const inside = (g: Formula) =>
    g.kind === "binary" || g.kind === "minus" ? `(${print(g)})` : print(g);
  switch (f.kind) {
    case "number":
      return f.text;
    case "name":
      return f.name;
    case "call":
      return `${f.name}(${f.of.map(print).join(", ")})`;
    case "not":
      return `!${inside(f.of)}`;
    case "minus":
      return `-${inside(f.of)}`;
    case "binary":
      return `${inside(f.left)} ${f.operator} ${inside(f.right)}`;
  }
}

/** An expression with others in place of names. */
export function substitute(f: Formula, values: ReadonlyMap<string, Formula>): Formula {
  const inside = (g: Formula) => substitute(g, values);
  switch (f.kind) {
    case "number":
      return f;
    case "name":
      return values.get(f.name) ?? f;
    case "call":
      return { ...f, of: f.of.map(inside) };
    case "not":
    case "minus":
      return { ...f, of: inside(f.of) };
    case "binary":
      return { ...f, left: inside(f.left), right: inside(f.right) };
  }
}

/** The names of variables in an expression. */
export function namesIn(f: Formula, found: Set<string> = new Set()): Set<string> {
  switch (f.kind) {
    case "name":
      found.add(f.name);
      break;
    case "call":
      for (const g of f.of) namesIn(g, found);
      break;
    case "not":
    case "minus":
      namesIn(f.of, found);
      break;
    case "binary":
      namesIn(f.left, found);
      namesIn(f.right, found);
  }
  return found;
}

const ZERO: Formula = { kind: "number", text: "0.0" };
const ONE: Formula = { kind: "number", text: "1.0" };

function isNumber(f: Formula, value: number): boolean {
  return f.kind === "number" && Number(f.text) === value;
}

function sum(left: Formula, right: Formula): Formula {
  if (isNumber(left, 0)) return right;
  return isNumber(right, 0) ? left : { kind: "binary", operator: "+", left, right };
}

function minus(of: Formula): Formula {
  if (isNumber(of, 0)) return of;
  return of.kind === "minus" ? of.of : { kind: "minus", of };
}

/** The product; without a zero's other factor, which may be infinite. */
export function product(left: Formula, right: Formula): Formula {
  if (isNumber(left, 0) || isNumber(right, 0)) return ZERO;
  if (isNumber(left, 1)) return right;
  return isNumber(right, 1) ? left : { kind: "binary", operator: "*", left, right };
}

function quotient(left: Formula, right: Formula): Formula {
  return isNumber(left, 0) ? ZERO : { kind: "binary", operator: "/", left, right };
}

function onePlusExp(u: Formula): Formula {
  return {
    kind: "binary",
    operator: "+",
    left: ONE,
    right: { kind: "call", name: "exp", of: [u] },
  };
}

/** u where an expression is 1 + eᵘ, else null. */
function exponentOf(f: Formula): Formula | null {
  if (f.kind !== "binary" || f.operator !== "+" || !isNumber(f.left, 1)) return null;
  const { right } = f;
  return right.kind === "call" && /^exp(onential)?$/.test(right.name) ? right.of[0]! : null;
}

/** Derivatives of functions of a and b by each of these. */
const DERIVATIVES: Readonly<Record<string, readonly string[]>> = {
  abs: ["sign(a)"],
  sign: ["0.0"],
  round: ["0.0"],
  exp: ["exp(a)"],
  exponential: ["exponential(a)"],
  log: ["1.0 / a"],
  natural_log: ["1.0 / a"],
  log_1_plus: ["1.0 / (1.0 + a)"],
  sqrt: ["0.5 / sqrt(a)"],
  inverseSqrt: ["-0.5 * inverseSqrt(a) / a"],
  sine: ["cosine(a)"],
  cosine: ["-sine(a)"],
  hyperbolic_sine: ["hyperbolic_cosine(a)"],
  hyperbolic_cosine: ["hyperbolic_sine(a)"],
  normal_cdf: ["0.3989422804 * exp(-0.5 * a * a)"],
  pow: ["b * pow(a, b - 1.0)", "pow(a, b) * log(a)"],
  power: [
    "select(b * power(a, b - 1.0), 0.0, b == 0.0)",
    "select(power(a, b) * log(a), 0.0, a == 0.0 && b >= 0.0)",
  ],
  max: ["select(1.0, 0.0, a < b)", "select(0.0, 1.0, a < b)"],
  with_sign: ["with_sign(1.0, b) * sign(a)", "0.0"],
  // Held at -100 at one end alone, where there is no slope to speak of.
  capped_log: ["1.0 / a"],
  capped_log_of_rest: ["-1.0 / (1.0 - a)"],
  // Through its |a| and max(-a, 0) the slope at 0 would be lost.
  softplus_neg: ["-1.0 / (1.0 + exp(a))"],
};

/**
 * d f / d variable. Functions whose text in `module` is a few `let` and a `return` are differentiated through
 * it; others are in a table here.
 *
 * @throws {Error} for a function that is neither
 */
export function derivative(f: Formula, variable: string, module = ""): Formula {
  const d = (g: Formula) => derivative(g, variable, module);
  switch (f.kind) {
    case "number":
      return ZERO;
    case "name":
      return f.name === variable ? ONE : ZERO;
    case "minus":
      return minus(d(f.of));
    case "not":
      throw new Error(`Cannot differentiate ${print(f)}: it is true or false`);
    case "call":
      return derivativeOfCall(f, variable, module);
    case "binary":
      switch (f.operator) {
        case "+":
          return sum(d(f.left), d(f.right));
        case "-":
          return sum(d(f.left), minus(d(f.right)));
        case "*":
          return sum(product(d(f.left), f.right), product(f.left, d(f.right)));
        case "/": {
          const u = exponentOf(f.right);
          // Of 1 / (1 + eᵘ) the slope is -u' / ((1 + eᵘ) (1 + e⁻ᵘ)), which is 0 and not 0 · ∞ where eᵘ overflows.
          const loss = u
            ? quotient(product(f, d(u)), onePlusExp({ kind: "minus", of: u }))
            : quotient(product(f, d(f.right)), f.right);
          return sum(quotient(d(f.left), f.right), minus(loss));
        }
      }
      throw new Error(`Cannot differentiate ${print(f)}: it is true or false`);
  }
}

function derivativeOfCall(
  f: Formula & { kind: "call" },
  variable: string,
  module: string,
): Formula {
  if (!namesIn(f).has(variable)) return ZERO;
  if (f.name === "select") {
    const [no, yes, condition] = f.of as [Formula, Formula, Formula];
    const [a, b] = [no, yes].map((g) => derivative(g, variable, module)) as [Formula, Formula];
    if (isNumber(a, 0) && isNumber(b, 0)) return ZERO;
    return { ...f, of: [a, b, condition] };
  }
  const body = bodyOf(f.name, module);
  if (body) {
    const values = new Map(body.parameters.map((name, i) => [name, f.of[i]!]));
    return derivative(substitute(body.result, values), variable, module);
  }
  const rules = DERIVATIVES[f.name];
  if (!rules) throw new Error(`Cannot differentiate ${f.name}(): there is no derivative of it`);
  const [a, b] = f.of;
  const values = new Map(b ? [["a", a!], ["b", b]] : [["a", a!]]);
  return f.of.reduce<Formula>((total, g, i) => {
    const inner = derivative(g, variable, module);
    return isNumber(inner, 0)
      ? total
      : sum(total, product(substitute(parse(rules[i]!), values), inner));
  }, ZERO);
}

/** What a function gives, as one expression of its parameters; null if it is not there or does more. */
function bodyOf(
  name: string,
  module: string,
): { parameters: readonly string[]; result: Formula } | null {
  const found = new RegExp(`\\bfn ${name}\\(([^)]*)\\) -> f32 \\{([^{}]*)\\}`).exec(module);
  if (!found || DERIVATIVES[name]) return null;
  const parameters = found[1]!.split(",").map((p) => p.split(":")[0]!.trim());
  const values = new Map<string, Formula>();
  for (const statement of found[2]!.split(";").map((s) => s.trim()).filter(Boolean)) {
    const made = /^let (\w+) = ([^]*)$/.exec(statement);
    if (made) values.set(made[1]!, substitute(parse(made[2]!), values));
    const given = /^return ([^]*)$/.exec(statement);
    if (given) return { parameters, result: substitute(parse(given[1]!), values) };
    if (!made) return null;
  }
  return null;
}
