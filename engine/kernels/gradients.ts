/**
 * Kernels that walk over many gradients in one dispatch: their norm, clipping, and loss scaling undone.
 *
 * A workgroup owns GRADIENT_BLOCK consecutive elements of one array, found by comparing its number with the
 * first workgroup of each; neighbouring threads take neighbouring elements, or fours where all arrays are whole
 * ones: params count in them then. Numbers that change from step to step are read from GPU memory. Source: ours.
 */

import { type BufferDecl, type Kernel, kernel, LINEAR, memoized, type Param } from "./kernel.ts";

/** Elements of an array that a workgroup walks over. */
export const GRADIENT_BLOCK = LINEAR * 64;
/** Largest number of arrays of one dispatch. */
export const GRADIENTS_MOST = 16;

/** What varies between the text of these kernels. */
export interface GradientSpec {
  /** Arrays of the dispatch. */
  readonly count: number;
  readonly fours: boolean;
}

/** What a kernel does, with `g` an element or four of type G. */
interface Walk {
  /** Its name begins so; the number of arrays follows. */
  readonly stem: string;
  readonly fixed: readonly BufferDecl[];
  readonly params?: Readonly<Record<string, Param["type"]>>;
  readonly module?: string;
  /** Before the elements of the array. */
  readonly start: string;
  /** For each; may write `grads[e]`. */
  readonly turn: string;
  readonly writes: boolean;
  /** After them. */
  readonly end?: string;
}

function walking(walk: Walk, { count, fours }: GradientSpec): Kernel {
  const type = fours ? "vec4<f32>" : "f32";
  const arrays = Array.from({ length: count }, (_, i) => i);
  const block = GRADIENT_BLOCK / (fours ? 4 : 1);
  const access = walk.writes ? "write" : "read";
  const cases = arrays.map((i) => {
    const test = i + 1 < count ? `if (group < p.first${i + 1}) ` : "";
    return `${test}{
    let first = (group - p.first${i}) * ${block}u;
    let upto = min(first + ${block}u, p.count${i});
    for (var e = first + lid.x; e < upto; e += ${LINEAR}u) {
      let g = grads${i}[e];
      ${walk.turn.replaceAll("grads[", `grads${i}[`)}
    }
  }`;
  });
  return kernel({
    name: `${walk.stem}_x${count}${fours ? "_fours" : ""}`,
    buffers: [
      ...walk.fixed,
      ...arrays.map((i): BufferDecl => ({ name: `grads${i}`, access, type })),
    ],
    params: {
      ...Object.fromEntries(
        arrays.flatMap((i) => [[`first${i}`, "u32"], [`count${i}`, "u32"]] as const),
      ),
      groups: "u32",
      ...walk.params,
    },
    module: `\nalias G = ${type};${walk.module ?? ""}`,
    body: `  let group = wid.y * nwg.x + wid.x;
  if (group >= p.groups) { return; }
  ${walk.start}
  ${cases.join(" else ")}
  ${walk.end ?? ""}`,
  });
}

/** The term of the norm that an element is. */
export type NormTerm = "abs" | "square" | "power";

const TERMS: Readonly<Record<NormTerm, string>> = {
  abs: "abs(g)",
  square: "g * g",
  power: "pow(abs(g), G(p.order))",
};

/** parts[workgroup · LINEAR + thread] = the sum of the thread's terms: |g|, g² or |g|ᵒʳᵈᵉʳ. */
export const gradientNormKernel: (spec: GradientSpec & { readonly term: NormTerm }) => Kernel =
  memoized(({ term, ...spec }: GradientSpec & { readonly term: NormTerm }) =>
    walking({
      stem: `gradient_norm_${term}`,
      fixed: [{ name: "parts", access: "write", type: "f32" }],
      params: term === "power" ? { order: "f32" } : {},
      start: "var sum = G(0.0);",
      turn: `sum += ${TERMS[term]};`,
      writes: false,
      end: `parts[group * ${LINEAR}u + lid.x] = ${spec.fours ? "dot(sum, G(1.0))" : "sum"};`,
    }, spec)
  );

/** g ← g · min(1, most / (norm + 1e-6)); NaN stays NaN. */
export const clipNormKernel: (spec: GradientSpec) => Kernel = memoized((spec: GradientSpec) =>
  walking({
    stem: "clip_grad_norm",
    fixed: [{ name: "norm", access: "read", type: "f32" }],
    params: { most: "f32" },
    start:
      "let scale = p.most / (norm[0] + 1e-6);\n  let factor = select(scale, 1.0, scale > 1.0);",
    turn: "grads[e] = g * factor;",
    writes: true,
  }, spec)
);

/** g ← g limited to ±most; NaN stays NaN. */
export const clipValueKernel: (spec: GradientSpec) => Kernel = memoized((spec: GradientSpec) =>
  walking({
    stem: "clip_grad_value",
    fixed: [],
    params: { most: "f32" },
    start: "let most = G(p.most);",
    turn: "grads[e] = select(select(g, -most, g < -most), most, g > most);",
    writes: true,
  }, spec)
);

/**
 * g ← g / state[0], and found[0] ← 1 if an element is Inf or NaN (by its bits). An integer atomic: every thread
 * writes the same value, so the result does not depend on order.
 */
export const unscaleKernel: (spec: GradientSpec) => Kernel = memoized((spec: GradientSpec) =>
  walking({
    stem: "amp_unscale",
    fixed: [
      { name: "state", access: "read", type: "f32" },
      { name: "found", access: "write", type: "atomic<u32>" },
    ],
    module: `\nalias B = ${spec.fours ? "vec4<u32>" : "u32"};`,
    start: "var bad = false;",
    turn: `let v = g / state[0];
      grads[e] = v;
      bad |= any((bitcast<B>(v) & B(0x7f800000u)) == B(0x7f800000u));`,
    writes: true,
    end: "if (bad) { atomicMax(&found[0], 1u); }",
  }, spec)
);
