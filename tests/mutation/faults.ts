/** Faults planted in a kernel's text, one at a time: small slips that a person could make. */

import type { Kernel } from "../../engine/kernels/kernel.ts";

/** A kernel's text with one fault. */
export interface Fault {
  readonly what: string;
  /** Which slip at which place: the same in the texts that one kernel has for several dtypes. */
  readonly slip: string;
  readonly code: string;
}

type Planted = Omit<Fault, "slip">;

/** A part of the text, from `start` up to `end`. */
interface Span {
  readonly start: number;
  readonly end: number;
}

/** Element type of each storage buffer, and whether it is written. */
function buffersOf(code: string): Map<string, { type: string; written: boolean }> {
  const found = new Map<string, { type: string; written: boolean }>();
  for (const m of code.matchAll(/var<storage, (read|read_write)> (\w+): array<([\w<>]+)>;/g)) {
    found.set(m[2]!, { type: m[3]!, written: m[1] === "read_write" });
  }
  return found;
}

/** The bracket's content, given the place after `[`. */
function bracketed(code: string, start: number): Span {
  let depth = 1;
  let end = start;
  while (depth > 0 && end < code.length) {
    if (code[end] === "[") depth++;
    if (code[end] === "]") depth--;
    end++;
  }
  return { start, end: end - 1 };
}

function replaced(code: string, { start, end }: Span, by: string): string {
  return code.slice(0, start) + by + code.slice(end);
}

/** The first and the last of a list. */
function ends<T>(list: readonly T[]): T[] {
  return list.length > 1 ? [list[0]!, list.at(-1)!] : [...list];
}

/** Stored values 1 % too large; whole numbers, which may be the bits of floats, far off. */
function* scaledStores(code: string): Generator<Planted> {
  for (const [name, { type, written }] of buffersOf(code)) {
    if (!written) continue;
    const sites: Span[] = [];
    for (const m of code.matchAll(new RegExp(`\\b${name}\\[`, "g"))) {
      const { end } = bracketed(code, m.index + m[0].length);
      const assigned = /^\] [+-]?= /.exec(code.slice(end))?.[0];
      if (!assigned) continue;
      const start = end + assigned.length;
      sites.push({ start, end: code.indexOf(";", start) });
    }
    for (const site of ends(sites)) {
      const value = code.slice(site.start, site.end);
      const wrong = /f16/.test(type)
        ? `(${value}) * 1.01h`
        : /f32/.test(type)
        ? `(${value}) * 1.01`
        : type === "i32"
        ? `(${value}) + 1`
        : `(${value}) * 3u + 1u`;
      yield { what: `${name} stored wrong: ${wrong}`, code: replaced(code, site, wrong) };
    }
  }
}

/** Atomics that change nothing. */
function* idleAtomics(code: string): Generator<Planted> {
  for (const m of ends([...code.matchAll(/\batomic(Add|Max|Or)\((&[^,]+), ([^;]+)\);/g)])) {
    const wrong = `atomic${m[1]}(${m[2]}, (${m[3]}) * 0);`;
    yield {
      what: `idle: ${wrong}`,
      code: replaced(code, { start: m.index, end: m.index + m[0].length }, wrong),
    };
  }
}

/** Bounds that end one early: the last element is left out. */
function* shortBounds(code: string): Generator<Planted> {
  const forms = [
    [/\bif \((\w+) >= (p\.\w+)\) \{ return; \}/g, "if ($1 + 1u >= $2) { return; }"],
    [/\bfor \((var \w+ = [^;]+); (\w+) < (p\.\w+);/g, "for ($1; $2 + 1u < $3;"],
  ] as const;
  for (const [form, by] of forms) {
    for (const m of ends([...code.matchAll(form)])) {
      const wrong = m[0].replace(new RegExp(form.source), by);
      yield {
        what: `bound: ${wrong}`,
        code: replaced(code, { start: m.index, end: m.index + m[0].length }, wrong),
      };
    }
  }
}

/** Two strides of an operand changed for each other. */
function* swappedStrides(code: string): Generator<Planted> {
  const main = code.indexOf("fn main");
  const body = code.slice(main);
  for (const prefix of new Set([...body.matchAll(/\* p\.([a-z_]+)0\b/g)].map((m) => m[1]!))) {
    const [first, second] = [`p.${prefix}0`, `p.${prefix}1`];
    if (!new RegExp(`\\* ${second.replace(".", "\\.")}\\b`).test(body)) continue;
    const swapped = body.replace(
      new RegExp(`\\* p\\.${prefix}([01])\\b`, "g"),
      (_, d) => `* ${d === "0" ? second : first}`,
    );
    yield { what: `strides ${first} and ${second} swapped`, code: code.slice(0, main) + swapped };
  }
}

/** Whether a loop goes on by a variable: without its steps it would never end. */
function isCounter(code: string, name: string): boolean {
  return new RegExp(`\\b(while \\(|for \\([^;]*; )${name} [<>]`).test(code);
}

/** Sums that forget what they had. */
function* droppedTerms(code: string): Generator<Planted> {
  const sums = [...code.matchAll(/\n\s*(\w+) \+= [^;\n]*;/g)].filter((m) =>
    !/_at$/.test(m[1]!) && !isCounter(code, m[1]!)
  );
  for (const m of ends(sums)) {
    const at = m.index + m[0].indexOf(" +=");
    yield {
      what: `term dropped: ${m[0].trim().replace("+=", "=")}`,
      code: replaced(code, { start: at, end: at + 3 }, " ="),
    };
  }
}

/** Elements read one place on. */
function* shiftedReads(code: string): Generator<Planted> {
  const main = code.lastIndexOf("fn main");
  for (const [name, { written }] of buffersOf(code)) {
    if (written) continue;
    const m = new RegExp(`\\b${name}\\[`).exec(code.slice(main)) ??
      new RegExp(`\\b${name}\\[`).exec(code);
    if (!m) continue;
    const from = code.slice(main).includes(m[0]) ? main : 0;
    const site = bracketed(code, from + m.index + m[0].length);
    const wrong = `(${code.slice(site.start, site.end)}) + 1`;
    yield { what: `read one on: ${name}[${wrong}]`, code: replaced(code, site, wrong) };
  }
}

/** Turns of a loop that a thread may take; cases that need more are left out. */
const MOST_TURNS = 1 << 12;

/**
 * A kernel's text with loops that end: a bound that a fault writes or reads wrong would make billions of
 * turns. Every loop has a count of its own, so that threads that meet at a barrier leave it together.
 * Kernels with subgroup functions stay as they are: no bound of theirs comes from a buffer.
 */
export function fused(code: string): string {
  if (/subgroup|private> turns/.test(code)) return code;
  let loops = 0;
  const ending = code.replace(/\n *(?:for|while) \([^{}]*\) \{/g, (head) => {
    const count = `turns[${loops++}]`;
    return `${head} ${count} += 1u; if (${count} > ${MOST_TURNS}u) { break; }`;
  });
  if (loops === 0) return code;
  return ending.replace(
    "\n@compute",
    `\nvar<private> turns: array<u32, ${loops}>;\n@compute`,
  );
}

/** Every fault for a kernel, in a fixed order. */
export function faultsOf({ code }: Kernel): Fault[] {
  return [scaledStores, idleAtomics, shortBounds, swappedStrides, droppedTerms, shiftedReads]
    .flatMap((plant) =>
      [...plant(code)].map((planted, i) => ({ ...planted, slip: `${plant.name} ${i}` }))
    )
    .filter((planted) => planted.code !== code)
    .map((planted) => ({ ...planted, code: fused(planted.code) }));
}

/** Faults that change no result: kernel, fault and why. */
export const EQUIVALENT: readonly (readonly [RegExp, RegExp, string])[] = [
  [/^(max|min)_mask_/, /stored wrong/, "the mask is divided by its own sum"],
  [/^replaceNonFinite_gradient_/, /read one on: b_v1/, "of x only counts whether it is finite"],
  [/^norm_root_contiguous$/, /\+ 3u/, "there is one norm"],
  [/^roofline_/, /./, "it is timed, and what it writes is read by none"],
  [
    /^conv2d_direct\w*_\d+x[123](_|$)/,
    /^bound: for \(var c0/,
    "where fewer than four channels are read at once they are all there are",
  ],
  [/^batch_norm_count/, /\+ 3u/, "there is one count"],
  [/^(amp_update_scale|winograd_input)$/, /\(0\.0\)/, "the stored number is 0"],
  [/^scan_\w+_totals_/, /^bound: if/, "nothing follows the last block, so its total is not read"],
  [/_checked$/, /p\.bad/, "only bad indices reach it, and those are thrown; indexing_test.ts"],
  [/^sort_blocks_bool/, /^keys /, "keys are only compared, and these keep their order"],
  [/^(multibox|box_nms)_/, /^keys .*1\.01/, "keys are only compared, and these keep their order"],
  [/^multibox_match$/, /^best /, "overlaps are only compared with each other there"],
  [
    /^cross_entropy_(merged_)?sum(_|$)/,
    /\(count\)|count = |counts\[|target_ids/,
    "only the mean divides by the rows that count",
  ],
  [
    /^((log_)?softmax|cross_entropy_rows)(_|$)/,
    /^read one on: x\[\(first\)/,
    "the search for a row's greatest starts at any of its elements",
  ],
  [
    /^norm_grad_merge(_bias_f\d+)?(_statistics)?(_lanes\d+)?$/,
    /^scaled_sums /,
    "no weight asks for them",
  ],
  [
    /^cross_entropy_merged_/,
    /^term dropped: (sum|count) = /,
    "there are no more shares than lanes",
  ],
  [/^moment_shares_f16/, /^term dropped: sum = /, "what a mean is off by is made good"],
  [/^moment_merge_/, /^read one on: .*\(2u \* first\)/, "means may differ from any number"],
  [/^norm_grad_merge_statistics_lanes\d+$/, /^sums /, "neither weight nor bias asks for them"],
  [/^(any|all)_rows/, /\(a\) \* 1\.01/, "a share is only compared with 0"],
  [/^(any|all)(_fours(_apart)?)?$/, /stored wrong/, "a bool is stored, and 1.01 of one is 1"],
  [/^square_shares_/, /\(mean\)/, "root mean square norms have no mean"],
  [/^square_shares_/, /a = p\.step_a/, "they are of rows: A is 1, so a share's a is 0 throughout"],
  [
    /^multibox_threshold_mining$/,
    /var c = 1u;|cls_pred\[\(first\) \+ 1\]/,
    "top shifts a softmax: any that leaves the exps finite gives the same",
  ],
];
