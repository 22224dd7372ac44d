/** @file Metrics that need everything at once, on the host in float64: rankings and texts. */

import { checkOptions } from "../engine/arguments.ts";

/**
 * Average precision of scores against relevance 0 or 1: the sum over distinct scores, from the highest
 * down, of (R_n - R_{n-1}) · P_n, with recall R_n and precision P_n of all scores down to the n-th. Equal
 * scores form one step. 0 when nothing is relevant.
 *
 * Source: scikit-learn's `average_precision_score`.
 *
 * @throws {TypeError} If the lengths differ or a score is NaN.
 */
export function averagePrecision(scores: ArrayLike<number>, relevant: ArrayLike<number>): number {
  const n = scores.length;
  if (relevant.length !== n) {
    throw new TypeError(
      `Cannot take the averagePrecision of ${n} scores and ${relevant.length} labels: give a label a score`,
    );
  }
  const order = new Uint32Array(n);
  let positives = 0;
  for (let i = 0; i < n; i++) {
    if (Number.isNaN(scores[i])) {
      throw new TypeError(`Cannot take the averagePrecision: score ${i} is NaN`);
    }
    order[i] = i;
    if (relevant[i]) positives++;
  }
  if (positives === 0) return 0;
  order.sort((a, b) => scores[b]! - scores[a]! || a - b);
  let [hits, recall, total] = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    if (relevant[order[i]!]) hits++;
    if (i + 1 < n && scores[order[i + 1]!] === scores[order[i]!]) continue;
    const reached = hits / positives;
    total += (reached - recall) * hits / (i + 1);
    recall = reached;
  }
  return total;
}

/**
 * Mean over classes of {@linkcode averagePrecision} after `paddingFactor` (5) rows of ones were added to
 * scores and labels, so that classes without positives count, too. Scores are rows of C numbers; labels
 * are class ids, or rows of C zeros and ones.
 *
 * Source: the metric of BirdCLEF 2023.
 *
 * @throws {TypeError} If rows differ in number or length.
 * @throws {RangeError} If a class id is outside 0 to C - 1.
 */
export function paddedCmap(
  scores: readonly ArrayLike<number>[],
  labels: ArrayLike<number> | readonly ArrayLike<number>[],
  options: { paddingFactor?: number } = {},
): number {
  checkOptions("paddedCmap", options, "paddedCmap(scores, labels, { paddingFactor: 5 })");
  const { paddingFactor = 5 } = options;
  const [N, C] = [scores.length, scores[0]?.length ?? 0];
  if (N === 0 || C === 0 || labels.length !== N) {
    throw new TypeError(
      `Cannot take the paddedCmap of ${N} rows of ${C} scores and ${labels.length} labels: give as ` +
        "many of both, at least one",
    );
  }
  const relevance = Array.from({ length: N }, (_, i) => {
    const label = labels[i]!;
    if (typeof label !== "number") return label;
    if (!Number.isInteger(label) || label < 0 || label >= C) {
      throw new RangeError(`Cannot use class ${label} of row ${i}: ids must be 0 to ${C - 1}`);
    }
    return label;
  });
  for (let i = 0; i < N; i++) {
    const label = relevance[i]!;
    if (scores[i]!.length === C && (typeof label === "number" || label.length === C)) continue;
    throw new TypeError(`Cannot take the paddedCmap: row ${i} must have ${C} numbers`);
  }
  const column = new Float64Array(N + paddingFactor).fill(1);
  const wanted = new Uint8Array(N + paddingFactor).fill(1);
  let total = 0;
  for (let c = 0; c < C; c++) {
    for (let i = 0; i < N; i++) {
      const label = relevance[i]!;
      column[i] = scores[i]![c]!;
      wanted[i] = Number(typeof label === "number" ? label === c : label[c] !== 0);
    }
    total += averagePrecision(column, wanted);
  }
  return total / C;
}

/** Options of {@linkcode bleu}. */
export interface BleuOptions {
  /** Longest n-gram that counts; default 4. */
  maxN?: number;
}

/**
 * BLEU of a corpus: exp(min(0, 1 - r / c)) · (p_1 · … · p_N)^(1/N), 0 to 1. p_n is the share of the
 * candidates' n-grams that a reference of theirs has, each counted at most as often as in that
 * reference; c and r are the lengths of all candidates and of their references nearest in length (the
 * shorter of two as near). 0 if some p_n is 0.
 *
 * Tokens are words or ids. Each candidate has one or more references.
 *
 * Source: Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002.
 *
 * @throws {TypeError} If a candidate has no reference.
 * @throws {RangeError} If maxN is not a whole number above 0.
 */
export function bleu<T extends string | number>(
  candidates: readonly ArrayLike<T>[],
  references: readonly (readonly ArrayLike<T>[])[],
  options: BleuOptions = {},
): number {
  checkOptions("bleu", options, "bleu(candidates, references, { maxN: 4 })");
  const { maxN = 4 } = options;
  if (!Number.isInteger(maxN) || maxN < 1) {
    throw new RangeError(`Cannot take bleu with maxN ${maxN}: it must be a whole number above 0`);
  }
  const without = candidates.findIndex((_, i) => !references[i]?.length);
  if (without >= 0 || references.length !== candidates.length) {
    throw new TypeError(
      `Cannot take bleu of ${candidates.length} candidates and ${references.length} lists of ` +
        "references: each candidate needs one or more",
    );
  }
  const [hits, totals] = [new Float64Array(maxN), new Float64Array(maxN)];
  let [length, nearest] = [0, 0];
  for (const [i, candidate] of candidates.entries()) {
    const own = references[i]!;
    length += candidate.length;
    nearest += own.map((r) => r.length).reduce((best, l) => {
      const gap = Math.abs(l - candidate.length) - Math.abs(best - candidate.length);
      return gap < 0 || (gap === 0 && l < best) ? l : best;
    });
    for (let n = 1; n <= maxN; n++) {
      const most = new Map<string, number>();
      for (const reference of own) {
        for (const [gram, count] of grams(reference, n)) {
          most.set(gram, Math.max(most.get(gram) ?? 0, count));
        }
      }
      for (const [gram, count] of grams(candidate, n)) {
        hits[n - 1]! += Math.min(count, most.get(gram) ?? 0);
        totals[n - 1]! += count;
      }
    }
  }
  if (hits.some((h) => h === 0)) return 0;
  const logs = hits.reduce((sum, h, n) => sum + Math.log(h / totals[n]!), 0);
  return Math.exp(Math.min(0, 1 - nearest / length) + logs / maxN);
}

/** How often each n-gram occurs. */
function grams<T extends string | number>(tokens: ArrayLike<T>, n: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let i = 0; i + n <= tokens.length; i++) {
    const gram = JSON.stringify(Array.from({ length: n }, (_, k) => tokens[i + k]));
    counts.set(gram, (counts.get(gram) ?? 0) + 1);
  }
  return counts;
}
