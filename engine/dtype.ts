/**
 * The element types of a tensor and how each one is stored.
 *
 * `bool` is stored as one u32 (0 or 1) an element: WGSL has no bool in storage buffers.
 */

/** Element type of a tensor. */
export type DType = "f32" | "f16" | "i32" | "u32" | "bool";

/** Host array that holds a tensor's elements. `bool` reads back as `Uint8Array` of 0 and 1. */
export type TypedArray = Float32Array | Float16Array | Int32Array | Uint32Array | Uint8Array;

/** Facts about one dtype. */
export interface DTypeInfo {
  /** Bytes an element takes in a GPU buffer. */
  readonly bytes: number;
  /** WGSL type of a storage-buffer element. */
  readonly storage: string;
  /** WGSL type in which kernels compute: f16 accumulates in f32. */
  readonly compute: "f32" | "i32" | "u32";
  /** Promotion rank: the higher one of two dtypes wins (bool < u32 < i32 < f16 < f32). */
  readonly rank: number;
  /** True for f32 and f16. */
  readonly float: boolean;
}

/** One row a dtype. */
export const DTYPES: Readonly<Record<DType, DTypeInfo>> = {
  bool: { bytes: 4, storage: "u32", compute: "u32", rank: 0, float: false },
  u32: { bytes: 4, storage: "u32", compute: "u32", rank: 1, float: false },
  i32: { bytes: 4, storage: "i32", compute: "i32", rank: 2, float: false },
  f16: { bytes: 2, storage: "f16", compute: "f32", rank: 3, float: true },
  f32: { bytes: 4, storage: "f32", compute: "f32", rank: 4, float: true },
};

/** True for f32 and f16. */
export function isFloat(dtype: DType): boolean {
  return DTYPES[dtype].float;
}

/** The higher one of two dtypes: floats beat integers, integers beat bool. u32 with i32 gives i32. */
export function promote(a: DType, b: DType): DType {
  return DTYPES[a].rank >= DTYPES[b].rank ? a : b;
}

/** How much a dtype can hold: bool, whole numbers, floats. */
export function category(dtype: DType): number {
  return isFloat(dtype) ? 2 : dtype === "bool" ? 0 : 1;
}

/**
 * The dtype of an op on `a` and `b`, as PyTorch promotes: the higher one; but an operand without dimensions
 * leaves that with dimensions what it is, unless it is of a higher category. So f16 [3] times f32 [] is f16, and
 * i32 [3] times f16 [] is f16.
 */
export function resultType(
  a: { readonly dtype: DType; readonly shape: readonly number[] },
  b: { readonly dtype: DType; readonly shape: readonly number[] },
): DType {
  const higher = promote(a.dtype, b.dtype);
  if ((a.shape.length === 0) === (b.shape.length === 0)) return higher;
  const { dtype } = a.shape.length === 0 ? b : a;
  return category(higher) > category(dtype) ? higher : dtype;
}

/** Host typed array for `length` elements read straight from a GPU buffer of `dtype`. */
export function hostView(dtype: DType, bytes: ArrayBuffer, length: number): TypedArray {
  switch (dtype) {
    case "f32":
      return new Float32Array(bytes, 0, length);
    case "f16":
      return new Float16Array(bytes, 0, length);
    case "i32":
      return new Int32Array(bytes, 0, length);
    case "u32":
      return new Uint32Array(bytes, 0, length);
    case "bool":
      return Uint8Array.from(new Uint32Array(bytes, 0, length));
  }
}

/** Least and largest number of the integer types. */
const RANGES = { i32: [-(2 ** 31), 2 ** 31 - 1], u32: [0, 2 ** 32 - 1] } as const;

/**
 * Checks that an integer type has room for a number. Fractions are cut off elsewhere.
 *
 * @throws {RangeError} if it is NaN, or beyond the ends of the type
 */
export function requireRange(what: string, value: number, dtype: DType): void {
  if (dtype !== "i32" && dtype !== "u32") return;
  const [least, most] = RANGES[dtype];
  if (Math.trunc(value) >= least && Math.trunc(value) <= most) return;
  throw new RangeError(`Cannot ${what} ${value} in ${dtype}: it holds ${least} to ${most}`);
}

/** The least number that a type holds: -Infinity of floats. */
export function leastOf(dtype: DType): number {
  return dtype === "i32" || dtype === "u32" ? RANGES[dtype][0] : -Infinity;
}

/** The largest number that a type holds: Infinity of floats. */
export function mostOf(dtype: DType): number {
  return dtype === "i32" || dtype === "u32" ? RANGES[dtype][1] : Infinity;
}

/** Whether every number that a typed array can have fits. */
function alwaysFits(dtype: DType, values: ArrayLike<number>): boolean {
  const narrow = values instanceof Uint8Array || values instanceof Uint16Array;
  if (dtype === "u32") return narrow || values instanceof Uint32Array;
  return dtype !== "i32" || narrow || values instanceof Int32Array ||
    values instanceof Int16Array || values instanceof Int8Array;
}

/**
 * Encodes host numbers as the bytes a GPU buffer of `dtype` holds.
 *
 * @throws {RangeError} if an integer type has no room for one
 */
export function encode(dtype: DType, values: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  if (!alwaysFits(dtype, values)) {
    for (let i = 0; i < values.length; i++) requireRange("keep", values[i]!, dtype);
  }
  const typed = dtype === "f32"
    ? new Float32Array(values)
    : dtype === "f16"
    ? new Float16Array(values)
    : dtype === "i32"
    ? new Int32Array(values)
    : dtype === "u32"
    ? new Uint32Array(values)
    : Uint32Array.from(values, booleanWord);
  return new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength);
}

function booleanWord(value: number): number {
  return value === 0 ? 0 : 1; // NaN is true
}
