/** Parts of transformer layers, their names and text, and the copies in stacks. */

import { assert, assertEquals, assertNotStrictEquals, assertStrictEquals } from "@std/assert";
import {
  gradcheck,
  init,
  manualSeed,
  nn,
  ones,
  readAll,
  scope,
  type Tensor,
  zeros,
} from "../../../mod.ts";
import { gpu } from "../../../engine/gpu/device.ts";
import { assertSame } from "../../helpers/close.ts";
import { drawn } from "../../helpers/numbers.ts";

await init();

const [E, F, HEADS] = [8, 12, 2];
const SMALL = { dimFeedforward: F, dropout: 0 };

/** What any module has as state, under its name. */
const affine = (name: string) => [`${name}.weight`, `${name}.bias`];
const attention = (name: string) => [
  `${name}.in_proj_weight`,
  `${name}.in_proj_bias`,
  ...affine(`${name}.out_proj`),
];
const ENCODER = [
  ...attention("self_attn"),
  ...["linear1", "linear2", "norm1", "norm2"].flatMap(affine),
];
const DECODER = [
  ...["self_attn", "multihead_attn"].flatMap(attention),
  ...["linear1", "linear2", "norm1", "norm2", "norm3"].flatMap(affine),
];

Deno.test("transformers name their state as PyTorch's", () => {
  using encoder = new nn.TransformerEncoderLayer(E, HEADS, SMALL);
  using decoder = new nn.TransformerDecoderLayer(E, HEADS, SMALL);
  assertEquals(Object.keys(encoder.stateDict()), ENCODER);
  assertEquals(Object.keys(decoder.stateDict()), DECODER);
  const layers = (names: string[]) => [0, 1].flatMap((i) => names.map((n) => `layers.${i}.${n}`));
  using plain = new nn.TransformerEncoder(encoder, 2);
  using full = new nn.TransformerDecoder(decoder, 2, new nn.LayerNorm([E]));
  assertEquals(Object.keys(plain.stateDict()), layers(ENCODER));
  assertEquals(Object.keys(full.stateDict()), [...layers(DECODER), "norm.weight", "norm.bias"]);
  using bare = new nn.TransformerDecoderLayer(E, HEADS, { ...SMALL, bias: false });
  assertEquals(Object.keys(bare.stateDict()), DECODER.filter((name) => !name.endsWith("bias")));
  const shapes = (names: string[]) => names.map((name) => decoder.stateDict()[name]!.shape);
  assertEquals(
    shapes(["multihead_attn.in_proj_weight", "linear1.weight", "linear2.weight", "norm3.bias"]),
    [[3 * E, E], [F, E], [E, F], [E]],
  );
});

Deno.test("transformers have PyTorch's sizes and settings by default", () => {
  using layer = new nn.TransformerEncoderLayer(E, HEADS);
  assertEquals(layer.settings, {
    dimFeedforward: 2048,
    dropout: 0.1,
    activation: "relu",
    layerNormEps: 1e-5,
    batchFirst: false,
    normFirst: false,
    bias: true,
  });
  assertEquals([layer.dModel, layer.nhead, layer.self_attn.dropout], [E, HEADS, 0.1]);
});

Deno.test("transformers print as PyTorch's", () => {
  // Only the output's projection has a name of its own there: NonDynamicallyQuantizableLinear.
  const attn = (name: string) =>
    `(${name}): MultiheadAttention(
    (out_proj): Linear(in_features=8, out_features=8, bias=True)
  )`;
  const norm = (name: string) => `(${name}): LayerNorm((8,), eps=1e-05, elementwise_affine=True)`;
  const feed = `(linear1): Linear(in_features=8, out_features=12, bias=True)
  (dropout): Dropout(p=0.1, inplace=False)
  (linear2): Linear(in_features=12, out_features=8, bias=True)`;
  const drop = (name: string) => `(${name}): Dropout(p=0.1, inplace=False)`;
  const encoderText = `TransformerEncoderLayer(
  ${attn("self_attn")}
  ${feed}
  ${norm("norm1")}
  ${norm("norm2")}
  ${drop("dropout1")}
  ${drop("dropout2")}
)`;
  const decoderText = `TransformerDecoderLayer(
  ${attn("self_attn")}
  ${attn("multihead_attn")}
  ${feed}
  ${norm("norm1")}
  ${norm("norm2")}
  ${norm("norm3")}
  ${drop("dropout1")}
  ${drop("dropout2")}
  ${drop("dropout3")}
)`;
  using encoder = new nn.TransformerEncoderLayer(E, HEADS, { dimFeedforward: F });
  using decoder = new nn.TransformerDecoderLayer(E, HEADS, { dimFeedforward: F });
  assertEquals([`${encoder}`, `${decoder}`], [encoderText, decoderText]);
  const list = (text: string) =>
    `(layers): ModuleList(
    (0-1): 2 x ${text.replaceAll("\n", "\n    ")}
  )`;
  using stack = new nn.TransformerEncoder(encoder, 2);
  using other = new nn.TransformerDecoder(decoder, 2, new nn.LayerNorm([E]));
  assertEquals(`${stack}`, `TransformerEncoder(\n  ${list(encoderText)}\n)`);
  assertEquals(
    `${other}`,
    `TransformerDecoder(\n  ${list(decoderText)}\n  ${norm("norm")}\n)`,
  );
});

/** The layers' parts put together by hand. */
function composed(
  layer: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer,
  x: Tensor,
  memory?: Tensor,
): Tensor {
  const { normFirst, activation } = layer.settings;
  const step = (x: Tensor, norm: nn.LayerNorm, part: (x: Tensor) => Tensor) =>
    normFirst ? x.add(part(norm.forward(x))) : norm.forward(x.add(part(x)));
  const wide = (t: Tensor) => layer.linear1.forward(t);
  const feed = (t: Tensor) =>
    layer.linear2.forward(
      layer.dropout.forward(activation === "gelu" ? wide(t).gelu() : wide(t).relu()),
    );
  const y = step(x, layer.norm1, (t) => layer.dropout1.forward(layer.self_attn.forward(t)));
  if (layer instanceof nn.TransformerEncoderLayer) {
    return step(y, layer.norm2, (t) => layer.dropout2.forward(feed(t)));
  }
  const z = step(
    y,
    layer.norm2,
    (t) => layer.dropout2.forward(layer.multihead_attn.forward(t, { key: memory! })),
  );
  return step(z, layer.norm3, (t) => layer.dropout3.forward(feed(t)));
}

Deno.test("transformer layers are their parts put together, dropout after each", async () => {
  const [x, memory] = [drawn("x", [5, 2, E]), drawn("memory", [4, 2, E])];
  for (const given of [{}, { normFirst: true, activation: "gelu" as const }, { bias: false }]) {
    const options = { ...SMALL, dropout: 0.4, ...given };
    for (const training of [true, false]) {
      using encoder = new nn.TransformerEncoderLayer(E, HEADS, options).train(training);
      using decoder = new nn.TransformerDecoderLayer(E, HEADS, options).train(training);
      const runs = [
        () => encoder.forward(x),
        () => composed(encoder, x),
        () => decoder.forward(x, memory),
        () => composed(decoder, x, memory),
      ].map((run) => {
        // The same draws, as long as they are made in the same order.
        manualSeed(5);
        return scope(() => run().detach());
      });
      const [a, b, c, d] = await readAll(runs);
      assertSame(a!, b!, `encoder, training ${training}`);
      assertSame(c!, d!, `decoder, training ${training}`);
    }
  }
});

Deno.test("transformer layers have the gradients of central differences", async () => {
  const options = { dimFeedforward: 4, dropout: 0, activation: "gelu", batchFirst: true } as const;
  const x = drawn("x", [1, 3, 4]).requiresGrad_();
  const memory = drawn("memory", [1, 2, 4]).requiresGrad_();
  for (const normFirst of [false, true]) {
    using encoder = new nn.TransformerEncoderLayer(4, 2, { ...options, normFirst });
    using decoder = new nn.TransformerDecoderLayer(4, 2, { ...options, normFirst });
    await gradcheck((x) => encoder.forward(x!, { isCausal: true }), [x]);
    await gradcheck((x, memory) => decoder.forward(x!, memory!), [x, memory]);
    const loss = scope(() => decoder.forward(x, memory).square().sum());
    loss.backward();
    for (const [name, p] of decoder.namedParameters()) assert(p.grad, name);
  }
});

Deno.test("layers of a stack start equal and train apart", async () => {
  const [x, memory] = [drawn("x", [3, 2, E]), drawn("memory", [4, 2, E])];
  const [first, start] = [
    new nn.TransformerEncoderLayer(E, HEADS, SMALL),
    new nn.TransformerDecoderLayer(E, HEADS, SMALL),
  ];
  const stacks: [nn.Module & { layers: Iterable<nn.Module> }, nn.Module, () => Tensor][] = [];
  const encoder = new nn.TransformerEncoder(first, 3);
  const decoder = new nn.TransformerDecoder(start, 3);
  stacks.push([encoder, first, () => encoder.forward(x)]);
  stacks.push([decoder, start, () => decoder.forward(x, memory)]);
  for (const [stack, given, forward] of stacks) {
    const layers = [...stack.layers];
    assertStrictEquals(layers[0], given);
    const read = () => Promise.all(layers.map((layer) => readAll(layer.parameters())));
    const [a, b, c] = await read();
    assertEquals([b, c], [a, a]);
    for (const [i, p] of layers[1]!.parameters().entries()) {
      assertNotStrictEquals(p, given.parameters()[i]);
    }
    assertEquals(stack.parameters().length, 3 * given.parameters().length);
    const sgd = new nn.optim.SGD(stack.parameters(), { lr: 0.1 });
    scope(() => forward().square().mul(drawn("weights", x.shape)).sum().backward());
    sgd.step();
    const [d, e, f] = await read();
    for (const [i, [name]] of given.namedParameters().entries()) {
      const moved = [d, e, f].map((values) => `${values![i]}`);
      assertEquals(new Set(moved).size, 3, `${stack.constructor.name} ${name}`);
    }
    sgd.dispose();
    stack.dispose();
  }
});

Deno.test("layers of a stack are in the first one's mode, and frozen as it is", () => {
  const layer = new nn.TransformerEncoderLayer(E, HEADS, SMALL).eval();
  layer.linear1.requiresGrad_(false);
  using stack = new nn.TransformerEncoder(layer, 2);
  const [a, b] = [...stack.layers];
  assert(b!.modules().every((module) => !module.training));
  const learning = (layer: nn.Module) =>
    layer.namedParameters().filter(([, p]) => p.requiresGrad).map(([name]) => name);
  assertEquals(learning(b!), learning(a!));
  assertEquals(b!.linear1.weight.requiresGrad, false);
});

Deno.test({
  name: "layers of a stack have the first one's dtype",
  ignore: !gpu().info.features.has("shader-f16"),
  fn() {
    const layer = new nn.TransformerDecoderLayer(E, HEADS, SMALL).to("f16");
    using stack = new nn.TransformerDecoder(layer, 2);
    assert(stack.parameters().every((p) => p.dtype === "f16"));
    using y = stack.forward(ones([3, 2, E], { dtype: "f16" }), zeros([2, 2, E], { dtype: "f16" }));
    assertEquals([y.shape, y.dtype], [[3, 2, E], "f16"]);
  },
});
