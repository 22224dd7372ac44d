/**
 * @file Counts the bytes that typed arrays and buffers are made with. Import it before all else: a
 * module that keeps a constructor of its own is counted only if it loads later.
 */

let allocated = 0;

/** Starts counting from zero. */
export function resetAllocated(): void {
  allocated = 0;
}

/** Bytes of all buffers made since {@linkcode resetAllocated}, garbage among them. */
export function allocatedBytes(): number {
  return allocated;
}

/** Bytes that a constructor call takes; views of a buffer take none. */
function bytesOf(first: unknown, width: number): number {
  if (typeof first === "number") return first * width;
  if (typeof first !== "object" || first === null) return 0;
  if (first instanceof ArrayBuffer || first instanceof SharedArrayBuffer) return 0;
  return Number((first as { length?: number }).length ?? 0) * width;
}

const COUNTED = [
  "ArrayBuffer",
  "Uint8Array",
  "Uint8ClampedArray",
  "Int8Array",
  "Uint16Array",
  "Int16Array",
  "Float16Array",
  "Uint32Array",
  "Int32Array",
  "Float32Array",
  "Float64Array",
  "BigInt64Array",
  "BigUint64Array",
] as const;

for (const name of COUNTED) {
  const original = globalThis[name] as unknown as {
    new (...args: unknown[]): object;
    BYTES_PER_ELEMENT?: number;
    prototype: { constructor: unknown };
  };
  const width = original.BYTES_PER_ELEMENT ?? 1;
  const counting: typeof original = new Proxy(original, {
    construct(target, args: unknown[], newTarget) {
      allocated += bytesOf(args[0], width);
      return Reflect.construct(target, args, newTarget === counting ? target : newTarget);
    },
  });
  // `slice` and `map` make their results by the constructor of the prototype.
  original.prototype.constructor = counting;
  Object.defineProperty(globalThis, name, { value: counting });
}
