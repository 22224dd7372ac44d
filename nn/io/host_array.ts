/** @file Arrays on the host, in every dtype that weight files use. */

/** Bits an element takes; the order is the reference's, by rising alignment. */
const BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** An element type of a host array, by its name in safetensors. */
export type HostDtype = keyof typeof BITS;

/** Every dtype, by rising alignment. */
export const HOST_DTYPES = Object.keys(BITS) as HostDtype[];

/** Typed arrays that hold the elements of an array. */
export type HostData =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Float16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array;

/** An array on the host, with a dtype that may be none of the engine's. */
export interface HostArray {
  /** Element type. */
  dtype: HostDtype;
  /** Size of each dim, outermost first; `[]` is a scalar. */
  shape: readonly number[];
  /**
   * The elements in row-major order: the typed array of the dtype, `Uint8Array` for BOOL,
   * `Uint16Array` of bits for BF16, `Float32Array` of (re, im) pairs for C64 and bytes for the types of
   * 8 bits and less. The encoder takes bytes for every dtype.
   */
  data: HostData;
}

/** Bytes an array takes; undefined if they are no whole number or not below 2^53. */
export function byteSize(dtype: HostDtype, shape: readonly number[]): number | undefined {
  let bits: number = BITS[dtype];
  for (const size of shape) {
    bits *= size;
    if (bits > Number.MAX_SAFE_INTEGER) return undefined;
  }
  return bits % 8 === 0 ? bits / 8 : undefined;
}

/** The typed array of a dtype over `bytes`, which are copied if their alignment asks for it. */
export function hostView(dtype: HostDtype, bytes: Uint8Array): HostData {
  const { BYTES_PER_ELEMENT } = emptyView(dtype);
  const aligned = bytes.byteOffset % BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  const { buffer, byteOffset } = aligned;
  return typedArray(dtype, buffer, byteOffset, aligned.length / BYTES_PER_ELEMENT);
}

/** An empty typed array of the kind that holds a dtype. */
export function emptyView(dtype: HostDtype): HostData {
  return typedArray(dtype, new ArrayBuffer(0), 0, 0);
}

function typedArray(
  dtype: HostDtype,
  buffer: ArrayBufferLike,
  offset: number,
  length: number,
): HostData {
  switch (dtype) {
    case "I8":
      return new Int8Array(buffer, offset, length);
    case "I16":
      return new Int16Array(buffer, offset, length);
    case "U16":
    case "BF16":
      return new Uint16Array(buffer, offset, length);
    case "F16":
      return new Float16Array(buffer, offset, length);
    case "I32":
      return new Int32Array(buffer, offset, length);
    case "U32":
      return new Uint32Array(buffer, offset, length);
    case "F32":
    case "C64":
      return new Float32Array(buffer, offset, length);
    case "F64":
      return new Float64Array(buffer, offset, length);
    case "I64":
      return new BigInt64Array(buffer, offset, length);
    case "U64":
      return new BigUint64Array(buffer, offset, length);
    default:
      return new Uint8Array(buffer, offset, length);
  }
}
