import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  gradcheck,
  init,
  manualSeed,
  nn,
  ones,
  readAll,
  scaledDotProductAttention,
  tensor,
  zeros,
} from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";
import { Draw } from "../../helpers/draw.ts";

await init();

/** Unit roundoff of f32. */
const U = 2 ** -24;

type Matrix = number[][];

/** Rows of numbers in [-1, 1) that f32 holds exactly. */
function matrix(name: string, rows: number, columns: number): Matrix {
  const draw = new Draw(name);
  return Array.from(
    { length: rows },
    () => Array.from({ length: columns }, () => Math.fround(2 * draw.uniform() - 1)),
  );
}

function times(a: Matrix, b: Matrix): Matrix {
  return a.map((row) => b[0]!.map((_, j) => row.reduce((n, v, k) => n + v * b[k]![j]!, 0)));
}

function transposed(a: Matrix): Matrix {
  return a[0]!.map((_, j) => a.map((row) => row[j]!));
}

/** Attention of one head in float64; `add` is what joins the scores. */
function reference(q: Matrix, k: Matrix, v: Matrix, add?: (i: number, j: number) => number) {
  const scale = 1 / Math.sqrt(q[0]!.length);
  const weights = times(q, transposed(k)).map((row, i) => {
    const scores = row.map((s, j) => s * scale + (add?.(i, j) ?? 0));
    const top = Math.max(...scores);
    const e = scores.map((s) => Math.exp(s - top));
    const total = e.reduce((a, b) => a + b, 0);
    return e.map((x) => x / total);
  });
  return { weights, output: times(weights, v) };
}

// Weights are sums of at most 8 products of size 1 through exp, and outputs means of numbers of size 1.
const ATOL = 64 * U;

const [q, k, v] = [matrix("q", 4, 8), matrix("k", 5, 8), matrix("v", 5, 3)] as const;
const inputs = () => ({ query: tensor(q), key: tensor(k), value: tensor(v) });

Deno.test("scaledDotProductAttention gives the float64 means", async () => {
  const hidden = (i: number, j: number) => (i + 2 * j) % 3 === 1;
  const bias = matrix("bias", 4, 5);
  const shown = tensor(bias.map((row, i) => row.map((_, j) => !hidden(i, j))));
  const outputs = await readAll([
    scaledDotProductAttention(inputs()),
    scaledDotProductAttention(inputs(), { causal: true }),
    scaledDotProductAttention(inputs(), { mask: shown }),
    scaledDotProductAttention(inputs(), { mask: tensor(bias) }),
  ]);
  const adds = [
    () => 0,
    (i: number, j: number) => j > i ? -Infinity : 0,
    (i: number, j: number) => hidden(i, j) ? -Infinity : 0,
    (i: number, j: number) => bias[i]![j]!,
  ];
  outputs.forEach((y, n) => {
    const want = reference(q, k, v, adds[n]).output.flat();
    assertClose(y, want, { atol: ATOL, what: `case ${n}` });
  });
});

Deno.test("scaledDotProductAttention has the gradients of central differences", async () => {
  const { query, key, value } = inputs();
  for (const t of [query, key, value]) t.requiresGrad_();
  await gradcheck(
    (query, key, value) =>
      scaledDotProductAttention({ query: query!, key: key!, value: value! }, { causal: true }),
    [query, key, value],
  );
});

Deno.test("scaledDotProductAttention drops weights and scales the rest", async () => {
  manualSeed(3);
  const query = zeros([1, 200, 4]);
  const options = { query, key: zeros([1, 50, 4]), value: ones([1, 50, 1]) };
  const y = await scaledDotProductAttention(options, { dropout: 0.5 }).data();
  const mean = [...y].reduce((a, b) => a + b, 0) / y.length;
  // Each of 10,000 weights of 1/50 is 0 or doubled: the mean's deviation is 1/√10,000.
  assert(Math.abs(mean - 1) < 0.05, `mean ${mean}`);
  assert([...y].some((v) => Math.abs(v - 1) > 0.01));
});

for (const [kdim, vdim] of [[6, 6], [5, 3], [6, 4]] as const) {
  const sizes = `keys of ${kdim} and values of ${vdim}`;
  Deno.test(`MultiheadAttention gives the float64 values of each head, ${sizes}`, () =>
    checkHeads(kdim, vdim));
}

async function checkHeads(kdim: number, vdim: number): Promise<void> {
  const [N, L, S, E, heads] = [2, 3, 4, 6, 2];
  const D = E / heads;
  const w = [matrix("w q", E, E), matrix("w k", E, kdim), matrix("w v", E, vdim)];
  const b = matrix("b", 1, 3 * E)[0]!;
  const wo = matrix("wo", E, E);
  const bo = matrix("bo", 1, E)[0]!;
  const whole = kdim === E && vdim === E;
  const state = {
    ...(whole ? { in_proj_weight: tensor(w.flat()) } : {
      q_proj_weight: tensor(w[0]!),
      k_proj_weight: tensor(w[1]!),
      v_proj_weight: tensor(w[2]!),
    }),
    in_proj_bias: tensor(b),
    "out_proj.weight": tensor(wo),
    "out_proj.bias": tensor(bo),
  };
  const queries = [0, 1].map((n) => matrix(`query ${n}`, L, E));
  const keys = [0, 1].map((n) => matrix(`key ${n}`, S, kdim));
  const values = [0, 1].map((n) => matrix(`value ${n}`, S, vdim));
  const padded = [[false, false, false, true], [false, false, false, false]];
  const blocked = (i: number, j: number) => i === 0 && j === 1;
  const project = (x: Matrix, part: number) =>
    times(x, transposed(w[part]!))
      .map((row) => row.map((value, j) => value + b[part * E + j]!));
  const want: number[] = [];
  const wantWeights: number[] = [];
  for (let n = 0; n < N; n++) {
    const [q, k, v] = [project(queries[n]!, 0), project(keys[n]!, 1), project(values[n]!, 2)];
    const parts = [0, 1].map((h) => {
      const cut = (m: Matrix) => m.map((row) => row.slice(h * D, (h + 1) * D));
      return reference(
        cut(q),
        cut(k),
        cut(v),
        (i, j) => blocked(i, j) || padded[n]![j] ? -Infinity : 0,
      );
    });
    const joined = parts[0]!.output.map((row, i) => [...row, ...parts[1]!.output[i]!]);
    const out = times(joined, transposed(wo));
    want.push(...out.flatMap((row) => row.map((value, j) => value + bo[j]!)));
    parts[0]!.weights.forEach((row, i) =>
      wantWeights.push(...row.map((value, j) => (value + parts[1]!.weights[i]![j]!) / 2))
    );
  }
  const attnMask = tensor(
    Array.from({ length: L }, (_, i) => Array.from({ length: S }, (_, j) => blocked(i, j))),
  );
  const keyPaddingMask = tensor(padded);
  for (const batchFirst of [true, false]) {
    using layer = new nn.MultiheadAttention(E, heads, { batchFirst, kdim, vdim });
    assertEquals(Object.keys(layer.stateDict()), Object.keys(state));
    layer.loadStateDict(state);
    const place = (m: Matrix[]) => batchFirst ? tensor(m) : tensor(m).transpose(0, 1);
    const options = {
      key: place(keys),
      value: place(values),
      attnMask,
      keyPaddingMask,
    };
    const { output, weights } = layer.attend(place(queries), options);
    const y = batchFirst ? output : output.transpose(0, 1);
    const [got, gotWeights] = await readAll([y, weights]);
    assertEquals(y.shape, [N, L, E]);
    // Projections of 7 terms make scores of size 7, so exp sees errors seven times larger.
    assertClose(got!, want, { atol: 8 * 7 * ATOL });
    assertClose(gotWeights!, wantWeights, { atol: 7 * ATOL });
    // Floats in place of bools, and one mask a head.
    const floats = attnMask.to("f32").mul(-1e9).expand([N * heads, L, S]).clone();
    const same = layer.forward(place(queries), { ...options, attnMask: floats });
    assertClose(
      await (batchFirst ? same : same.transpose(0, 1)).data(),
      want,
      { atol: 8 * 7 * ATOL },
    );
  }
}

Deno.test("MultiheadAttention starts as PyTorch's and names what does not fit", async () => {
  manualSeed(1);
  using layer = new nn.MultiheadAttention(16, 4);
  const { in_proj_weight, in_proj_bias, out_proj } = layer;
  const [w, b, bo] = await readAll([in_proj_weight!, in_proj_bias!, out_proj.bias!]);
  const bound = Math.sqrt(6 / (16 + 48));
  assert(w!.every((v) => Math.abs(v) <= bound) && w!.some((v) => Math.abs(v) > 0.9 * bound));
  assert([...b!, ...bo!].every((v) => v === 0));
  using other = new nn.MultiheadAttention(16, 4, { vdim: 2 });
  const separate = other.v_proj_weight!;
  const values = await separate.data();
  // [16, 2] has a bound of its own.
  const wide = Math.sqrt(6 / 18);
  assert(values.every((v) => Math.abs(v) <= wide) && values.some((v) => Math.abs(v) > bound));
  assertThrows(
    () => other.forward(zeros([2, 3, 16])),
    TypeError,
    "Cannot attend with values [2, 3, 16]: they must be [L, N, E] with E = 2",
  );
  assertThrows(() => new nn.MultiheadAttention(6, 4), RangeError, "heads must divide the size");
  assertThrows(
    () => layer.forward(zeros([2, 3, 8])),
    TypeError,
    "Cannot attend with queries [2, 3, 8]: they must be [L, N, E] or [L, E] with E = 16",
  );
  assertThrows(
    () =>
      scaledDotProductAttention({ query: zeros([2, 3]), key: zeros([2, 4]), value: zeros([2]) }),
    TypeError,
    "Cannot attend from [2, 3] to keys [2, 4]",
  );
});

Deno.test("DropPath drops whole samples in training only", async () => {
  manualSeed(5);
  const layer = new nn.DropPath(0.25);
  const y = await layer.forward(ones([400, 2, 3])).data();
  const rows = Array.from({ length: 400 }, (_, n) => [...y.slice(6 * n, 6 * n + 6)]);
  for (const row of rows) assert(row.every((v) => v === row[0]), `${row}`);
  assertClose(
    [...new Set(rows.map((r) => r[0]!))].sort((a, b) => a - b),
    [0, 4 / 3],
    { atol: 2 * U },
  );
  const dropped = rows.filter((r) => r[0] === 0).length;
  // 100 expected, deviation √(400 · 0.25 · 0.75) = 8.7.
  assert(Math.abs(dropped - 100) < 35, `${dropped} dropped`);
  const x = ones([2]);
  assert(layer.eval().forward(x) === x);
  assertEquals(`${layer}`, "DropPath(drop_prob=0.25)");
  assertThrows(() => new nn.DropPath(1), RangeError, "p 1: it must be at least 0 and below 1");
});

Deno.test("a query that may see no key gives 0 and gets no gradient, as PyTorch's", async () => {
  const seen = [[true, false, true], [false, false, false], [true, true, true]];
  const [F, T] = [false, true];
  // What is left of them under a causal mask: the first query then sees nothing where the first key is hidden.
  const late = [[F, T, T], [T, T, T], [F, F, T]];
  const mask = (rows: boolean[][]) => tensor(rows);
  const floats = (rows: boolean[][]) =>
    tensor(rows.map((row) => row.map((s) => s ? 0 : -Infinity)), { requiresGrad: true });
  for (const causal of [false, true]) {
    const rows = causal ? late : seen;
    const open = rows.map((row, i) => row.map((s, j) => s && (!causal || j <= i)));
    const empty = open.findIndex((row) => !row.includes(true));
    const made: Float32Array[][] = [];
    for (const given of [mask(rows), floats(rows)]) {
      const query = tensor(matrix("q", 3, 4), { requiresGrad: true });
      const key = tensor(matrix("k", 3, 4), { requiresGrad: true });
      const value = tensor(matrix("v", 3, 2), { requiresGrad: true });
      const y = scaledDotProductAttention({ query, key, value }, { mask: given, causal });
      y.square().sum().backward();
      const all = await readAll([y, query.grad!, key.grad!, value.grad!]) as Float32Array[];
      assert(all.every((t) => t.every(Number.isFinite)), `causal ${causal}`);
      assertEquals([...all[0]!.subarray(2 * empty, 2 * empty + 2)], [0, 0]);
      assertEquals([...all[1]!.subarray(4 * empty, 4 * empty + 4)], [0, 0, 0, 0]);
      const add = (i: number, j: number) => open[i]![j] ? 0 : -Infinity;
      const want = reference(matrix("q", 3, 4), matrix("k", 3, 4), matrix("v", 3, 2), add).output;
      want[empty] = [0, 0];
      assertClose(all[0]!, want.flat(), { atol: ATOL });
      made.push(all);
    }
    made[0]!.forEach((t, i) => assertClose(made[1]![i]!, [...t], { atol: ATOL, what: `${i}` }));
  }
  // Padding that hides a whole sample leaves the others, and all gradients, finite.
  const layer = new nn.TransformerEncoderLayer(4, 2, { dimFeedforward: 8, dropout: 0 });
  const keyPaddingMask = tensor([[T, T, T], [F, F, T]]);
  const y = layer.forward(tensor(matrix("x", 6, 4)).reshape(3, 2, 4), { keyPaddingMask });
  y.square().sum().backward();
  for (const [name, p] of layer.namedParameters()) {
    assert((await p.grad!.data()).every(Number.isFinite), name);
  }
});
