/** What transformers must not see: a hidden place may hold anything, and nothing changes, to the bit. */

import { assertEquals, assertThrows } from "@std/assert";
import {
  init,
  manualSeed,
  nn,
  ones,
  readAll,
  scope,
  type Tensor,
  tensor,
  zeros,
} from "../../../mod.ts";
import { assertSame } from "../../helpers/close.ts";
import { drawn, numbers } from "../../helpers/numbers.ts";

await init();

const [N, L, S, E, HEADS] = [2, 5, 4, 8, 2];
const OPTIONS = { dimFeedforward: 12, dropout: 0, batchFirst: true };
const SETTINGS = [OPTIONS, { ...OPTIONS, normFirst: true, activation: "gelu" as const }];

/** Rows of samples, those for which `other` is true replaced by other numbers. */
function rows(name: string, length: number, other?: (n: number, i: number) => boolean): Tensor {
  const [x, y] = [name, `${name} instead`].map((name) => numbers(name, N * length * E, -2, 2));
  const values = x!.map((v, at) => {
    const row = Math.floor(at / E);
    return other?.(Math.floor(row / length), row % length) ? y![at]! : v;
  });
  return tensor(values, { shape: [N, length, E] });
}

/** Which output rows differ between two runs, by sample: "0.3" is place 3 of sample 0. */
async function changed(a: Tensor, b: Tensor): Promise<string[]> {
  const [x, y] = await readAll([a, b]);
  const places: string[] = [];
  for (let row = 0; row < N * L; row++) {
    const [from, to] = [row * E, (row + 1) * E];
    if (x!.slice(from, to).some((v, i) => !Object.is(v, y![from + i]))) {
      places.push(`${Math.floor(row / L)}.${row % L}`);
    }
  }
  a.dispose();
  b.dispose();
  return places;
}

const ALL = [0, 1].flatMap((n) => [0, 1, 2, 3, 4].map((i) => `${n}.${i}`));

/** An encoder and a decoder of two layers each, by their masks alone. */
function stacks(options: nn.TransformerLayerOptions) {
  const encoder = new nn.TransformerEncoder(new nn.TransformerEncoderLayer(E, HEADS, options), 2);
  const decoder = new nn.TransformerDecoder(new nn.TransformerDecoderLayer(E, HEADS, options), 2);
  const memory = rows("memory", S);
  return {
    encoder: (x: Tensor, masks?: nn.EncoderMasks) => scope(() => encoder.forward(x, masks)),
    decoder: (x: Tensor, masks?: nn.DecoderMasks, from = memory) =>
      scope(() => decoder.forward(x, from, masks)),
    [Symbol.dispose]() {
      for (const t of [encoder, decoder, memory]) t.dispose();
    },
  };
}

Deno.test("causal transformers see no later place, to the bit", async () => {
  for (const options of SETTINGS) {
    using run = stacks(options);
    for (const forward of [run.encoder, run.decoder]) {
      for (const from of [1, 3]) {
        const later = rows("x", L, (n, i) => n === 1 && i >= from);
        const got = await changed(
          forward(rows("x", L), { isCausal: true }),
          forward(later, { isCausal: true }),
        );
        assertEquals(got, ALL.filter((place) => place >= `1.${from}`));
      }
      // Without the mask each place of the sample sees the change.
      const open = await changed(forward(rows("x", L)), forward(rows("x", L, (n) => n === 1)));
      assertEquals(open, ALL.slice(L));
    }
  }
});

Deno.test("isCausal, a mask of bools, one of floats and one for each head are the same", async () => {
  using run = stacks(OPTIONS);
  const hidden = ones([L, L]).triu(1);
  const bools = hidden.to("bool");
  const floats = hidden.where(bools.logicalNot(), zeros([]).sub(Infinity));
  const heads = bools.expand([N * HEADS, L, L]).clone();
  for (const forward of [run.encoder, run.decoder]) {
    const x = rows("x", L);
    const [want, ...others] = await readAll([
      forward(x, { isCausal: true }),
      ...[bools, floats, heads].map((mask) => forward(x, { mask })),
      forward(x, { mask: bools, isCausal: true }),
    ]);
    for (const got of others) assertSame(got, want!);
  }
});

Deno.test("padding is seen by no other place, to the bit", async () => {
  const padding = [[false, false, false, true, true], [false, false, false, false, true]];
  const padded = (n: number, i: number) => padding[n]![i]!;
  using keyPaddingMask = tensor(padding);
  for (const options of SETTINGS) {
    using run = stacks(options);
    for (const forward of [run.encoder, run.decoder]) {
      const [a, b] = [rows("x", L), rows("x", L, padded)];
      const got = await changed(forward(a, { keyPaddingMask }), forward(b, { keyPaddingMask }));
      assertEquals(got, ["0.3", "0.4", "1.4"]);
      assertEquals(await changed(forward(a), forward(b)), ALL);
      // Together with causality: place 2 of sample 0 is seen from there on.
      const both = { keyPaddingMask, isCausal: true };
      const c = rows("x", L, (n, i) => padded(n, i) || (n === 0 && i === 2));
      assertEquals(await changed(forward(a, both), forward(c, both)), ["0.2", "0.3", "0.4", "1.4"]);
    }
  }
});

Deno.test("decoders see no hidden place of the memory, to the bit", async () => {
  const padding = [[false, false, true, true], [true, false, false, false]];
  // Place i of the decoder sees places 0 to i of the memory.
  const later = Array.from({ length: L }, (_, i) => Array.from({ length: S }, (_, j) => j > i));
  using memoryKeyPaddingMask = tensor(padding);
  using memoryMask = tensor(later);
  const x = rows("x", L);
  for (const options of SETTINGS) {
    using run = stacks(options);
    const memory = rows("memory", S);
    const other = rows("memory", S, (n, i) => padding[n]![i]!);
    const masks = { memoryKeyPaddingMask };
    assertEquals(
      await changed(run.decoder(x, masks, memory), run.decoder(x, masks, other)),
      [],
    );
    assertEquals(await changed(run.decoder(x, {}, memory), run.decoder(x, {}, other)), ALL);
    const two = rows("memory", S, (n, i) => n === 0 && i === 2);
    const causal = { memoryMask, isCausal: true };
    assertEquals(
      await changed(run.decoder(x, causal, memory), run.decoder(x, causal, two)),
      ["0.2", "0.3", "0.4"],
    );
  }
});

Deno.test("hidden places get no gradient", async () => {
  using layer = new nn.TransformerDecoderLayer(E, HEADS, OPTIONS);
  using x = rows("x", L).requiresGrad_();
  using memory = rows("memory", S).requiresGrad_();
  using memoryKeyPaddingMask = tensor([[false, false, false, true], [false, false, false, false]]);
  scope(() => {
    const y = layer.forward(x, memory, { isCausal: true, memoryKeyPaddingMask });
    y.narrow(1, 0, 2).mul(drawn("weights", [N, 2, E])).sum().backward();
  });
  const [own, its] = await readAll([x.grad!, memory.grad!]);
  const rowsOf = (data: ArrayLike<number>) =>
    Array.from(
      { length: data.length / E },
      (_, r) => Array.from({ length: E }, (_, e) => data[r * E + e]!).some((v) => v !== 0),
    );
  const used = [true, true, false, false, false];
  assertEquals(rowsOf(own!), [...used, ...used]);
  assertEquals(rowsOf(its!), [true, true, true, false, true, true, true, true]);
});

Deno.test("transformers drop in training only", async () => {
  manualSeed(9);
  const x = rows("x", L);
  const memory = rows("memory", S);
  using encoder = new nn.TransformerEncoderLayer(E, HEADS, { ...OPTIONS, dropout: 0.2 });
  using decoder = new nn.TransformerDecoderLayer(E, HEADS, { ...OPTIONS, dropout: 0.2 });
  using still = new nn.TransformerEncoderLayer(E, HEADS, OPTIONS);
  using quiet = new nn.TransformerDecoderLayer(E, HEADS, OPTIONS);
  still.loadStateDict(encoder.stateDict());
  quiet.loadStateDict(decoder.stateDict());
  for (
    const [forward, without, layer] of [
      [() => encoder.forward(x), () => still.forward(x), encoder],
      [() => decoder.forward(x, memory), () => quiet.forward(x, memory), decoder],
    ] as const
  ) {
    assertEquals(await changed(forward(), forward()), ALL);
    layer.eval();
    assertEquals(await changed(forward(), without()), []);
  }
});

Deno.test("transformers say what they cannot do", () => {
  for (const Layer of [nn.TransformerEncoderLayer, nn.TransformerDecoderLayer]) {
    const make = (options: object) => () => new Layer(E, HEADS, options);
    const name = Layer.name;
    assertThrows(
      () => new Layer(E, 3),
      RangeError,
      "Cannot make MultiheadAttention of size 8 with 3 heads: heads must divide the size",
    );
    assertThrows(() => new Layer(0, 1), RangeError, `Cannot make ${name} with dModel 0`);
    assertThrows(() => new Layer(E, 0.5), RangeError, `Cannot make ${name} with nhead 0.5`);
    assertThrows(
      make({ dimFeedforward: 0 }),
      RangeError,
      `Cannot make ${name} with dimFeedforward 0: it must be a whole number of at least 1`,
    );
    assertThrows(
      make({ activation: "tanh" }),
      TypeError,
      `Cannot make ${name} with activation "tanh": it must be relu or gelu`,
    );
    assertThrows(make({ dropout: -1 }), RangeError, "with dropout -1");
    assertThrows(make({ layerNormEps: -1 }), RangeError, "LayerNorm with eps -1");
    assertThrows(
      () => new Layer(E, HEADS, 2048 as never),
      TypeError,
      `Cannot make ${name} with options 2048: write new nn.${name}(512, 8, { batchFirst: true })`,
    );
  }
  const layer = new nn.TransformerEncoderLayer(E, HEADS, OPTIONS);
  using encoder = new nn.TransformerEncoder(layer, 1);
  using decoder = new nn.TransformerDecoderLayer(E, HEADS, OPTIONS);
  const whole = "with numLayers 0: it must be a whole number of at least 1";
  assertThrows(() => new nn.TransformerEncoder(layer, 0), RangeError, whole);
  assertThrows(() => new nn.TransformerDecoder(decoder, 0), RangeError, whole);
  scope(() => {
    const x = zeros([N, L, E]);
    assertThrows(
      () => encoder.forward(zeros([N, L, 4])),
      TypeError,
      "Cannot attend with queries [2, 5, 4]: they must be [N, L, E] or [L, E] with E = 8",
    );
    assertThrows(
      () => decoder.forward(x, zeros([N, S, 4])),
      TypeError,
      "Cannot attend with keys [2, 4, 4]: they must be [N, L, E] with E = 8",
    );
    assertThrows(
      () => encoder.forward(x, { keyPaddingMask: zeros([N, L]) }),
      TypeError,
      "Cannot attend with a keyPaddingMask of dtype f32: it must be bool",
    );
  });
});
