/**
 * @file TensorFlow.js on its WebGPU backend, as the comparison sees it. Images and maps are [N, H, W, C],
 * the layout that its kernels are made for.
 */

import type { ConvShape, Lstm, Work } from "../work.ts";
import { tfConvNet, toNhwc } from "./conv_net.ts";
import type { HostInput, Job, Library } from "./library.ts";
import type { Tf, TfPad, TfTensor } from "./tfjs_types.ts";

/** Packages, pinned. Names that are computed keep them out of the graph of modules. */
const PACKAGES = { tf: "npm:@tensorflow/tfjs", webgpu: "npm:@tensorflow/tfjs-backend-webgpu" };
const VERSION = "4.22.0";

interface WebGpuBackend {
  readonly device: GPUDevice;
  /** Null when nothing is recorded. */
  readonly commandEncoder: GPUCommandEncoder | null;
  endComputePassEncoder(): void;
  submitQueue(): void;
}

/** Loads TensorFlow.js and opens its WebGPU backend. */
export async function loadTf(): Promise<Tf> {
  const tf = await import(`${PACKAGES.tf}@${VERSION}`) as Tf;
  await import(`${PACKAGES.webgpu}@${VERSION}`);
  if (!await tf.setBackend("webgpu")) throw new Error("TensorFlow.js opened no WebGPU backend");
  await tf.ready();
  return tf;
}

/** Submits what is recorded and waits for the GPU, as `synchronize` does here. */
export async function synchronizeTf(tf: Tf): Promise<void> {
  const backend = tf.backend() as WebGpuBackend;
  if (backend.commandEncoder) {
    backend.endComputePassEncoder();
    backend.submitQueue();
  }
  await backend.device.queue.onSubmittedWorkDone();
}

/** TensorFlow.js. */
export async function tensorflow(): Promise<Library> {
  const tf = await loadTf();
  return {
    name: "TensorFlow.js",
    prepare: (work, inputs) => Promise.resolve(prepare(tf, work, inputs)),
    synchronize: () => synchronizeTf(tf),
  };
}

/** Runs work that gives tensors in the library's layout; `views` brings them to PyTorch's, for the comparison only. */
function job(
  tf: Tf,
  run: () => TfTensor[],
  { inputs, views = (t) => t }: {
    inputs: readonly TfTensor[];
    views?: (results: TfTensor[]) => TfTensor[];
  },
): Job {
  return {
    run: () => tf.tidy(() => void run()),
    async results() {
      const tensors = tf.tidy(() => views(run()));
      const values = await Promise.all(tensors.map((t) => t.data()));
      tf.dispose(tensors);
      return values;
    },
    dispose: () => tf.dispose(inputs),
  };
}

function prepare(tf: Tf, work: Work, host: readonly HostInput[]): Job | null {
  const upload = (i: number) => {
    const { data, shape } = host[i]!;
    return tf.tensor(data, shape, data instanceof Int32Array ? "int32" : "float32");
  };
  switch (work.op) {
    case "gemm": {
      if (work.dtype === "f16") return null;
      const [a, b] = [upload(0), upload(1)];
      return job(tf, () => [tf.matMul(a, b)], { inputs: [a, b] });
    }
    case "conv":
      return convJob(tf, work, host);
    case "softmax":
    case "sum rows":
    case "sum columns":
    case "transpose": {
      const x = upload(0);
      const run = {
        softmax: () => tf.softmax(x, 1),
        "sum rows": () => x.sum(1),
        "sum columns": () => x.sum(0),
        transpose: () => x.transpose(),
      }[work.op];
      return job(tf, () => [run()], { inputs: [x] });
    }
    case "cross entropy": {
      const x = upload(0);
      const classes = upload(1);
      const step = tf.valueAndGrads((logits) =>
        tf.losses.softmaxCrossEntropy(tf.oneHot(classes, work.columns).toFloat(), logits!)
      );
      return job(tf, () => {
        const { value, grads } = step([x]);
        return [value, ...grads];
      }, { inputs: [x, classes] });
    }
    case "batch norm": {
      const [x, dy] = [toNhwc(tf, host[0]!), toNhwc(tf, host[3]!)];
      const [weight, bias] = [upload(1), upload(2)];
      const step = tf.valueAndGrads((x, weight, bias) => {
        const { mean, variance } = tf.moments(x!, [0, 1, 2]);
        return tf.batchNorm(x!, mean, variance, bias!, weight!, 1e-5);
      });
      return job(tf, () => {
        const { value, grads } = step([x, weight, bias], dy);
        return [value, ...grads];
      }, {
        inputs: [x, dy, weight, bias],
        views: ([y, dx, ...rest]) => [...[y!, dx!].map(toNchw), ...rest],
      });
    }
    case "lstm":
      return lstmJob(tf, work, host);
    case "adam": {
      const [x, g] = [upload(0), upload(1)];
      const p = tf.variable(x, true, `adam${Math.random()}`);
      const optimizer = tf.train.adam(1e-3, 0.9, 0.999, 1e-8);
      return job(tf, () => {
        optimizer.applyGradients({ [p.name]: g });
        return [p.clone()];
      }, { inputs: [x, g, p] });
    }
    case "step": {
      const { check, step, dispose } = tfConvNet(tf, host);
      return { ...job(tf, check, { inputs: [] }), run: step, dispose };
    }
    default:
      return null;
  }
}

function toNchw(x: TfTensor): TfTensor {
  return x.transpose([0, 3, 1, 2]);
}

function padOf({ padding: [top, bottom, left, right] }: ConvShape): TfPad {
  if (top + bottom + left + right === 0) return "valid";
  return [[0, 0], [top, bottom], [left, right], [0, 0]];
}

function convJob(
  tf: Tf,
  work: Work & { op: "conv" },
  host: readonly HostInput[],
): Job | null {
  const depthwise = work.groups > 1 && work.groups === work.c && work.o === work.c;
  if (work.groups > 1 && !depthwise) return null;
  if (work.pass === "dX" || work.pass === "dW") return null;
  const [x, dy] = [toNhwc(tf, host[0]!), toNhwc(tf, host[2]!)];
  // [O, C, kh, kw] → [kh, kw, C, O]; depthwise [C, 1, kh, kw] → [kh, kw, C, 1].
  const perm = depthwise ? [2, 3, 0, 1] : [2, 3, 1, 0];
  const back = depthwise ? [2, 3, 0, 1] : [3, 2, 0, 1];
  const w = tf.tidy(() => tf.tensor(host[1]!.data, host[1]!.shape).transpose(perm));
  const pad = padOf(work);
  const conv = (x: TfTensor, w: TfTensor) =>
    depthwise ? tf.depthwiseConv2d(x, w, work.stride, pad) : tf.conv2d(x, w, work.stride, pad);
  const inputs = [x, dy, w];
  if (work.pass === "forward") {
    return job(tf, () => [conv(x, w)], { inputs, views: ([y]) => [toNchw(y!)] });
  }
  const step = tf.valueAndGrads((x, w) => conv(x!, w!));
  return job(tf, () => {
    const { value, grads } = step([x, w], dy);
    return [value, ...grads];
  }, { inputs, views: ([y, dx, dw]) => [toNchw(y!), toNchw(dx!), dw!.transpose(back)] });
}

/** Gates in the order i f g o both here and there. */
function lstmJob(tf: Tf, work: Lstm, host: readonly HostInput[]): Job {
  const { features, hidden } = work;
  const [x, wi, wh, bias, dy] = host.map(({ data, shape }) => tf.tensor(data, shape)) as [
    TfTensor,
    TfTensor,
    TfTensor,
    TfTensor,
    TfTensor,
  ];
  const layer = tf.layers.lstm({
    units: hidden,
    returnSequences: true,
    recurrentActivation: "sigmoid",
    // The weights are overwritten; an orthogonal start takes minutes.
    recurrentInitializer: "zeros",
    inputShape: [work.steps, features],
  });
  tf.tidy(() => void layer.apply(x));
  const values = [wi.transpose(), wh.transpose(), bias];
  layer.trainableWeights.forEach((w, i) => w.write(values[i]!));
  const inputs = [x, wi, wh, bias, dy, ...values.slice(0, 2)];
  if (work.pass === "forward") return job(tf, () => [layer.apply(x)], { inputs });
  const input = tf.variable(x);
  return job(tf, () => {
    // Σ y · dy has the gradients that dy would start.
    const { grads } = tf.variableGrads(() => layer.apply(input).mul(dy).sum());
    const of = (shape: readonly number[]) =>
      Object.values(grads).filter((g) => g.shape.join() === shape.join());
    return [
      of(x.shape)[0]!,
      of([features, 4 * hidden])[0]!.transpose(),
      of([hidden, 4 * hidden]).at(-1)!.transpose(),
      of([4 * hidden])[0]!,
    ];
  }, { inputs: [...inputs, input], views: (grads) => [layer.apply(x), ...grads] });
}
