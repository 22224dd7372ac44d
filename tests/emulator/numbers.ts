/** Arithmetic of WGSL's scalars, on JavaScript's numbers. */

/** How the emulated hardware treats what WGSL leaves open. */
export interface Arithmetic {
  /** Whether numbers below the normal ones are taken for 0, as WGSL allows. */
  readonly flush: boolean;
  /** Whether a fused multiply-add rounds the product, too, as WGSL allows. */
  readonly unfused: boolean;
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
function floats(round: (x: number) => number, unfused: boolean) {
  const once = (f: (x: number) => number) => (x: number) => round(f(x));
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
    exp: once(Math.exp),
    exp2: once((x) => 2 ** x),
    log: once(Math.log),
    log2: once(Math.log2),
    sqrt: once(Math.sqrt),
    inverseSqrt: once((x) => 1 / Math.sqrt(x)),
    sin: once(Math.sin),
    cos: once(Math.cos),
    tan: once(Math.tan),
    asin: once(Math.asin),
    acos: once(Math.acos),
    atan: once(Math.atan),
    tanh: once(Math.tanh),
    pow: (a: number, b: number) => round(a ** b),
    atan2: (a: number, b: number) => round(Math.atan2(a, b)),
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
export function runtimeOf({ flush, unfused }: Arithmetic) {
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
    F32: floats(f32, unfused),
    F16: floats(f16round, unfused),
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
