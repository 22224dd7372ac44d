/**
 * Convolution by 3 x 3 windows of stride 1 of few output channels, for discrete GPUs, without a product in between:
 *
 *   Y[b, o, i, j] = f(sum over (c, u, v)  of W[o, c, u, v] · X[b, c, i + u - pad, j + v - pad] + bias[o])
 *
 * and, `turned`, dX of such a convolution, whose weight is read as W[c, o, 2 - u, 2 - v]. An input element serves
 * nine taps of all channels, where the tiled core (gemm.ts) fetches it nine times for at most as many products
 * as there are output channels.
 *
 * A workgroup owns a patch of 8 x 32 outputs of `rows` channels, a thread four neighbours of each; it keeps the
 * inputs and weights of `chunk` channels in its memory. Tensors are NCHW and contiguous; x counts patches, y
 * images, z groups times blocks of channels.
 *
 * FLOPs: 18·B·O·C·OH·OW. Source: ours.
 */

import { activated, type Epilogue, epilogueModule } from "./epilogue.ts";
import { asF32, type Kernel, kernel, memoized, range } from "./kernel.ts";

/** Outputs of a workgroup's patch. */
export const PATCH = { height: 8, width: 32 } as const;
/** Threads across, each with four neighbours, and down. */
const ACROSS = PATCH.width / 4;
const THREADS = ACROSS * PATCH.height;
/** Rows of inputs under a patch, and fours of a row: columns past those needed are read as well. */
const INPUT_ROWS = PATCH.height + 2;
const INPUT_FOURS = ACROSS + 1;
const TAPS = 9;

/** What varies between the text of these kernels. */
export interface ConvDirectSpec {
  readonly dtype: "f32" | "f16";
  /** Output channels of a workgroup, a multiple of four. */
  readonly rows: number;
  /** Input channels in workgroup memory at a time. */
  readonly chunk: number;
  readonly turned: boolean;
  readonly bias: boolean;
  readonly epilogue?: Epilogue;
  /** Whether rows of Y are whole fours, stored four at a time. */
  readonly wide: boolean;
}

/** Bytes of workgroup memory. */
export function directBytes({ rows, chunk }: Pick<ConvDirectSpec, "rows" | "chunk">): number {
  return 16 * chunk * INPUT_ROWS * INPUT_FOURS + 4 * chunk * TAPS * rows;
}

/** Builds the kernel. */
export const convDirectKernel: (spec: ConvDirectSpec) => Kernel = memoized(buildDirect);

/** Loads of a thread that are under way at once: registers hold them. */
const AT_ONCE = 8;

/**
 * Statements that fill `count` floats of workgroup memory: several of a thread's loads are under way before the
 * first of them is put. `value` gives the statements and the expression of float `i`, `place` its place as WGSL.
 */
function fillLines(
  name: string,
  count: number,
  { value, place }: { value: (i: string, q: number) => string; place: (i: string) => string },
): string[] {
  const turns = range(Math.ceil(count / THREADS));
  const at = (q: number) => `(thread + ${q * THREADS}u)`;
  const ends = (q: number) => (q + 1) * THREADS > count;
  const puts = turns.map((q) => {
    const put = `${name}${place(at(q))} = ${name}_${q};`;
    return ends(q) ? `    if (${at(q)} < ${count}u) { ${put} }` : `    ${put}`;
  });
  const batches = range(Math.ceil(turns.length / AT_ONCE)).map((b) => b * AT_ONCE);
  return batches.flatMap((from) => {
    const batch = turns.slice(from, from + AT_ONCE);
    return [...batch.map((q) => value(at(q), q)), ...batch.map((q) => puts[q]!)];
  });
}

function buildDirect(spec: ConvDirectSpec): Kernel {
  const { dtype, rows, chunk, turned, bias, epilogue, wide } = spec;
  const row = INPUT_FOURS * 4;
  const plane = INPUT_ROWS * row;
  const inputs = fillLines("inputs", chunk * plane, {
    value: (i, q) =>
      `    let c_${q} = c0 + ${i} / ${plane}u;
    let h_${q} = h0 + i32(${i} % ${plane}u / ${row}u);
    let w_${q} = w0 + i32(${i} % ${row}u);
    let inside_${q} = (c_${q} < p.C) & (u32(h_${q}) < p.H) & (u32(w_${q}) < p.W);
    let x_${q} = select(0u, x_at + (c_${q} * p.H + u32(h_${q})) * p.W + u32(w_${q}), inside_${q});
    let inputs_${q} = select(0.0, ${asF32(`x[x_${q}]`, dtype)}, inside_${q});`,
    place: (i) => `[${i} / ${row}u][${i} % ${row}u / 4u][${i} % 4u]`,
  });
  // Output channels are neighbours, so that a thread reads four of them at once.
  const weights = fillLines("weights", chunk * TAPS * rows, {
    value: (i, q) => {
      const [o, c] = [`(first + ${i} % ${rows}u)`, `(c0 + ${i} / ${TAPS * rows}u)`];
      const tap = `${i} / ${rows}u % ${TAPS}u`;
      const at = turned
        ? `((group * p.C + ${c}) * p.O + ${o}) * ${TAPS}u + ${TAPS - 1}u - ${tap}`
        : `((group * p.O + ${o}) * p.C + ${c}) * ${TAPS}u + ${tap}`;
      const known = `(${o} < p.O) & (${c} < p.C)`;
      return `    let known_${q} = ${known};
    let weights_${q} = select(0.0, ${
        asF32(`w[select(0u, ${at}, known_${q})]`, dtype)
      }, known_${q});`;
    },
    place: (i) => `[${i} / ${rows}u][${i} % ${rows}u / 4u][${i} % 4u]`,
  });
  const multiply = range(3).flatMap((u) => [
    `      let left${u} = inputs[c * ${INPUT_ROWS}u + lid.y + ${u}u][lid.x];`,
    `      let right${u} = inputs[c * ${INPUT_ROWS}u + lid.y + ${u}u][lid.x + 1u];`,
    `      let at${u}_0 = left${u};`,
    `      let at${u}_1 = vec4(left${u}.yzw, right${u}.x);`,
    `      let at${u}_2 = vec4(left${u}.zw, right${u}.xy);`,
    ...range(3).flatMap((v) =>
      range(rows / 4).flatMap((four) => [
        `      let k${u}${v}_${four} = weights[c * ${TAPS}u + ${3 * u + v}u][${four}];`,
        ...range(4).map((s) => {
          const sum = `sum${4 * four + s}`;
          return `      ${sum} = fma(vec4(k${u}${v}_${four}.${"xyzw"[s]}), at${u}_${v}, ${sum});`;
        }),
      ])
    ),
  ]);
  const stores = range(rows).flatMap((r) => {
    const o = `(first + ${r}u)`;
    const value = (part: string) => {
      const sum = bias ? `(sum${r}${part} + bias${r})` : `sum${r}${part}`;
      return activated(sum, { epilogue, wide });
    };
    const stored = wide
      ? [`y[at >> 2u] = ${dtype === "f32" ? value("") : `vec4<f16>(${value("")})`};`]
      : range(4).map((s) => {
        const one = value(`.${"xyzw"[s]}`);
        const put = `y[at + ${s}u] = ${dtype === "f32" ? one : `f16(${one})`};`;
        return s === 0 ? put : `if (j + ${s}u < p.OW) { ${put} }`;
      });
    return [
      `    if (${o} < p.O) {`,
      `      let at = y_at + ${o} * p.OH * p.OW;`,
      bias ? `      let bias${r} = ${asF32(`bias[group * p.O + ${o}]`, dtype)};` : "",
      ...stored.map((s) => `      ${s}`),
      "    }",
    ];
  });
  const name = [
    "conv2d_direct",
    turned && "turned",
    `${rows}x${chunk}`,
    bias && "bias",
    epilogue?.name,
    wide && "wide",
  ];
  return kernel({
    name: name.filter(Boolean).join("_"),
    buffers: [
      { name: "x", access: "read", type: dtype },
      { name: "w", access: "read", type: dtype },
      ...(bias ? [{ name: "bias", access: "read", type: dtype } as const] : []),
      { name: "y", access: "write", type: wide ? `vec4<${dtype}>` : dtype },
    ],
    params: {
      C: "u32", // input channels of a group
      O: "u32", // output channels of a group
      groups: "u32",
      blocks: "u32", // of output channels
      H: "u32",
      W: "u32",
      OH: "u32",
      OW: "u32",
      pad_h: "i32",
      pad_w: "i32",
      patches: "u32", // in a row of an image
    },
    workgroup: [ACROSS, PATCH.height, 1],
    module: `${epilogueModule(epilogue)}
var<workgroup> inputs: array<array<vec4<f32>, ${INPUT_FOURS}>, ${chunk * INPUT_ROWS}>;
var<workgroup> weights: array<array<vec4<f32>, ${rows / 4}>, ${chunk * TAPS}>;`,
    body: `  let thread = lid.y * ${ACROSS}u + lid.x;
  let group = wid.z / p.blocks;
  let first = wid.z % p.blocks * ${rows}u;
  let top = wid.x / p.patches * ${PATCH.height}u;
  let start = wid.x % p.patches * ${PATCH.width}u;
  let h0 = i32(top) - p.pad_h;
  let w0 = i32(start) - p.pad_w;
  let x_at = (wid.y * p.groups + group) * p.C * p.H * p.W;
${range(rows).map((r) => `  var sum${r} = vec4<f32>(0.0);`).join("\n")}
  for (var c0 = 0u; c0 < p.C; c0 += ${chunk}u) {
${inputs.join("\n")}
${weights.join("\n")}
    workgroupBarrier();
    for (var c = 0u; c < ${chunk}u; c++) {
${multiply.join("\n")}
    }
    workgroupBarrier();
  }
  let i = top + lid.y;
  let j = start + lid.x * 4u;
  if (i < p.OH && j < p.OW) {
    let y_at = ((wid.y * p.groups + group) * p.O * p.OH + i) * p.OW + j;
${stores.filter((s) => s !== "").join("\n")}
  }`,
  });
}
