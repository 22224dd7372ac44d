/**
 * @file Whether a piece of work gives right results, before it is timed. Some elements of products and
 * convolutions are summed again in float64 from the inputs, on the shapes that are timed; other ops run on
 * a crop under the float64 reference of their records.
 */

import { debug, readAll, scope, setDebug, synchronize, type Tensor } from "../mod.ts";
import { drawInputs, latheWork } from "./lathe.ts";
import { type Conv, convOutput, type Gemm, type Work } from "./work.ts";

/** Elements of a result that are summed again. */
const SAMPLES = 48;
/** Largest side of a crop. */
const CROP = 40;

/** The numbers of a tensor. */
type Numbers = ArrayLike<number>;

/** One element: its place in the result and the products it is the sum of. */
interface Element {
  readonly at: number;
  readonly terms: number[];
}

/**
 * Checks one run.
 *
 * @throws {Error} An element is further from float64 than rounding explains.
 */
export async function checkWork(
  work: Work,
  inputs: readonly Tensor[],
  run: () => readonly Tensor[],
): Promise<void> {
  if (work.op === "step") return await checkStep(run);
  if (work.op !== "gemm" && work.op !== "conv") return await checkCrop(work);
  if (work.op === "conv" && work.pass === "train") return await checkCrop(work);
  const results = scope(run);
  try {
    const [result, ...host] = await readAll([results[0]!, ...inputs]);
    const elements = work.op === "gemm" ? gemmElements(work, host) : convElements(work, host);
    // Results in f16 are rounded once more.
    const output = work.op === "gemm" && work.dtype === "f16" ? 2 ** -10 : 0;
    for (const element of elements) compareElement(result!, element, output);
  } finally {
    for (const t of results) t.dispose();
  }
}

/** A sum of n terms t is off by 16 · 2⁻²⁴ · √n · Σ|t| at most. */
function compareElement(result: Numbers, { at, terms }: Element, output: number): void {
  const want = terms.reduce((a, b) => a + b, 0);
  const size = terms.reduce((a, b) => a + Math.abs(b), 0);
  const far = Math.abs(result[at]! - want);
  const allowed = 16 * 2 ** -24 * Math.sqrt(terms.length) * size + output * Math.abs(want);
  if (!(far <= allowed)) {
    throw new Error(
      `element ${at} is ${result[at]}, float64 gives ${want}, rounding explains ${allowed}`,
    );
  }
}

/** Places spread over `count`, the first and the last among them. */
function places(count: number): number[] {
  const all = Array.from(
    { length: SAMPLES },
    (_, i) => Math.floor(i * 0.6180339887 * count) % count,
  );
  return [...new Set([0, count - 1, ...all])];
}

function gemmElements({ m, k, n }: Gemm, [a, b]: readonly Numbers[]): Element[] {
  return places(m * n).map((at) => {
    const [i, j] = [Math.floor(at / n), at % n];
    return { at, terms: Array.from({ length: k }, (_, l) => a![i * k + l]! * b![l * n + j]!) };
  });
}

/** y, dx or dw, from x, w and dy. */
function convElements(s: Conv, [x, w, dy]: readonly Numbers[]): Element[] {
  const [oh, ow] = convOutput(s);
  const [kh, kw] = s.kernel;
  const [top, , left] = s.padding;
  const [C, O] = [s.c / s.groups, s.o / s.groups];
  const inRow = (row: number, ky: number) => row * s.stride[0] - top + ky;
  const inColumn = (column: number, kx: number) => column * s.stride[1] - left + kx;
  /** Calls `visit` for each product: places in x, w and y. */
  const products = (
    ranges: { n: number[]; o: number[]; c: number[]; k: number[]; pixel: number[] },
    visit: (x: number, w: number, y: number) => void,
  ) => {
    for (const n of ranges.n) {
      for (const o of ranges.o) {
        for (const pixel of ranges.pixel) {
          const [r, q] = [Math.floor(pixel / ow), pixel % ow];
          for (const c of ranges.c) {
            for (const k of ranges.k) {
              const [iy, ix] = [inRow(r, Math.floor(k / kw)), inColumn(q, k % kw)];
              if (iy < 0 || ix < 0 || iy >= s.h || ix >= s.w) continue;
              const channel = Math.floor(o / O) * C + c;
              visit(
                ((n * s.c + channel) * s.h + iy) * s.w + ix,
                (o * C + c) * kh * kw + k,
                (n * s.o + o) * oh * ow + pixel,
              );
            }
          }
        }
      }
    }
  };
  const all = (count: number) => Array.from({ length: count }, (_, i) => i);
  if (s.pass === "forward") {
    return places(s.n * s.o * oh * ow).map((at) => {
      const terms: number[] = [];
      const map = Math.floor(at / (oh * ow));
      const ranges = {
        n: [Math.floor(map / s.o)],
        o: [map % s.o],
        c: all(C),
        k: all(kh * kw),
        pixel: [at % (oh * ow)],
      };
      products(ranges, (i, j) => void terms.push(x![i]! * w![j]!));
      return { at, terms };
    });
  }
  if (s.pass === "dW") {
    return places(s.o * C * kh * kw).map((at) => {
      const terms: number[] = [];
      const ranges = {
        n: all(s.n),
        o: [Math.floor(at / (C * kh * kw))],
        c: [Math.floor(at / (kh * kw)) % C],
        k: [at % (kh * kw)],
        pixel: all(oh * ow),
      };
      products(ranges, (i, _, y) => void terms.push(x![i]! * dy![y]!));
      return { at, terms };
    });
  }
  return places(s.n * s.c * s.h * s.w).map((at) => {
    const terms: number[] = [];
    const map = Math.floor(at / (s.h * s.w));
    const channel = map % s.c;
    const group = Math.floor(channel / C);
    const [iy, ix] = [Math.floor(at / s.w) % s.h, at % s.w];
    const pixels = all(kh * kw).flatMap((k) => {
      const r = (iy + top - Math.floor(k / kw)) / s.stride[0];
      const q = (ix + left - k % kw) / s.stride[1];
      const inside = Number.isInteger(r) && Number.isInteger(q) && r >= 0 && q >= 0 && r < oh &&
        q < ow;
      return inside ? [r * ow + q] : [];
    });
    const ranges = {
      n: [Math.floor(map / s.c)],
      o: all(O).map((o) => group * O + o),
      c: [channel % C],
      k: all(kh * kw),
      pixel: [...new Set(pixels)],
    };
    products(ranges, (i, j, y) => i === at && void terms.push(dy![y]! * w![j]!));
    return { at, terms };
  });
}

/** The same kind of work, small enough for the float64 references. */
export function cropped(work: Work): Work {
  const least = (n: number) => Math.min(n, CROP);
  switch (work.op) {
    case "conv":
      return { ...work, n: 1, h: least(work.h), w: least(work.w) };
    case "batch norm":
      return { ...work, n: 2, c: Math.min(work.c, 8), h: least(work.h), w: least(work.w) };
    case "lstm":
      return {
        ...work,
        n: 2,
        steps: 3,
        features: least(work.features),
        hidden: least(work.hidden),
      };
    case "adam":
      return { ...work, parameters: CROP ** 2 };
    case "gemm":
    case "step":
      return work;
    default:
      return { ...work, rows: least(work.rows), columns: Math.min(work.columns, CROP ** 2) };
  }
}

/** Runs a crop of the work with every op compared with its reference. */
async function checkCrop(work: Work): Promise<void> {
  const { check } = debug();
  const small = cropped(work);
  const inputs = drawInputs(small);
  await synchronize();
  setDebug({ check: "reference" });
  try {
    scope(() => void latheWork(small, inputs)());
    await synchronize();
  } finally {
    setDebug({ check });
    for (const t of inputs) t.dispose();
  }
}

/** The loss of the first steps must be a number. */
async function checkStep(run: () => readonly Tensor[]): Promise<void> {
  for (let i = 0; i < 3; i++) {
    const [loss] = scope(run);
    const value = await loss!.item();
    loss!.dispose();
    if (!Number.isFinite(value)) throw new Error(`the loss of step ${i + 1} is ${value}`);
  }
}
