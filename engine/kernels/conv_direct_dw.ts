/**
 * The weight's gradient of a convolution by 3 x 3 windows of stride 1, of few channels, for discrete GPUs, without a
 * product in between:
 *
 *   dW[o, c, u, v] = sum over (b, i, j)  of dY[b, o, i, j] · X[b, c, i + u - pad, j + v - pad]
 *
 * A workgroup owns 16 output by 16 input channels, a thread all nine taps of four of the former and one of the latter:
 * along a row it reads four gradients and three inputs for 36 products, where the tiled core (gemm.ts), which has a
 * column a tap, reads every input nine times. Workgroups share out the strips of 2 x 32 outputs; what each has
 * summed is added up afterwards. Tensors are NCHW and contiguous, rows of Y whole fours; x counts shares, y
 * groups times blocks of channels.
 *
 * FLOPs: 18·B·O·C·OH·OW. Source: ours.
 */

import { asF32, type Kernel, kernel, memoized, range } from "./kernel.ts";

/** Outputs of a strip. */
export const STRIP = { height: 2, width: 32 } as const;
/** Output and input channels of a workgroup. */
export const BLOCK = 16;
const THREADS = BLOCK * BLOCK / 4;
/** Rows and columns of inputs under a strip. */
const ROWS = STRIP.height + 2;
const COLUMNS = STRIP.width + 2;
/**
 * Fours of a row in workgroup memory, which begins with two floats of nothing, so that the third column begins a four;
 * and of a channel: one more keeps channels in banks apart.
 */
const LEAD = 2;
const FOURS = (LEAD + COLUMNS) / 4;
const PLANE = ROWS * FOURS + 1;
const OUTPUTS = STRIP.height * STRIP.width;
const TAPS = 9;

/** Bytes of workgroup memory. */
export const DIRECT_DW_BYTES: number = 4 * BLOCK * (4 * PLANE + OUTPUTS);

/** Builds the kernel. */
export const convDirectWeightGradKernel: (spec: { readonly dtype: "f32" | "f16" }) => Kernel =
  memoized(buildDirect);

/** Loads of a thread that are under way at once: registers hold them. */
const AT_ONCE = 8;

/** Statements of several loads, then of their puts, and so on. */
function inBatches(list: readonly { readonly load: string; readonly put: string }[]): string[] {
  return range(Math.ceil(list.length / AT_ONCE)).flatMap((b) => {
    const batch = list.slice(b * AT_ONCE, (b + 1) * AT_ONCE);
    return [...batch.map((e) => e.load), ...batch.map((e) => e.put)];
  });
}

/** Statements that load `name`_`id`: what is `of` the place `at`, and 0 where that is not `known`. */
function loadLines(
  name: string,
  id: string,
  { at, known, of }: { at: string; known: string; of: (place: string) => string },
): string {
  return `    let ${name}_known_${id} = ${known};
    let ${name}_${id} = select(0.0, ${
    of(`select(0u, ${at}, ${name}_known_${id})`)
  }, ${name}_known_${id});`;
}

function asF32Of(buffer: string, dtype: "f32" | "f16"): (place: string) => string {
  return (place) => asF32(`${buffer}[${place}]`, dtype);
}

function buildDirect({ dtype }: { readonly dtype: "f32" | "f16" }): Kernel {
  // Lanes lie along a row, and what a thread loads differs in the channel alone, so that a place costs an addition.
  const gradients = inBatches(
    range(BLOCK).map((o) => ({
      load: loadLines("grads", String(o), {
        at: `dy_first + ${o}u * p.OH * p.OW`,
        known: `known & (o0 + ${o}u < p.O)`,
        of: asF32Of("dy", dtype),
      }),
      put: `    grads[${(o >> 2) * OUTPUTS / 4}u + thread / 4u][thread % 4u][${
        o % 4
      }] = grads_${o};`,
    })),
  );
  const inputs = inBatches(
    range(BLOCK).flatMap((c) =>
      range(ROWS / 2).map((k) => ({
        load: loadLines("inputs", `${c}_${k}`, {
          at: `x_first${k} + ${c}u * p.H * p.W`,
          known: `inside${k} & (c0 + ${c}u < p.C)`,
          of: asF32Of("x", dtype),
        }),
        put:
          `    inputs[${
            c * PLANE + 2 * k * FOURS
          }u + half * ${FOURS}u + place / 4u][place % 4u] = ` +
          `inputs_${c}_${k};`,
      }))
    ),
  );
  // The last two columns of each row.
  const last = inBatches(
    range(BLOCK * ROWS * 2 / THREADS).map((q) => ({
      load: `    let e_${q} = thread + ${q * THREADS}u;
    let last_c_${q} = c0 + e_${q} / ${2 * ROWS}u;
    let last_h_${q} = h0 + i32(e_${q} / 2u % ${ROWS}u);
    let last_w_${q} = w0 + ${STRIP.width} + i32(e_${q} % 2u);
    let last_${q} = (last_c_${q} < p.C) & (u32(last_h_${q}) < p.H) & (u32(last_w_${q}) < p.W);
${
        loadLines("inputs", `last_${q}`, {
          at: `x_at + (last_c_${q} * p.H + u32(last_h_${q})) * p.W + u32(last_w_${q})`,
          known: `last_${q}`,
          of: asF32Of("x", dtype),
        })
      }`,
      put: `    inputs[e_${q} / ${2 * ROWS}u * ${PLANE}u + e_${q} / 2u % ${ROWS}u * ${FOURS}u + ${
        (LEAD + STRIP.width) / 4 | 0
      }u][${(LEAD + STRIP.width) % 4}u + e_${q} % 2u] = inputs_last_${q};`,
    })),
  );
  const multiply = [
    ...range(3).map((u) => `        let right${u} = inputs[x0 + ${u * FOURS + 1}u + j / 4u];`),
    ...range(4).flatMap((s) => [
      `        let dy${s} = grads[y0 + j / 4u][${s}];`,
      ...range(3).flatMap((u) =>
        range(3).map((v) => {
          const x = s + v < LEAD ? `left${u}.${"xy"[s + v]}` : `right${u}.${"xyzw"[s + v - LEAD]}`;
          return `        sum${u}${v} = fma(vec4(${x}), dy${s}, sum${u}${v});`;
        })
      ),
    ]),
    ...range(3).map((u) => `        left${u} = right${u}.zw;`),
  ];
  return kernel({
    name: `conv2d_direct_dw${dtype === "f16" ? "_f16" : ""}`,
    buffers: [
      { name: "dy", access: "read", type: dtype },
      { name: "x", access: "read", type: dtype },
      { name: "dw", access: "write", type: "f32" },
    ],
    params: {
      C: "u32", // input channels of a group
      O: "u32", // output channels of a group
      groups: "u32",
      blocks_o: "u32", // blocks of output channels of a group
      blocks_c: "u32",
      H: "u32",
      W: "u32",
      OH: "u32",
      OW: "u32",
      pad_h: "i32",
      pad_w: "i32",
      across: "u32", // strips in a row of an image
      down: "u32",
      strips: "u32", // in all
      share: "u32", // strips of a share
    },
    workgroup: [THREADS, 1, 1],
    module: `
var<workgroup> inputs: array<vec4<f32>, ${BLOCK * PLANE}>;
var<workgroup> grads: array<array<vec4<f32>, 4>, ${BLOCK * OUTPUTS / 16}>;`,
    body: `  let thread = lid.x;
  let column = thread % ${STRIP.width}u;
  let half = thread / ${STRIP.width}u;
  let place = column + ${LEAD}u;
  let group = wid.y / (p.blocks_o * p.blocks_c);
  let o0 = wid.y / p.blocks_c % p.blocks_o * ${BLOCK}u;
  let c0 = wid.y % p.blocks_c * ${BLOCK}u;
  let c = thread % ${BLOCK}u;
  let four = thread / ${BLOCK}u;
${range(3).flatMap((u) => range(3).map((v) => `  var sum${u}${v} = vec4<f32>(0.0);`)).join("\n")}
  let first = wid.x * p.share;
  for (var strip = first; strip < min(first + p.share, p.strips); strip++) {
    let b = strip / (p.across * p.down);
    let top = strip / p.across % p.down * ${STRIP.height}u;
    let start = strip % p.across * ${STRIP.width}u;
    let x_at = (b * p.groups + group) * p.C * p.H * p.W;
    let h0 = i32(top) - p.pad_h;
    let w0 = i32(start) - p.pad_w;
    let known = (top + half < p.OH) & (start + column < p.OW);
    let dy_first = (((b * p.groups + group) * p.O + o0) * p.OH + top + half) * p.OW + start + column;
${
      range(ROWS / 2).map((k) =>
        `    let h${k + 1} = u32(h0 + ${2 * k} + i32(half));
    let inside${k} = (h${k + 1} < p.H) & (u32(w0 + i32(column)) < p.W);
    let x_first${k} = x_at + (c0 * p.H + h${k + 1}) * p.W + u32(w0 + i32(column));`
      ).join("\n")
    }
${[...inputs, ...last, ...gradients].join("\n")}
    workgroupBarrier();
    // No further than the image goes: inputs past its end may be anything.
    for (var i = 0u; i < min(${STRIP.height}u, p.OH - top); i++) {
      let x0 = c * ${PLANE}u + i * ${FOURS}u;
      let y0 = (four * ${OUTPUTS}u + i * ${STRIP.width}u) / 4u;
${range(3).map((u) => `      var left${u} = inputs[x0 + ${u * FOURS}u].zw;`).join("\n")}
      for (var j = 0u; j < min(${STRIP.width}u, p.OW - start); j += 4u) {
${multiply.join("\n")}
      }
    }
    workgroupBarrier();
  }
  if (c0 + c < p.C) {
${
      range(4).map((s) =>
        `    if (o0 + four * 4u + ${s}u < p.O) {
      let at = (((wid.x * p.groups + group) * p.O + o0 + four * 4u + ${s}u) * p.C + c0 + c) * ${TAPS}u;
${
          range(3).flatMap((u) =>
            range(3).map((v) => `      dw[at + ${3 * u + v}u] = sum${u}${v}.${"xyzw"[s]};`)
          ).join("\n")
        }
    }`
      ).join("\n")
    }
  }`,
  });
}
