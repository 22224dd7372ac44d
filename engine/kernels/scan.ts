/**
 * Running sums, products and linear recurrences over the middle of a contiguous [outer, L, inner].
 *
 *   sum     h = h + x         prod    h = h · x         affine  h = a · h + b
 *
 * A thread owns one block of `block` neighbours of one (outer, inner) and walks it in order. With
 * more than one block, {@linkcode scanTotalsKernel} first gives what each block does to h, those
 * totals are scanned the same way, and {@linkcode scanKernel} then starts each block from the result:
 * three passes, any length, a fixed order of operations. `reverse` walks from the end.
 * Traffic: x twice, y once. Source: Blelloch 1990, reduce then scan.
 */

import { type DType, DTYPES } from "../dtype.ts";
import { type BufferDecl, type Kernel, kernel, linearThread, memoized } from "./kernel.ts";

/** What a scan does with an element. */
export type ScanKind = "sum" | "prod" | "affine";

/** What varies between scans. */
export interface ScanSpec {
  readonly kind: ScanKind;
  /** Of x, or of a and b. */
  readonly input: DType;
  readonly output: DType;
  /** Type of h and of the totals. */
  readonly accumulator: "f32" | "i32" | "u32";
}

const PARAMS = {
  threads: "u32",
  L: "u32",
  inner: "u32",
  blocks: "u32",
  block: "u32",
  reverse: "u32",
} as const;

/** Inputs of a scan and WGSL of one step from `h` at element `at`. */
function step({ kind, input, accumulator }: ScanSpec): { buffers: BufferDecl[]; next: string } {
  const type = DTYPES[input].storage;
  const read = (name: string) =>
    type === accumulator ? `${name}[at]` : `${accumulator}(${name}[at])`;
  const names = kind === "affine" ? ["b_a", "b_b"] : ["b_x"];
  return {
    buffers: names.map((name) => ({ name, access: "read", type })),
    next: kind === "sum"
      ? `h + ${read("b_x")}`
      : kind === "prod"
      ? `h * ${read("b_x")}`
      : `${read("b_a")} * h + ${read("b_b")}`,
  };
}

const identity = { sum: "0", prod: "1", affine: "0" } as const;

/** Number of the thread's block, its first element and how far apart its elements are. */
const BLOCK = `${linearThread("t", "p.threads")}
  let i = t % p.inner;
  let row = t / p.inner;
  let block = row % p.blocks;
  let outer = row / p.blocks;
  let first = block * p.block;
  let last = min(first + p.block, p.L);
  let place = select(first, p.L - 1u - first, p.reverse != 0u);
  var at = (outer * p.L + place) * p.inner + i;
  let stride = select(p.inner, 0u - p.inner, p.reverse != 0u);`;

/**
 * What each block but the last does to h: its sum or product; for `affine` its factor and its own
 * result. Here `blocks` is one less than there are.
 */
export const scanTotalsKernel: (spec: ScanSpec) => Kernel = memoized((spec: ScanSpec) => {
  const { buffers, next } = step(spec);
  const { kind, accumulator } = spec;
  const affine = kind === "affine";
  const factor = DTYPES[spec.input].storage === accumulator ? "b_a[at]" : `${accumulator}(b_a[at])`;
  return kernel({
    name: `scan_${kind}_totals_${spec.input}`,
    buffers: [
      ...buffers,
      ...(affine ? [{ name: "b_factors", access: "write", type: accumulator } as const] : []),
      { name: "b_totals", access: "write", type: accumulator },
    ],
    params: PARAMS,
    body: `${BLOCK}
  var h = ${accumulator}(${identity[kind]});
  var factor = ${accumulator}(1);
  for (var j = first; j < last; j++) {
    h = ${next};
${affine ? `    factor = factor * ${factor};` : ""}
    at += stride;
  }
${affine ? "  b_factors[t] = factor;" : ""}
  b_totals[t] = h;`,
  });
});

/** The scan itself; with `starts`, a block begins from the scanned total of the one before it. */
export const scanKernel: (spec: ScanSpec & { starts: boolean }) => Kernel = memoized(
  (spec: ScanSpec & { starts: boolean }) => {
    const { buffers, next } = step(spec);
    const { kind, accumulator, starts } = spec;
    const stored = DTYPES[spec.output].storage;
    return kernel({
      name: `scan_${kind}${starts ? "_blocks" : ""}_${spec.input}`,
      buffers: [
        ...buffers,
        ...(starts ? [{ name: "b_starts", access: "read", type: accumulator } as const] : []),
        { name: "b_y", access: "write", type: stored },
      ],
      params: PARAMS,
      body: `${BLOCK}
  var h = ${accumulator}(${identity[kind]});
${
        starts
          ? "  if (block > 0u) { h = b_starts[(outer * (p.blocks - 1u) + block - 1u) * p.inner + i]; }"
          : ""
      }
  for (var j = first; j < last; j++) {
    h = ${next};
    b_y[at] = ${stored === accumulator ? "h" : `${stored}(h)`};
    at += stride;
  }`,
    });
  },
);
