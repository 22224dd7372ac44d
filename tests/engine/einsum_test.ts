/** Einstein summation against sums written out on the host. */
import { assertEquals, assertThrows } from "@std/assert";
import { einsum, gradcheck, init, readAll, Tensor, tensor } from "../../mod.ts";
import { assertClose } from "../helpers/close.ts";
import { Draw } from "../helpers/draw.ts";

await init();

function leaf(name: string, shape: readonly number[]): Tensor {
  const draw = new Draw(name);
  const count = shape.reduce((n, s) => n * s, 1);
  const values = Float32Array.from({ length: count }, () => 2 * draw.uniform() - 1);
  return tensor(values, { shape, requiresGrad: true });
}

/** Σ over all labels, one assignment of indices at a time; labels are single letters. */
function byHand(
  inputs: readonly string[],
  output: string,
  operands: readonly { shape: readonly number[]; data: ArrayLike<number> }[],
): { shape: number[]; data: number[]; magnitude: number[] } {
  const sizes = new Map<string, number>();
  inputs.forEach((term, k) =>
    [...term].forEach((l, d) => {
      sizes.set(l, Math.max(sizes.get(l) ?? 0, operands[k]!.shape[d]!));
    })
  );
  const labels = [...sizes.keys()];
  const shape = [...output].map((l) => sizes.get(l)!);
  const length = shape.reduce((n, s) => n * s, 1);
  const data = new Array<number>(length).fill(0);
  const magnitude = new Array<number>(length).fill(0);
  const total = labels.reduce((n, l) => n * sizes.get(l)!, 1);
  for (let step = 0; step < total; step++) {
    const at = new Map<string, number>();
    let rest = step;
    for (const l of labels) {
      at.set(l, rest % sizes.get(l)!);
      rest = Math.floor(rest / sizes.get(l)!);
    }
    const term = inputs.reduce((p, t, k) => {
      const { shape, data } = operands[k]!;
      const i = [...t].reduce((n, l, d) => n * shape[d]! + Math.min(at.get(l)!, shape[d]! - 1), 0);
      return p * data[i]!;
    }, 1);
    const place = [...output].reduce((n, l) => n * sizes.get(l)! + at.get(l)!, 0);
    data[place]! += term;
    magnitude[place]! += Math.abs(term);
  }
  return { shape, data, magnitude };
}

const EQUATIONS: [string, number[][]][] = [
  ["ij,jk->ik", [[3, 4], [4, 2]]],
  ["bij,bjk->bik", [[2, 3, 4], [2, 4, 5]]],
  ["bhqd,bhkd->bhqk", [[2, 3, 4, 5], [2, 3, 6, 5]]],
  ["ij,kj->ki", [[3, 4], [2, 4]]],
  ["ij->ji", [[3, 4]]],
  ["ij->", [[3, 4]]],
  ["ij->j", [[3, 4]]],
  ["ii->", [[4, 4]]],
  ["ii->i", [[4, 4]]],
  ["iji->j", [[3, 4, 3]]],
  ["iiij->ji", [[3, 3, 3, 2]]],
  ["i,j->ij", [[3], [4]]],
  ["i,i->", [[5], [5]]],
  ["i,i->i", [[5], [5]]],
  ["ij,ij->i", [[3, 4], [3, 4]]],
  ["ij,jk,kl->il", [[2, 3], [3, 4], [4, 5]]],
  ["ij,j,jk->ik", [[2, 3], [3], [3, 4]]],
  ["bn,anm,bm->ba", [[2, 3], [4, 3, 5], [2, 5]]],
  ["ij,kl->jl", [[2, 3], [4, 5]]],
  ["ii,ij->j", [[3, 3], [3, 4]]],
  ["i,->i", [[3], []]],
  ["ij,ij->ij", [[1, 4], [3, 1]]],
  ["ij,jk->k", [[2, 3], [1, 4]]],
  ["iz,z->i", [[2, 0], [0]]],
  ["Ab,bA->A", [[2, 3], [3, 2]]],
];

Deno.test("einsum gives the sum that its equation writes", async () => {
  for (const [equation, shapes] of EQUATIONS) {
    const operands = shapes.map((s, k) => leaf(`${equation} ${k}`, s));
    const [left, right] = equation.split("->") as [string, string];
    const y = einsum(equation, ...operands);
    const [got, ...given] = await readAll([y, ...operands]);
    const want = byHand(
      left.split(","),
      right,
      shapes.map((shape, k) => ({
        shape,
        data: given[k]!,
      })),
    );
    assertEquals(y.shape, want.shape, equation);
    // At most 30 products of up to three roundings and as many additions.
    const atol = 40 * 2 ** -24 * want.magnitude.reduce((m, v) => Math.max(m, v), 0);
    assertClose(got!, want.data, { atol, what: equation });
  }
});

Deno.test("einsum has the gradients of its sums", async () => {
  for (const equation of ["bij,bjk->bik", "iji->j", "ii,ij->j", "ij,ij->ij", "bn,anm,bm->ba"]) {
    const shapes = EQUATIONS.find(([e]) => e === equation)![1];
    const operands = shapes.map((s, k) => leaf(`gradient ${equation} ${k}`, s));
    await gradcheck((...x) => einsum(equation, ...x), operands);
  }
});

Deno.test("einsum orders an implied output by the alphabet and spreads an ellipsis", async () => {
  const a = tensor([[1, 2], [3, 4]]);
  const v = tensor([1, 10]);
  const batch = tensor(new Float32Array(24).map((_, i) => i), { shape: [2, 3, 2, 2] });
  const [implied, trace, spread, mixed, ints] = await readAll([
    einsum("ba", a),
    einsum("ii", a),
    einsum("...ij,j->...i", batch, v),
    einsum(" i j , j ", a, v),
    einsum("ij,jk->ik", a.to("i32"), a.to("i32")),
  ]);
  assertEquals([...implied!], [1, 3, 2, 4]);
  assertEquals([...trace!], [5]);
  assertEquals([...spread!], Array.from({ length: 12 }, (_, i) => 2 * i + 10 * (2 * i + 1)));
  assertEquals([...mixed!], [21, 43]);
  assertEquals([...ints!], [7, 10, 15, 22]);
  assertEquals(einsum("...ij->...ji", batch).shape, [2, 3, 2, 2]);
  assertEquals(einsum("...,...", batch, a).shape, [2, 3, 2, 2]);
  assertEquals(einsum("...i,...i->...", batch, tensor([[1, 2]])).shape, [2, 3, 2]);
});

Deno.test("einsum says what is wrong with an equation", () => {
  const a = tensor([[1, 2, 3], [4, 5, 6]]);
  const cases: [string, Tensor[], string][] = [
    ["ij,jk->ik", [a], "it has 2 terms for 1 tensors"],
    ["ij,jk->ik", [a, a], '"j" is 3 in one place and 2 in [2, 3]'],
    ["ijk->i", [a], "term 0 names 3 dimensions, the tensor [2, 3] has 2"],
    ["i->i", [a], "term 0 names 1 dimensions, the tensor [2, 3] has 2"],
    ["ij->ik", [a], 'the output\'s "k" is in no term'],
    ["ij->ii", [a], 'the output names "i" twice'],
    ["i1->i", [a], '"1" stands where a letter or "..." belongs'],
    ["i..j->i", [a], '"." stands where a letter or "..." belongs'],
    ["ij->i->j", [a], 'it has more than one "->"'],
    ["...i...->i", [a], '"...i..." has more than one ellipsis'],
    ["ii->i", [a], '"i" is 2 in one place and 3 in [2, 3]'],
  ];
  for (const [equation, operands, reason] of cases) {
    assertThrows(
      () => einsum(equation, ...operands),
      TypeError,
      `Cannot einsum "${equation}": ${reason}`,
    );
  }
});
