/**
 * Recurrent nets against a float64 net written from the formulas alone, gradients by central
 * differences of it.
 */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  init,
  manualSeed,
  memory,
  nn,
  readAll,
  scope,
  synchronize,
  type Tensor,
  tensor,
} from "../../mod.ts";
import { gpu } from "../../engine/gpu/device.ts";
import { assertClose } from "../helpers/close.ts";
import { Draw } from "../helpers/draw.ts";
import { assertNothingLeft } from "../helpers/memory.ts";

const info = await init();

const U = 2 ** -24;
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

type Kind = "LSTM" | "GRU" | "RNN";
type Weights = Readonly<Record<string, readonly number[]>>;

interface Net {
  readonly kind: Kind;
  readonly sizes: { T: number; N: number; I: number; H: number };
  readonly layers: number;
  readonly bidirectional: boolean;
  readonly bias: boolean;
  readonly lengths: readonly number[];
}

/** W[k·H + j, :] · v, for row-major W. */
function row(W: readonly number[], r: number, v: readonly number[]): number {
  return v.reduce((sum, x, i) => sum + W[r * v.length + i]! * x, 0);
}

/** One step of one sequence. */
function step(
  kind: Kind,
  x: readonly number[],
  state: { h: number[]; c: number[] },
  get: (name: string) => readonly number[] | undefined,
): { h: number[]; c: number[] } {
  const H = state.h.length;
  const fromX = (r: number) => row(get("weight_ih")!, r, x) + (get("bias_ih")?.[r] ?? 0);
  const fromH = (r: number) => row(get("weight_hh")!, r, state.h) + (get("bias_hh")?.[r] ?? 0);
  const gate = (k: number, j: number) => fromX(k * H + j) + fromH(k * H + j);
  const next = { h: [...state.h], c: [...state.c] };
  for (let j = 0; j < H; j++) {
    if (kind === "LSTM") {
      next.c[j] = sigmoid(gate(1, j)) * state.c[j]! + sigmoid(gate(0, j)) * Math.tanh(gate(2, j));
      next.h[j] = sigmoid(gate(3, j)) * Math.tanh(next.c[j]!);
    } else if (kind === "GRU") {
      const z = sigmoid(gate(1, j));
      const n = Math.tanh(fromX(2 * H + j) + sigmoid(gate(0, j)) * fromH(2 * H + j));
      next.h[j] = (1 - z) * n + z * state.h[j]!;
    } else {
      next.h[j] = Math.tanh(gate(0, j));
    }
  }
  return next;
}

/** Outputs of all steps [T, N, D·H], h and c of each layer and direction [L·D, N, H]. */
function run(net: Net, weights: Weights, x: readonly number[], h0: readonly number[]) {
  const { T, N, I, H } = net.sizes;
  const directions = net.bidirectional ? ["", "_reverse"] : [""];
  const D = directions.length;
  let input = x;
  let features = I;
  const hn: number[] = [], cn: number[] = [];
  for (let layer = 0; layer < net.layers; layer++) {
    const output = new Array<number>(T * N * D * H).fill(0);
    directions.forEach((direction, d) => {
      const get = (name: string) => weights[`${name}_l${layer}${direction}`];
      for (let n = 0; n < N; n++) {
        const from = ((layer * D + d) * N + n) * H;
        const start = h0.slice(from, from + H);
        let state = { h: start, c: start.map((v) => -v) };
        for (let i = 0; i < net.lengths[n]!; i++) {
          const t = d === 0 ? i : net.lengths[n]! - 1 - i;
          const at = (t * N + n) * features;
          state = step(net.kind, input.slice(at, at + features), state, get);
          state.h.forEach((v, j) => output[((t * N + n) * D + d) * H + j] = v);
        }
        hn.push(...state.h);
        cn.push(...state.c);
      }
    });
    input = output;
    features = D * H;
  }
  return { output: input, hn, cn };
}

const NETS: readonly Net[] = (["LSTM", "GRU", "RNN"] as const).flatMap((kind) => [
  {
    kind,
    sizes: { T: 4, N: 3, I: 3, H: 4 },
    layers: 2,
    bidirectional: true,
    bias: true,
    lengths: [4, 1, 3],
  },
  {
    kind,
    sizes: { T: 5, N: 2, I: 2, H: 3 },
    layers: 1,
    bidirectional: false,
    bias: false,
    lengths: [5, 5],
  },
]);

function build(net: Net, batchFirst: boolean) {
  const { I, H } = net.sizes;
  const options = {
    numLayers: net.layers,
    bidirectional: net.bidirectional,
    bias: net.bias,
    batchFirst,
  };
  return new nn[net.kind](I, H, options);
}

Deno.test("LSTM, GRU and RNN give what the formulas give, with their gradients", async () => {
  for (const net of NETS) {
    for (const batchFirst of [false, true]) {
      manualSeed(5);
      const draw = new Draw(`recurrent ${net.kind}`);
      const numbers = (count: number) =>
        Array.from({ length: count }, () => Math.fround(2 * draw.uniform() - 1));
      const { T, N, I, H } = net.sizes;
      const D = net.bidirectional ? 2 : 1;
      const model = build(net, batchFirst);
      const names = model.namedParameters().map(([name]) => name);
      const x = numbers(T * N * I);
      const h0 = numbers(net.layers * D * N * H);
      const loss = numbers(T * N * D * H);
      const lossH = numbers(h0.length);
      const weights: Weights = Object.fromEntries(
        (await readAll(model.parameters())).map((values, i) => [names[i]!, [...values]]),
      );
      const padded = net.lengths.some((length) => length < T);
      using xt = tensor(x, { shape: [T, N, I], requiresGrad: true });
      using ht = tensor(h0, { shape: [net.layers * D, N, H], requiresGrad: true });
      const results = scope(() => {
        const given = batchFirst ? xt.transpose(0, 1) : xt;
        const c0 = ht.neg();
        const input = { h0: ht, lengths: padded ? net.lengths : undefined };
        const out = model.forward(given, net.kind === "LSTM" ? { ...input, c0 } as never : input);
        const output = batchFirst ? out.output.transpose(0, 1) : out.output;
        const cn = (out as { cn?: Tensor }).cn;
        const weigh = (t: Tensor, w: readonly number[]) =>
          t.mul(tensor([...w], { shape: t.shape })).sum();
        let total = weigh(output, loss).add(weigh(out.hn, lossH));
        if (cn) total = total.add(weigh(cn, lossH).mul(0.5));
        total.backward();
        return [output.detach(), out.hn.detach(), ...(cn ? [cn.detach()] : [])];
      });
      const what = `${net.kind} ${JSON.stringify(net.sizes)} batchFirst ${batchFirst}`;
      const want = run(net, weights, x, h0);
      // A gate adds up I + H products; each layer and step hands its error on, shrunk by the gates.
      const atol = 64 * U * T * net.layers;
      const got = await readAll(results);
      assertClose(got[0]!, want.output, { atol, what: `${what} output` });
      assertClose(got[1]!, want.hn, { atol, what: `${what} hn` });
      if (got[2]) assertClose(got[2], want.cn, { atol, what: `${what} cn` });

      const value = (w: Weights, xs: readonly number[], hs: readonly number[]) => {
        const r = run(net, w, xs, hs);
        const dot = (a: readonly number[], b: readonly number[]) =>
          a.reduce((sum, v, i) => sum + v * b[i]!, 0);
        return dot(r.output, loss) + dot(r.hn, lossH) +
          (net.kind === "LSTM" ? 0.5 * dot(r.cn, lossH) : 0);
      };
      const eps = 1e-5;
      const slope = (list: readonly number[], i: number, f: (moved: number[]) => number) => {
        const at = (by: number) => f(list.map((v, j) => j === i ? v + by : v));
        return (at(eps) - at(-eps)) / (2 * eps);
      };
      const grads = await readAll([xt.grad!, ht.grad!, ...model.parameters().map((p) => p.grad!)]);
      const expect = (
        g: ArrayLike<number>,
        list: readonly number[],
        f: (m: number[]) => number,
        of: string,
      ) => {
        for (const i of list.keys()) {
          if (list.length > 24 && i % 5 !== 0) continue;
          const n = slope(list, i, f);
          assertClose([g[i]!], [n], {
            atol: 64 * U * T * N * net.layers * 4,
            what: `${what} ${of} at ${i}`,
          });
        }
      };
      expect(grads[0]!, x, (m) => value(weights, m, h0), "gradient of x");
      expect(grads[1]!, h0, (m) => value(weights, x, m), "gradient of h0");
      names.forEach((name, k) =>
        expect(
          grads[k + 2]!,
          weights[name]!,
          (m) => value({ ...weights, [name]: m }, x, h0),
          `gradient of ${name}`,
        )
      );
      if (padded) {
        // Nothing flows into what lies past a sequence's end.
        net.lengths.forEach((length, n) => {
          for (let t = length; t < T; t++) {
            const at = (t * N + n) * I;
            assertEquals([...grads[0]!.slice(at, at + I)], new Array(I).fill(0));
          }
        });
      }
      for (const t of results) t.dispose();
      model.dispose();
    }
  }
});

Deno.test("lengths may be a tensor, and what lies past the end changes nothing", async () => {
  const lstm = new nn.LSTM(2, 3, { batchFirst: true });
  const params = lstm.parameters();
  using lengths = tensor([2, 1], { dtype: "i32" });
  const runs = [];
  for (const rest of [0, 1000, NaN]) {
    using x = tensor([[[1, 2], [3, 4]], [[5, 6], [rest, -rest]]]);
    const output = scope(() => {
      const out = lstm.forward(x, { lengths });
      out.output.sum().add(out.hn.sum()).backward();
      return out.output.detach();
    });
    runs.push(await readAll([output, ...params.map((p) => p.grad!)]));
    output.dispose();
    for (const p of params) p.grad = null;
  }
  assertEquals(runs[0], runs[1]);
  assertEquals(runs[0], runs[2]);
  assertEquals([...runs[0]![0]!.slice(9)], [0, 0, 0]);
  lstm.dispose();
});

Deno.test("the cells step as the nets do", async () => {
  for (const kind of ["LSTM", "GRU", "RNN"] as const) {
    const net = new nn[kind](3, 4);
    const cell = new nn[`${kind}Cell`](3, 4);
    const state = net.stateDict();
    cell.loadStateDict(
      Object.fromEntries(Object.entries(state).map(([name, t]) => [name.replace("_l0", ""), t])),
    );
    const draw = new Draw(`cells ${kind}`);
    using x = tensor(Array.from({ length: 24 }, () => draw.uniform()), { shape: [4, 2, 3] });
    const [want, got] = scope(() => {
      const steps: Tensor[] = [];
      if (cell instanceof nn.LSTMCell) {
        let at: nn.LSTMState | undefined;
        for (let t = 0; t < 4; t++) steps.push((at = cell.forward(x.select(0, t), at)).h);
      } else {
        let h: Tensor | undefined;
        for (let t = 0; t < 4; t++) steps.push(h = cell.forward(x.select(0, t), h));
      }
      return [net.forward(x).hn.detach(), steps[3]!.detach()];
    });
    const [a, b] = await readAll([want!, got!]);
    assertEquals(a, b);
    for (const t of [want!, got!, net, cell]) t.dispose();
  }
});

Deno.test({
  name:
    "f16 nets and cells give what f32 ones of the same weights give, rounded, with f16 gradients",
  ignore: !info.features.has("shader-f16"),
  async fn() {
    const [T, N, I, H] = [6, 3, 4, 5];
    const draw = new Draw("recurrent f16");
    const x = tensor(Array.from({ length: T * N * I }, () => 2 * draw.uniform() - 1), {
      shape: [T, N, I],
    });
    for (const Net of [nn.LSTM, nn.GRU, nn.RNN]) {
      manualSeed(3);
      using half = new Net(I, H, { numLayers: 2, bidirectional: true }).to("f16");
      using full = new Net(I, H, { numLayers: 2, bidirectional: true });
      full.loadStateDict(half.stateDict());
      const run = (net: nn.LSTM | nn.GRU | nn.RNN, x: Tensor) => {
        const { output, hn } = net.forward(x, { lengths: [6, 1, 4] });
        output.sum().backward();
        return [output.detach(), hn.detach(), ...net.parameters().map((p) => p.grad!.detach())];
      };
      const results = scope(() => [...run(half, x.to("f16")), ...run(full, x.to("f16").to("f32"))]);
      const count = results.length / 2;
      results.forEach((t, i) => assertEquals(t.dtype, i < count ? "f16" : "f32"));
      const data = await readAll(results);
      for (let k = 0; k < count; k++) {
        const [got, want] = [data[k]!, data[k + count]!];
        const size = Math.max(...Array.from(want, Math.abs));
        assert(size > 0.01, `${Net.name} ${k} is ${size}`);
        // Roundings of 2^-11 in each of T steps of two layers add up as their root; K = 4.
        const tolerance = 4 * 2 ** -11 * Math.sqrt(2 * T) * size;
        want.forEach((w, i) => {
          assert(Math.abs(got[i]! - w) <= tolerance, `${Net.name} ${k}, ${i}: ${got[i]}, ${w}`);
        });
      }
      for (const t of results) t.dispose();
    }
    using cell = new nn.GRUCell(I, H).to("f16");
    assertEquals(cell.forward(x.select(0, 0).to("f16")).dtype, "f16");
    assertThrows(() => cell.forward(x.select(0, 0)), TypeError, "f16");
  },
});

Deno.test("RNN with relu keeps what is above 0", async () => {
  using net = new nn.RNN(1, 1, { nonlinearity: "relu", bias: false });
  scope(() => {
    net.parameters()[0]!.detach().fill_(1);
    net.parameters()[1]!.detach().fill_(0.5);
  });
  using x = tensor([1, -3, 2], { shape: [3, 1, 1] });
  const { output, hn } = net.forward(x);
  assertEquals((await output.data()).join(), "1,0,2");
  for (const t of [output, hn]) t.dispose();
});

Deno.test("a recurrent layer takes one product for all input gates and two dispatches a step", async () => {
  using net = new nn.LSTM(8, 8);
  using long = tensor(new Float32Array(20 * 2 * 8), { shape: [20, 2, 8] });
  using short = tensor(new Float32Array(10 * 2 * 8), { shape: [10, 2, 8] });
  const { stats } = gpu().queue;
  const count = (x: Tensor) => {
    const before = stats.dispatches;
    scope(() => net.forward(x));
    return stats.dispatches - before;
  };
  count(long);
  assertEquals(count(long) - count(short), 20);
  await synchronize();
});

Deno.test("dropout lies between the layers, while training only", async () => {
  using net = new nn.GRU(4, 16, { numLayers: 2, dropout: 0.5 });
  using x = tensor(Array.from({ length: 24 }, (_, i) => Math.sin(i)), { shape: [3, 2, 4] });
  const outputs = async () => {
    const t = scope(() => net.forward(x).output.detach());
    const values = await t.data();
    t.dispose();
    return values;
  };
  const [a, b] = [await outputs(), await outputs()];
  assert(a.some((v, i) => v !== b[i]));
  net.eval();
  assertEquals(await outputs(), await outputs());
});

Deno.test("recurrent parameters have PyTorch's names, order, shapes and start", async () => {
  using net = new nn.LSTM(3, 4, { numLayers: 2, bidirectional: true });
  const state = net.stateDict();
  assertEquals(Object.keys(state).map((name) => [name, state[name]!.shape]), [
    ["weight_ih_l0", [16, 3]],
    ["weight_hh_l0", [16, 4]],
    ["bias_ih_l0", [16]],
    ["bias_hh_l0", [16]],
    ["weight_ih_l0_reverse", [16, 3]],
    ["weight_hh_l0_reverse", [16, 4]],
    ["bias_ih_l0_reverse", [16]],
    ["bias_hh_l0_reverse", [16]],
    ["weight_ih_l1", [16, 8]],
    ["weight_hh_l1", [16, 4]],
    ["bias_ih_l1", [16]],
    ["bias_hh_l1", [16]],
    ["weight_ih_l1_reverse", [16, 8]],
    ["weight_hh_l1_reverse", [16, 4]],
    ["bias_ih_l1_reverse", [16]],
    ["bias_hh_l1_reverse", [16]],
  ]);
  assertEquals(`${net}`, "LSTM(3, 4, num_layers=2, bidirectional=True)");
  for (const values of await readAll(net.parameters())) {
    assert(values.every((v) => Math.abs(v) <= 0.5) && values.some((v) => Math.abs(v) > 0.25));
  }
});

Deno.test("recurrent nets say what they cannot do", () => {
  using net = new nn.LSTM(3, 4);
  using cell = new nn.GRUCell(3, 4);
  using x = tensor(new Float32Array(12), { shape: [2, 2, 3] });
  using wide = tensor(new Float32Array(8), { shape: [2, 1, 4] });
  using empty = tensor(new Float32Array(0), { shape: [0, 2, 3] });
  scope(() => {
    assertThrows(
      () => net.forward(wide),
      TypeError,
      "Cannot apply LSTM to [2, 1, 4]: it must be [T, N, 3]",
    );
    assertThrows(
      () => net.forward(x, { lengths: [3, 1] }),
      RangeError,
      "Cannot apply LSTM with lengths [3, 1]: they must be 2 whole numbers from 1 to 2",
    );
    assertThrows(
      () => net.forward(x, { h0: wide }),
      TypeError,
      "Cannot apply LSTM with h0 [2, 1, 4]: it must be [1, 2, 4]",
    );
    assertThrows(() => net.forward(empty), TypeError, "over 0 time steps");
    assertThrows(() => cell.forward(x), TypeError, "Cannot apply GRUCell to [2, 2, 3]");
    assertThrows(
      () => new nn.GRU(3, 4, { dropout: 1 }),
      RangeError,
      "Cannot make GRU with dropout 1: it must be at least 0 and below 1",
    );
    assertThrows(() => new nn.RNN(0, 4), RangeError, "Cannot make RNN with inputSize 0");
  });
});

Deno.test("training a recurrent net leaves live bytes where they were", async () => {
  using net = new nn.GRU(3, 5, { numLayers: 2, bidirectional: true });
  using optimizer = new nn.optim.Adam(net.parameters(), { lr: 0.01 });
  using x = tensor(Array.from({ length: 36 }, (_, i) => Math.cos(i)), { shape: [4, 3, 3] });
  let live = 0;
  for (let i = 0; i < 5; i++) {
    scope(() => {
      optimizer.zeroGrad();
      net.forward(x, { lengths: [4, 2, 1] }).output.square().mean().backward();
      optimizer.step();
    });
    await synchronize();
    if (i === 1) live = memory().liveBytes;
  }
  assertNothingLeft(live);
});
