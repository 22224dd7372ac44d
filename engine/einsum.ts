/** Einstein summation: the equation read, and each product done as one batched matrix product. */

import { apply } from "./apply.ts";
import { isFloat } from "./dtype.ts";
import { diagonal } from "./ops/rearrange.ts";
import { show } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/** An equation with one label a dimension; dimensions under an ellipsis are `.0`, `.1`, … from the right. */
interface Equation {
  readonly inputs: readonly (readonly string[])[];
  readonly output: readonly string[];
  /** Size of each label. */
  readonly sizes: ReadonlyMap<string, number>;
}

/** A tensor whose dimensions have distinct labels. */
interface Term {
  readonly tensor: Tensor;
  readonly labels: readonly string[];
}

const ELLIPSIS = "...";

function refuse(equation: string, reason: string): never {
  throw new TypeError(`Cannot einsum "${equation}": ${reason}`);
}

/** Letters of one side of a term, with the ellipsis as one symbol. */
function symbols(equation: string, term: string): string[] {
  const list = term.match(/\.\.\.|[^\s]/g) ?? [];
  for (const s of list) {
    if (s !== ELLIPSIS && !/^[A-Za-z]$/.test(s)) {
      refuse(equation, `"${s}" stands where a letter or "..." belongs`);
    }
  }
  if (list.filter((s) => s === ELLIPSIS).length > 1) {
    refuse(equation, `"${term.trim()}" has more than one ellipsis`);
  }
  return list;
}

/** `...` written out as `count` labels. */
function spelled(list: readonly string[], count: number): string[] {
  return list.flatMap((s) =>
    s === ELLIPSIS ? Array.from({ length: count }, (_, i) => `.${count - 1 - i}`) : [s]
  );
}

/** Reads `equation` for operands of the given shapes. */
function parse(equation: string, shapes: readonly (readonly number[])[]): Equation {
  const sides = equation.split("->");
  if (sides.length > 2) refuse(equation, 'it has more than one "->"');
  const terms = sides[0]!.split(",").map((t) => symbols(equation, t));
  if (terms.length !== shapes.length) {
    refuse(equation, `it has ${terms.length} terms for ${shapes.length} tensors`);
  }
  const sizes = new Map<string, number>();
  let widest = 0;
  const inputs = terms.map((list, k) => {
    const shape = shapes[k]!;
    const named = list.filter((s) => s !== ELLIPSIS).length;
    const hidden = shape.length - named;
    if (hidden < 0 || (hidden > 0 && named === list.length)) {
      refuse(
        equation,
        `term ${k} names ${named} dimensions, the tensor ${show(shape)} has ${shape.length}`,
      );
    }
    if (named < list.length) widest = Math.max(widest, hidden);
    const labels = spelled(list, hidden);
    labels.forEach((label, d) => {
      const [size, known] = [shape[d]!, sizes.get(label) ?? 1];
      if (size !== known && size !== 1 && known !== 1) {
        const name = label.startsWith(".") ? "the ellipsis" : `"${label}"`;
        refuse(equation, `${name} is ${known} in one place and ${size} in ${show(shape)}`);
      }
      if (!sizes.has(label) || known === 1) sizes.set(label, size);
    });
    return labels;
  });
  const all = inputs.flat();
  const free = [...new Set(all)].filter((l) => !l.startsWith("."));
  const output = sides.length === 2 ? spelled(symbols(equation, sides[1]!), widest) : [
    ...spelled([ELLIPSIS], widest),
    ...free.filter((l) => all.indexOf(l) === all.lastIndexOf(l)).sort(),
  ];
  output.forEach((label, i) => {
    if (!sizes.has(label)) refuse(equation, `the output's "${label}" is in no term`);
    if (output.indexOf(label) !== i) refuse(equation, `the output names "${label}" twice`);
  });
  return { inputs, output, sizes };
}

/** A term without repeated labels, without sizes of 1 that broadcast, and without labels nobody needs. */
function simplified(
  term: Term,
  sizes: ReadonlyMap<string, number>,
  needed: ReadonlySet<string>,
): Term {
  let { tensor } = term;
  let labels = [...term.labels];
  for (let i = 0; i < labels.length; i++) {
    const j = labels.indexOf(labels[i]!, i + 1);
    if (j < 0) continue;
    const label = labels[i]!;
    // A size of 1 beside a larger one broadcasts, so the other dimension alone remains.
    if (tensor.shape[i] !== tensor.shape[j]) {
      const single = tensor.shape[i] === 1 ? i : j;
      tensor = tensor.squeeze(single);
      labels.splice(single, 1);
    } else {
      tensor = apply(diagonal, [tensor], { offset: 0, dim1: i, dim2: j })[0]!;
      labels = [...labels.filter((_, d) => d !== i && d !== j), label];
    }
    i = -1;
  }
  const single = labels.map((l, d) => tensor.shape[d] === 1 && sizes.get(l) !== 1);
  if (single.includes(true)) {
    tensor = tensor.reshape(tensor.shape.filter((_, d) => !single[d]));
    labels = labels.filter((_, d) => !single[d]);
  }
  const summed = labels.flatMap((l, d) => needed.has(l) ? [] : [d]);
  if (summed.length > 0) {
    tensor = tensor.sum(summed);
    labels = labels.filter((l) => needed.has(l));
  }
  return { tensor, labels };
}

/** The product of two terms, summed over labels that are in both and not in `needed`. */
function product(a: Term, b: Term, needed: ReadonlySet<string>): Term {
  const shared = a.labels.filter((l) => b.labels.includes(l));
  const batch = shared.filter((l) => needed.has(l));
  const inner = shared.filter((l) => !needed.has(l));
  const left = a.labels.filter((l) => !shared.includes(l));
  const right = b.labels.filter((l) => !shared.includes(l));
  const size = (t: Term, list: readonly string[]) =>
    list.map((l) => t.tensor.shape[t.labels.indexOf(l)]!);
  const ordered = (t: Term, list: readonly string[]) =>
    t.tensor.permute(list.map((l) => t.labels.indexOf(l)));
  const labels = [...batch, ...left, ...right];
  const shape = [...size(a, batch), ...size(a, left), ...size(b, right)];
  const count = (sizes: readonly number[]) => sizes.reduce((n, s) => n * s, 1);
  if (inner.length === 0 || !isFloat(a.tensor.dtype) || !isFloat(b.tensor.dtype)) {
    const ones = (list: readonly string[]) => list.map(() => 1);
    const x = ordered(a, [...batch, ...left, ...inner])
      .reshape([...size(a, batch), ...size(a, left), ...ones(right), ...size(a, inner)]);
    const y = ordered(b, [...batch, ...right, ...inner])
      .reshape([...size(b, batch), ...ones(left), ...size(b, right), ...size(b, inner)]);
    const z = x.mul(y);
    return { labels, tensor: inner.length > 0 ? z.sum(inner.map((_, i) => -1 - i)) : z };
  }
  const [B, M] = [size(a, batch), count(size(a, left))];
  const [K, N] = [count(size(a, inner)), count(size(b, right))];
  const x = ordered(a, [...batch, ...left, ...inner]).reshape([...B, M, K]);
  const y = ordered(b, [...batch, ...inner, ...right]).reshape([...B, K, N]);
  return { labels, tensor: x.matmul(y).reshape(shape) };
}

/**
 * Sums products of elements over the labels that the output leaves out: one letter a dimension,
 * terms by commas, the output after `->`. Without `->` the output has the letters that occur once, in
 * alphabetical order. A letter twice in a term takes the diagonal; `...` stands for dimensions that
 * broadcast. Terms are multiplied from left to right, each pair as one batched matrix product.
 *
 * "bij,bjk->bik": y[b, i, k] = Σⱼ a[b, i, j] · b[b, j, k]
 *
 * @throws {TypeError} if the equation cannot be read, or does not fit the tensors
 *
 * @example
 * ```ts
 * import { einsum, init, tensor } from "../mod.ts";
 * await init();
 * const a = tensor([[1, 2], [3, 4]]);
 * console.log(await einsum("ij,kj->ik", a, a).array()); // [[5, 11], [11, 25]]
 * console.log(await einsum("ii->", a).item()); // 5
 * ```
 */
export function einsum(equation: string, ...operands: readonly Tensor[]): Tensor {
  const { inputs, output, sizes } = parse(equation, operands.map((t) => t.shape));
  const terms = operands.map((tensor, k) => ({ tensor, labels: inputs[k]! }));
  const neededAfter = (k: number) => new Set([...output, ...inputs.slice(k + 1).flat()]);
  const others = (k: number) => new Set([...output, ...inputs.flatMap((l, i) => i === k ? [] : l)]);
  let result: Term | undefined;
  terms.forEach((term, k) => {
    const simple = simplified(term, sizes, others(k));
    result = result ? product(result, simple, neededAfter(k)) : simple;
    // A label that only the terms so far had, and that one of them lacked, is still to be summed.
    result = simplified(result, sizes, neededAfter(k));
  });
  const { tensor, labels } = result!;
  return tensor.permute(output.map((l) => labels.indexOf(l)));
}
