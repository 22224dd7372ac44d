/** @file Each piece of work in this library. */

import {
  batchNorm,
  conv2d,
  type ConvOptions,
  crossEntropy,
  grad,
  nn,
  noGrad,
  randint,
  randn,
  scope,
  type Tensor,
} from "../mod.ts";
import { trainingStep } from "./steps.ts";
import { type ConvShape, inputsOf, type InputSpec, type Lstm, type Work } from "./work.ts";

/** Random tensors. */
export function drawSpecs(specs: readonly InputSpec[]): Tensor[] {
  return specs.map(({ shape, scale, classes }) => {
    if (classes !== undefined) return randint(0, classes, { shape });
    return scale === 1 ? randn(shape) : scope(() => randn(shape).mul(scale));
  });
}

/** Random inputs of a piece of work. */
export function drawInputs(work: Work): Tensor[] {
  const inputs = drawSpecs(inputsOf(work));
  return work.op === "gemm" && work.dtype === "f16" ? inputs.map((x) => x.to("f16")) : inputs;
}

/** What `conv2d` takes for a shape. */
export function convOptions({ stride, padding, groups }: ConvShape): ConvOptions {
  const [top, bottom, left, right] = padding;
  return { stride, padding: { top, bottom, left, right }, groups };
}

/** Runs a piece of work once and gives its results. */
export interface LatheWork {
  (): readonly Tensor[];
  /** Frees what it holds besides its inputs. */
  dispose?: () => void;
}

/** A function that runs the work. */
export function latheWork(work: Work, inputs: readonly Tensor[]): LatheWork {
  const [x, y, z] = inputs as [Tensor, Tensor, Tensor];
  switch (work.op) {
    case "gemm":
      return () => [x.matmul(y)];
    case "conv":
      return convWork(work.pass, { x, weight: y, dy: z, options: convOptions(work) });
    case "softmax":
      return () => [x.softmax(1)];
    case "cross entropy": {
      const logits = x.detach().requiresGrad_();
      return () => {
        const loss = crossEntropy(logits, y);
        return [loss.detach(), ...gradients(loss, [logits])];
      };
    }
    case "sum rows":
      return () => [x.sum(1)];
    case "sum columns":
      return () => [x.sum(0)];
    case "transpose":
      return () => [x.transpose(0, 1).contiguous()];
    case "copy":
      return () => [x.clone()];
    case "batch norm": {
      const [input, weight, bias] = [x, y, z].map((t) => t.detach().requiresGrad_()) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      return () => {
        const out = batchNorm(input, { weight, bias, training: true });
        return [out.detach(), ...gradients(out, [input, weight, bias], inputs[3])];
      };
    }
    case "lstm":
      return lstmWork(work, inputs);
    case "adam": {
      const p = new nn.Parameter(x.clone());
      p.grad = y;
      const optimizer = new nn.optim.Adam([p], { lr: 1e-3 });
      return () => {
        optimizer.step();
        return [p.detach()];
      };
    }
    case "step": {
      const { step, dispose } = trainingStep(work);
      return Object.assign(() => [step()], { dispose });
    }
  }
}

function gradients(y: Tensor, inputs: readonly Tensor[], dy?: Tensor): Tensor[] {
  return grad(y, inputs, dy ? { gradOutputs: [dy] } : {}) as Tensor[];
}

function convWork(
  pass: "forward" | "dX" | "dW" | "train",
  { x, weight, dy, options }: { x: Tensor; weight: Tensor; dy: Tensor; options: ConvOptions },
): () => Tensor[] {
  if (pass === "forward") return () => [conv2d(x, weight, options)];
  const [gx, gw] = [x.detach(), weight.detach()];
  if (pass !== "dW") gx.requiresGrad_();
  if (pass !== "dX") gw.requiresGrad_();
  if (pass === "train") {
    return () => {
      const y = conv2d(gx, gw, options);
      return [y.detach(), ...gradients(y, [gx, gw], dy)];
    };
  }
  const y = conv2d(gx, gw, options);
  const from = pass === "dX" ? [gx] : [gw];
  return () => grad(y, from, { gradOutputs: [dy], retainGraph: true }) as Tensor[];
}

function lstmWork({ features, hidden, pass }: Lstm, inputs: readonly Tensor[]): () => Tensor[] {
  const [x, wi, wh, bias, dy] = inputs as [Tensor, Tensor, Tensor, Tensor, Tensor];
  const lstm = new nn.LSTM(features, hidden, { batchFirst: true });
  const [pwi, pwh, pb, second] = lstm.parameters() as unknown as [Tensor, Tensor, Tensor, Tensor];
  noGrad(() => {
    pwi.copy_(wi);
    pwh.copy_(wh);
    pb.copy_(bias);
    second.copy_(bias.mul(0));
  });
  if (pass === "forward") return () => noGrad(() => [lstm.forward(x).output.contiguous()]);
  const gx = x.detach().requiresGrad_();
  return () => {
    const { output } = lstm.forward(gx);
    return [output.detach().contiguous(), ...gradients(output, [gx, pwi, pwh, pb], dy)];
  };
}
