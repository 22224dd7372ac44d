/** Values of transformer layers and stacks of them against float64. */

import { assertEquals, assertThrows } from "@std/assert";
import { init, nn, readAll, type Tensor, tensor } from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";
import { normalCdf } from "../../../engine/host_math.ts";
import { drawn, numbers, U } from "../../helpers/numbers.ts";

await init();

type Matrix = number[][];
type State = Record<string, Matrix>;

const [N, L, S, E, F, HEADS] = [2, 5, 4, 8, 12, 2];

/** Overwrites all parameters by drawn numbers; those of norms are around 1, so none is left out unnoticed. */
async function stateOf(module: nn.Module): Promise<State> {
  for (const [name, p] of module.namedParameters()) {
    const [low, high] = /norm\d*\.weight/.test(name) ? [0.5, 1.5] : [-0.5, 0.5];
    using fresh = drawn(name, p.shape, low, high);
    module.loadStateDict({ [name]: fresh }, { strict: false });
  }
  const named = Object.entries(module.stateDict());
  const data = await Promise.all(named.map(([, t]) => t.array()));
  // Vectors as one row.
  const rows = data.map((d) => (Array.isArray((d as Matrix)[0]) ? d : [d]) as Matrix);
  return Object.fromEntries(named.map(([name], i) => [name, rows[i]!]));
}

/** A transformer layer in float64, for one sample. */
class Reference {
  /** The largest number met, to which errors are in proportion. */
  largest = 0;
  constructor(
    readonly state: State,
    readonly options: nn.TransformerLayerOptions,
    readonly prefix = "",
  ) {}

  #note(m: Matrix): Matrix {
    this.largest = Math.max(this.largest, ...m.flat().map(Math.abs));
    return m;
  }
  #linear(x: Matrix, w: Matrix, b?: number[]): Matrix {
    return this.#note(
      x.map((row) =>
        w.map((weights, j) => weights.reduce((sum, v, k) => sum + v * row[k]!, b?.[j] ?? 0))
      ),
    );
  }
  linear(name: string, x: Matrix): Matrix {
    const { state, prefix } = this;
    return this.#linear(x, state[`${prefix}${name}.weight`]!, state[`${prefix}${name}.bias`]?.[0]);
  }
  norm(name: string, x: Matrix): Matrix {
    const [w, b] = ["weight", "bias"].map((p) => this.state[`${this.prefix}${name}.${p}`]?.[0]);
    return this.#note(x.map((row) => {
      const mean = row.reduce((a, v) => a + v, 0) / E;
      const variance = row.reduce((a, v) => a + (v - mean) ** 2, 0) / E;
      const eps = this.options.layerNormEps ?? 1e-5;
      return row.map((v, j) => (v - mean) / Math.sqrt(variance + eps) * w![j]! + (b?.[j] ?? 0));
    }));
  }
  attention(name: string, x: Matrix, from: Matrix, causal = false): Matrix {
    const whole = this.state[`${this.prefix}${name}.in_proj_weight`]!;
    const bias = this.state[`${this.prefix}${name}.in_proj_bias`]?.[0];
    const [q, k, v] = [x, from, from].map((rows, i) =>
      this.#linear(rows, whole.slice(i * E, (i + 1) * E), bias?.slice(i * E, (i + 1) * E))
    );
    const size = E / HEADS;
    const joined = q!.map((row, i) =>
      Array.from({ length: E }, (_, e) => {
        const head = e - e % size;
        const scores = k!.map((key, j) => {
          let sum = 0;
          for (let d = head; d < head + size; d++) sum += row[d]! * key[d]!;
          return causal && j > i ? -Infinity : sum / Math.sqrt(size);
        });
        const weights = scores.map((s) => Math.exp(s));
        const total = weights.reduce((a, b) => a + b);
        return weights.reduce((sum, w, j) => sum + w / total * v![j]![e]!, 0);
      })
    );
    return this.linear(`${name}.out_proj`, joined);
  }
  around(x: Matrix, norm: string, part: (x: Matrix) => Matrix): Matrix {
    const add = (y: Matrix) => this.#note(x.map((row, i) => row.map((v, j) => v + y[i]![j]!)));
    const { normFirst } = this.options;
    return normFirst ? add(part(this.norm(norm, x))) : this.norm(norm, add(part(x)));
  }
  forward(x: Matrix, memory?: Matrix, causal?: boolean): Matrix {
    const own = this.around(x, "norm1", (t) => this.attention("self_attn", t, t, causal));
    const both = memory
      ? this.around(own, "norm2", (t) => this.attention("multihead_attn", t, memory))
      : own;
    const active = (v: number) =>
      this.options.activation === "gelu" ? v * normalCdf(v) : Math.max(v, 0);
    return this.around(
      both,
      memory ? "norm3" : "norm2",
      (t) => this.linear("linear2", this.linear("linear1", t).map((row) => row.map(active))),
    );
  }
}

const SETTINGS: nn.TransformerLayerOptions[] = [
  {},
  { normFirst: true, activation: "gelu", batchFirst: true },
  { bias: false, layerNormEps: 0.1 },
];

/** Samples of rows, as numbers and as the layer takes them. */
function samples(name: string, length: number, batchFirst = false): [Matrix[], Tensor] {
  const x = numbers(name, N * length * E);
  const row = (i: number) => x.slice(i * E, (i + 1) * E);
  const rows = Array.from(
    { length: N },
    (_, n) => Array.from({ length }, (_, i) => row(n * length + i)),
  );
  const t = tensor(x, { shape: [N, length, E] });
  return [rows, batchFirst ? t : t.transpose(0, 1)];
}

for (const given of SETTINGS) {
  const options = { dimFeedforward: F, dropout: 0, ...given };

  Deno.test(`transformer layers give the float64 values with ${JSON.stringify(given)}`, async () => {
    const { batchFirst } = options;
    const [x, input] = samples("x", L, batchFirst);
    const [memory, seen] = samples("memory", S, batchFirst);
    for (const causal of [false, true]) {
      using encoder = new nn.TransformerEncoderLayer(E, HEADS, options);
      using decoder = new nn.TransformerDecoderLayer(E, HEADS, options);
      const e = new Reference(await stateOf(encoder), options);
      const d = new Reference(await stateOf(decoder), options);
      const masks = { isCausal: causal };
      const outputs = [encoder.forward(input, masks), decoder.forward(input, seen, masks)];
      assertEquals(outputs.map((y) => y.shape), [input.shape, input.shape]);
      const [got, other] = await readAll(
        outputs.map((y) => batchFirst ? y : y.transpose(0, 1)),
      );
      // About 100 roundings on each path through an encoder layer, and 150 through a decoder layer.
      const wanted = x.map((rows) => e.forward(rows, undefined, causal)).flat(2);
      assertClose(got!, wanted, { atol: 100 * e.largest * U, what: `encoder, causal ${causal}` });
      const want = x.map((rows, n) => d.forward(rows, memory[n], causal)).flat(2);
      assertClose(other!, want, { atol: 150 * d.largest * U, what: `decoder, causal ${causal}` });
    }
  });
}

Deno.test("stacks give the float64 values of their layers and the norm, one after the other", async () => {
  const options = { dimFeedforward: F, dropout: 0, normFirst: true, batchFirst: true };
  const [x, input] = samples("x", L, true);
  const [memory, seen] = samples("memory", S, true);
  for (const norm of [true, false]) {
    const last = () => norm ? new nn.LayerNorm([E]) : null;
    using encoder = new nn.TransformerEncoder(
      new nn.TransformerEncoderLayer(E, HEADS, options),
      2,
      last(),
    );
    using decoder = new nn.TransformerDecoder(
      new nn.TransformerDecoderLayer(E, HEADS, options),
      3,
      last(),
    );
    const run = async (
      stack: nn.Module,
      count: number,
      from: (n: number) => Matrix | undefined,
    ) => {
      const state = await stateOf(stack);
      const layers = Array.from(
        { length: count },
        (_, i) => new Reference(state, options, `layers.${i}.`),
      );
      const end = new Reference(state, {});
      const rows = x.map((rows, n) => {
        const y = layers.reduce((y, layer) => layer.forward(y, from(n)), rows);
        return norm ? end.norm("norm", y) : y;
      });
      return { want: rows.flat(2), largest: Math.max(...layers.map((l) => l.largest)) };
    };
    const e = await run(encoder, 2, () => undefined);
    const d = await run(decoder, 3, (n) => memory[n]);
    const [got, other] = await readAll([encoder.forward(input), decoder.forward(input, seen)]);
    assertClose(got!, e.want, { atol: 2 * 100 * e.largest * U, what: `encoder, norm ${norm}` });
    assertClose(other!, d.want, { atol: 3 * 150 * d.largest * U, what: `decoder, norm ${norm}` });
  }
});

Deno.test("TransformerEncoder refuses to repeat a layer of another class", () => {
  class Own extends nn.TransformerEncoderLayer {}
  assertThrows(
    () => new nn.TransformerEncoder(new Own(4, 2, { dimFeedforward: 8 }), 2),
    TypeError,
    "Cannot repeat a Own: only a TransformerEncoderLayer itself; put layers of your own into a ModuleList",
  );
});
