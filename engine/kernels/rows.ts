/**
 * Rows of a contiguous [rows, C] that one thread owns alone, or a workgroup together: text that both share.
 * A lane walks the row from `lane` on, `lanes` apart; what the lanes found meets in a tree whose order the
 * number of lanes fixes. Elements are read one by one, or four neighbours at a time where C is whole fours,
 * and then p.C counts fours.
 */

import { asFloats, LINEAR, linearThread } from "./kernel.ts";

/** Who owns a row. */
export interface Lanes {
  /** Threads of a row: 1, or a power of two. */
  readonly lanes: number;
}

/** Who owns a row, and how it is read. */
export interface RowLayout extends Lanes {
  readonly fours: boolean;
}

/** The parts of four, or the whole of one. */
export function partsOf(value: string, { fours }: RowLayout): string[] {
  return fours ? ["x", "y", "z", "w"].map((part) => `${value}.${part}`) : [value];
}

/** WGSL of f of each part. */
export function eachPart(value: string, layout: RowLayout, f: (part: string) => string): string {
  const parts = partsOf(value, layout).map(f);
  return layout.fours ? `vec4(${parts.join(", ")})` : parts[0]!;
}

/** WGSL of element `index` of `buffer` as f32, or of four. */
export function rowElement(
  buffer: string,
  index: string,
  layout: RowLayout & { readonly dtype: "f32" | "f16" },
): string {
  return asFloats(`${buffer}[${index}]`, layout.dtype, layout.fours);
}

/** First lines of a body: `row`, its first element `first`, and the thread's `lane`. */
export function rowStart(layout: RowLayout): string {
  return `${laneStart("row", "p.rows", layout)}
  let first = row * p.C;`;
}

/** First lines of a body: `name` is the number of what `lanes` threads own, and `lane` the thread's own. */
export function laneStart(name: string, count: string, { lanes }: Lanes): string {
  return lanes === 1
    ? `${linearThread(name, count)}
  let lane = 0u;`
    : `  let ${name} = wid.y * nwg.x + wid.x;
  if (${name} >= ${count}) { return; }
  let lane = lid.x;`;
}

/** WGSL of a loop over the lane's elements `c`. */
export function eachColumn({ lanes }: Lanes, body: string): string {
  return `for (var c = lane; c < p.C; c += ${lanes}u) { ${body} }`;
}

/** Threads of a workgroup. */
export function rowWorkgroup({ lanes }: Lanes): [number, number, number] {
  return [lanes === 1 ? LINEAR : lanes, 1, 1];
}

/** WGSL that combines the lanes' `row_values` into the first, in a tree; all have written theirs. */
export function meet(lanes: number, combine: (a: string, b: string) => string): string {
  const steps: string[] = [];
  for (let half = lanes / 2; half >= 1; half /= 2) {
    const both = combine("row_values[lane]", `row_values[lane + ${half}u]`);
    steps.push(`  if (lane < ${half}u) { row_values[lane] = ${both}; }
  workgroupBarrier();`);
  }
  return steps.join("\n");
}

/**
 * WGSL that brings the first of the lanes' `row_values` and `row_places` to the front, in a tree; all have
 * written theirs. The kernel's `precedes(x, place, best, best_place)` is their order.
 */
export function meetFirst(lanes: number): string {
  const steps: string[] = [];
  for (let half = lanes / 2; half >= 1; half /= 2) {
    const other = `lane + ${half}u`;
    steps.push(`  if (lane < ${half}u) {
    let x = row_values[${other}];
    let place = row_places[${other}];
    if (precedes(x, place, row_values[lane], row_places[lane])) {
      row_values[lane] = x;
      row_places[lane] = place;
    }
  }
  workgroupBarrier();`);
  }
  return steps.join("\n");
}

/** Workgroup memory of {@linkcode meetFirst} for values of a type. */
export function meetMemory(lanes: number, type: string): string {
  return `
var<workgroup> row_values: array<${type}, ${lanes}>;
var<workgroup> row_places: array<u32, ${lanes}>;`;
}

/**
 * `row_max` and `row_sum` of an f32, or of four: over the four, and over the lanes of the row, which all get
 * the same.
 */
export function rowModule({ lanes, fours }: RowLayout): string {
  const four = (f: (a: string, b: string) => string) => f(f("v.x", "v.y"), f("v.z", "v.w"));
  const combine = {
    max: (a: string, b: string) => `max(${a}, ${b})`,
    sum: (a: string, b: string) => `(${a} + ${b})`,
  };
  const reduction = (name: "max" | "sum") => {
    const own = fours ? four(combine[name]) : "v";
    const head = `fn row_${name}(v: ${fours ? "vec4<f32>" : "f32"}, lane: u32) -> f32 {`;
    if (lanes === 1) return `${head} return ${own}; }`;
    return `${head}
  row_values[lane] = ${own};
  workgroupBarrier();
${meet(lanes, combine[name])}
  let result = row_values[0];
  workgroupBarrier();
  return result;
}`;
  };
  const memory = lanes === 1 ? "" : `var<workgroup> row_values: array<f32, ${lanes}>;\n`;
  return `\n${memory}${reduction("max")}\n${reduction("sum")}`;
}

/** What a kernel's name tells of its layout. */
export function rowVariant({ lanes, fours = false }: Lanes & Partial<RowLayout>): string {
  return `${lanes === 1 ? "" : `_lanes${lanes}`}${fours ? "_fours" : ""}`;
}
