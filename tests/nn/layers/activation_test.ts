import { assertEquals, assertThrows } from "@std/assert";
import { normalCdf } from "../../../engine/host_math.ts";
import { init, nn, readAll, tensor } from "../../../mod.ts";
import { assertClose } from "../../helpers/close.ts";

await init();

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const elu = (x: number, alpha: number) => x > 0 ? x : alpha * Math.expm1(x);
const softplus = (x: number) => Math.log1p(Math.exp(x));

/** Layer, PyTorch's text and the formula. */
const LAYERS: [nn.Layer, string, (x: number) => number][] = [
  [new nn.ELU(), "ELU(alpha=1.0)", (x) => elu(x, 1)],
  [new nn.ELU(0.5), "ELU(alpha=0.5)", (x) => elu(x, 0.5)],
  [new nn.SELU(), "SELU()", (x) => 1.0507009873554805 * elu(x, 1.6732632423543772)],
  [new nn.CELU(2), "CELU(alpha=2.0)", (x) => x > 0 ? x : 2 * Math.expm1(x / 2)],
  [new nn.GELU(), "GELU(approximate='none')", (x) => x * normalCdf(x)],
  [
    new nn.GELU({ approximate: "tanh" }),
    "GELU(approximate='tanh')",
    (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  ],
  [new nn.SiLU(), "SiLU()", (x) => x * sigmoid(x)],
  [new nn.Mish(), "Mish()", (x) => x * Math.tanh(softplus(x))],
  [new nn.Softplus(), "Softplus(beta=1.0, threshold=20.0)", softplus],
  [
    new nn.Softplus({ beta: 2, threshold: 3 }),
    "Softplus(beta=2.0, threshold=3.0)",
    (x) => 2 * x > 3 ? x : softplus(2 * x) / 2,
  ],
  [new nn.Softsign(), "Softsign()", (x) => x / (1 + Math.abs(x))],
  [new nn.LogSigmoid(), "LogSigmoid()", (x) => Math.log(sigmoid(x))],
  [new nn.Hardsigmoid(), "Hardsigmoid()", (x) => Math.min(Math.max(x / 6 + 0.5, 0), 1)],
  [new nn.Hardswish(), "Hardswish()", (x) => x * Math.min(Math.max(x + 3, 0), 6) / 6],
  [new nn.Hardtanh(), "Hardtanh(min_val=-1.0, max_val=1.0)", (x) => Math.min(Math.max(x, -1), 1)],
  [
    new nn.Hardtanh({ min: 0.5, max: 2 }),
    "Hardtanh(min_val=0.5, max_val=2.0)",
    (x) => Math.min(Math.max(x, 0.5), 2),
  ],
  [new nn.ReLU6(), "ReLU6()", (x) => Math.min(Math.max(x, 0), 6)],
];

Deno.test("activation layers apply their formulas and print as PyTorch's", async () => {
  const points = [-7, -3, -1.25, -0.5, 0, 0.25, 1, 1.75, 3.5, 7];
  const results = await readAll(LAYERS.map(([layer]) => layer.forward(tensor(points))));
  LAYERS.forEach(([layer, text, f], i) => {
    assertEquals(`${layer}`, text);
    // exp at |x| = 7 is allowed 3 + 2 · 7 ulp; a few roundings more, of values up to 7.
    assertClose(results[i]!, points.map(f), { rtol: 40 * 2 ** -23, atol: 2 ** -23, what: text });
  });
});

Deno.test("activation layers refuse settings that mean nothing", () => {
  assertThrows(
    () => new nn.CELU(0),
    RangeError,
    "Cannot make CELU with alpha 0: it divides by alpha",
  );
  assertThrows(
    () => new nn.Hardtanh({ min: 2, max: 2 }),
    RangeError,
    "Cannot make Hardtanh from 2 to 2: max must be above min",
  );
});
