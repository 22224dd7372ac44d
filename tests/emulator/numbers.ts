/** Arithmetic of WGSL's scalars, on JavaScript's numbers. */

/** How the emulated hardware treats what WGSL leaves open. */
export interface Arithmetic {
  /** Whether numbers below the normal ones are taken for 0, as WGSL allows. */
  readonly flush: boolean;
  /** Whether a fused multiply-add rounds the product, too, as WGSL allows. */
  readonly unfused: boolean;
  /** Whether functions and divisions are as far off as WGSL allows, now up, now down. */
  readonly coarse: boolean;
}

/** Something between -1 and 1 that depends on the operands alone, mostly near the ends. */
function wobble(x: number, y = 0): number {
  view.setFloat32(0, x);
  let bits = view.getUint32(0);
  view.setFloat32(0, y);
  bits = Math.imul(bits ^ Math.imul(view.getUint32(0), 0x9e3779b1), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  const u = (bits >>> 8) / 2 ** 23 - 1;
  return Math.sign(u) * Math.sqrt(Math.abs(u));
}

function isPower(x: number): boolean {
  return Number.isInteger(Math.log2(Math.abs(x)));
}

/** Relative size of a unit in the last place, at its largest. */
const ULP = { f32: 2 ** -23, f16: 2 ** -10 };

/**
 * The largest errors that WGSL allows, in units in the last place and on their own.
 * Source: https://www.w3.org/TR/WGSL/#concrete-float-accuracy
 */
function allowed(name: string, x: number, half: boolean): { ulps?: number; absolute?: number } {
  switch (name) {
    case "exp":
    case "exp2":
      return { ulps: half ? 1 + 2 * Math.abs(x) : 3 + 2 * Math.abs(x) };
    case "log":
    case "log2":
      return x >= 0.5 && x <= 2 ? { absolute: half ? 2 ** -7 : 2 ** -21 } : { ulps: 3 };
    case "inverseSqrt":
      return { ulps: 2 };
    case "sqrt":
      return { ulps: 4.5 };
    case "sin":
    case "cos":
      return { absolute: half ? 2 ** -7 : 2 ** -11 };
    case "tan":
    case "tanh":
      return { absolute: 2 ** -10 };
    case "asin":
    case "acos":
      return { absolute: half ? 3.91e-3 : 6.77e-5 };
    case "atan":
    case "atan2":
      return { ulps: half ? 5 : 4096 };
    case "divide":
      return { ulps: 2.5 };
    default:
      return {};
  }
}

/** The value, as far off as is allowed. */
function off(value: number, at: { name: string; x: number; y?: number; half: boolean }): number {
  const { ulps = 0, absolute = 0 } = allowed(at.name, at.x, at.half);
  if (!Number.isFinite(value) || value === 0) return value;
  // WGSL does not say so, but all hardware has powers of two right.
  if (at.name === "divide" ? isPower(at.y!) : isPower(value)) return value;
  const unit = at.half ? ULP.f16 : ULP.f32;
  // The grid's spacing at the value is half a unit to one of its size; half a unit goes for the rounding.
  const spacing = 2 ** Math.floor(Math.log2(Math.abs(value))) * unit;
  return value + wobble(at.x, at.y) * (Math.max(0, ulps - 0.5) * spacing + absolute);
}

const view = new DataView(new ArrayBuffer(4));

function halfEven(x: number): number {
  const low = Math.floor(x), rest = x - low;
  if (rest !== 0.5) return Math.sign(x) * Math.floor(Math.abs(x) + 0.5) || x * 0;
  return (low % 2 === 0 ? low : low + 1) || x * 0;
}

/** A NaN loses against a number: most hardware's choice of what WGSL leaves open. */
function least(a: number, b: number): number {
  return Number.isNaN(a) ? b : Number.isNaN(b) ? a : Math.min(a, b);
}

function largest(a: number, b: number): number {
  return Number.isNaN(a) ? b : Number.isNaN(b) ? a : Math.max(a, b);
}

/** Functions of floats, each rounded once by `round`. */
function floats(
  round: (x: number) => number,
  { unfused, coarse, half }: { unfused: boolean; coarse: boolean; half: boolean },
) {
  const once = (f: (x: number) => number) => (x: number) => round(f(x));
  const hard = coarse
    ? (name: string, f: (x: number) => number) => (x: number) => round(off(f(x), { name, x, half }))
    : (_: string, f: (x: number) => number) => once(f);
  const exp2 = hard("exp2", (x) => 2 ** x), log2 = hard("log2", Math.log2);
  return {
    round: once(halfEven),
    fma: unfused
      ? (a: number, b: number, c: number) => round(round(a * b) + c)
      : (a: number, b: number, c: number) => round(a * b + c),
    abs: Math.abs,
    min: least,
    max: largest,
    clamp: (x: number, low: number, high: number) => least(largest(x, low), high),
    sign: (x: number) => Math.sign(x) || 0,
    floor: Math.floor,
    ceil: Math.ceil,
    trunc: Math.trunc,
    fract: once((x) => x - Math.floor(x)),
    exp: hard("exp", Math.exp),
    exp2,
    log: hard("log", Math.log),
    log2,
    sqrt: hard("sqrt", Math.sqrt),
    inverseSqrt: hard("inverseSqrt", (x) => 1 / Math.sqrt(x)),
    sin: hard("sin", Math.sin),
    cos: hard("cos", Math.cos),
    tan: hard("tan", Math.tan),
    asin: hard("asin", Math.asin),
    acos: hard("acos", Math.acos),
    atan: hard("atan", Math.atan),
    tanh: hard("tanh", Math.tanh),
    pow: coarse
      ? (a: number, b: number) => exp2(round(b * log2(a)))
      : (a: number, b: number) => a < 0 ? NaN : round(a ** b),
    atan2: coarse
      ? (x: number, y: number) => round(off(Math.atan2(x, y), { name: "atan2", x, y, half }))
      : (x: number, y: number) => round(Math.atan2(x, y)),
    divide: coarse
      ? (x: number, y: number) => round(off(x / y, { name: "divide", x, y, half }))
      : (x: number, y: number) => round(x / y),
    mix: (a: number, b: number, t: number) => round(round(a * round(1 - t)) + round(b * t)),
    step: (edge: number, x: number) => edge <= x ? 1 : 0,
  };
}

function wholes(wrap: (x: number) => number) {
  return {
    abs: (x: number) => wrap(Math.abs(x)),
    min: Math.min,
    max: Math.max,
    clamp: (x: number, low: number, high: number) => Math.min(Math.max(x, low), high),
    sign: Math.sign,
    countLeadingZeros: (x: number) => Math.clz32(x),
    countTrailingZeros: (x: number) => x === 0 ? 32 : 31 - Math.clz32(x & -x),
    countOneBits(x: number) {
      let n = 0;
      for (let rest = x >>> 0; rest !== 0; rest &= rest - 1) n++;
      return n;
    },
    firstLeadingBit: (x: number) => wrap(31 - Math.clz32(x < 0 ? ~x : x)),
  };
}

/** The functions that compiled text calls. */
export type Runtime = ReturnType<typeof runtimeOf>;

/** The functions that compiled text calls, for one kind of hardware. */
export function runtimeOf({ flush, unfused, coarse }: Arithmetic) {
  const { fround } = Math;
  const f16round = (Math as unknown as { f16round(x: number): number }).f16round;
  const f32 = flush
    ? (x: number) => {
      const y = fround(x);
      return Math.abs(y) < 2 ** -126 ? 0 * y : y;
    }
    : fround;
  return {
    f32,
    f16: f16round,
    F32: floats(f32, { unfused, coarse, half: false }),
    F16: floats(f16round, { unfused, coarse, half: true }),
    I32: wholes((x) => x | 0),
    U32: wholes((x) => x >>> 0),
    imul: Math.imul,
    // Division by 0 gives the dividend, as WGSL says.
    idiv: (a: number, b: number) => b === 0 ? a : (a / b) | 0,
    imod: (a: number, b: number) => b === 0 ? 0 : (a % b) | 0,
    udiv: (a: number, b: number) => b === 0 ? a : Math.floor(a / b),
    umod: (a: number, b: number) => b === 0 ? 0 : a % b,
    toI32: (x: number) =>
      Number.isNaN(x) ? 0 : Math.min(Math.max(Math.trunc(x), -2147483648), 2147483647) | 0,
    toU32: (x: number) =>
      Number.isNaN(x) ? 0 : Math.min(Math.max(Math.trunc(x), 0), 4294967295) >>> 0,
    bits(from: string, to: string, x: number): number {
      if (from === "f32") view.setFloat32(0, x);
      else view.setUint32(0, x);
      return to === "f32"
        ? view.getFloat32(0)
        : to === "i32"
        ? view.getInt32(0)
        : view.getUint32(0);
    },
    packHalves([low, high]: number[]): number {
      view.setFloat16(2, low!);
      view.setFloat16(0, high!);
      return view.getUint32(0);
    },
    /** The index, checked: hardware clamps it, and what it then reads is not what was meant. */
    inside(at: number, length: number): number {
      if (at >= 0 && at < length) return at;
      throw new RangeError(`element ${at} of an array of ${length}`);
    },
    /** Both values were computed, as on a GPU. */
    select: <T>(no: T, yes: T, which: boolean) => which ? yes : no,
    /** `f` on each component of vectors of `size`; scalars count for every one. */
    each(size: number, f: (...scalars: never[]) => unknown, ...args: unknown[]): unknown[] {
      const of = f as (...scalars: unknown[]) => unknown;
      return Array.from(
        { length: size },
        (_, i) => of(...args.map((a) => Array.isArray(a) ? a[i] : a)),
      );
    },
    two(f: (a: never, b: never) => unknown, a: unknown, b: unknown): unknown[] {
      const of = f as (a: unknown, b: unknown) => unknown;
      const list = Array.isArray(a) ? a : b as unknown[];
      const result = new Array(list.length);
      for (let i = 0; i < list.length; i++) {
        result[i] = of(Array.isArray(a) ? a[i] : a, Array.isArray(b) ? b[i] : b);
      }
      return result;
    },
    /** A vector with one component replaced. */
    changed(vector: readonly unknown[], at: number, value: unknown): unknown[] {
      const copy = vector.slice();
      copy[at] = value;
      return copy;
    },
  };
}
