/**
 * @file jax-js on one of its backends, as the comparison sees it. Work is compiled by its `jit`; arrays
 * are freed by reference counts, so an argument that lives on is passed as `x.ref`.
 */

import type { Conv, Work } from "../work.ts";
import type { HostInput, Job, Library } from "./library.ts";

/** The package, pinned. A name that is computed keeps it out of the graph of modules. */
const PACKAGE = "npm:@jax-js/jax";
const VERSION = "0.1.25";

interface JaxArray {
  readonly ref: JaxArray;
  data(): Promise<Float32Array>;
  dispose(): void;
  reshape(shape: readonly number[]): JaxArray;
  add(other: JaxArray | number): JaxArray;
  sub(other: JaxArray | number): JaxArray;
  mul(other: JaxArray | number): JaxArray;
  div(other: JaxArray | number): JaxArray;
  astype(dtype: unknown): JaxArray;
}

type Fn = (...x: JaxArray[]) => JaxArray | JaxArray[];

interface Jax {
  init(device: string): Promise<string[]>;
  jit(f: Fn): Fn;
  blockUntilReady(x: readonly JaxArray[]): Promise<unknown>;
  vjp(f: Fn, inputs: readonly JaxArray[]): [JaxArray, (dy: JaxArray) => JaxArray[]];
  valueAndGrad(f: Fn): (...x: JaxArray[]) => [JaxArray, JaxArray];
  readonly lax: {
    convGeneralDilated(
      x: JaxArray,
      w: JaxArray,
      strides: readonly number[],
      padding: readonly (readonly [number, number])[],
      options: { featureGroupCount: number },
    ): JaxArray;
  };
  readonly nn: {
    softmax(x: JaxArray, axis: number): JaxArray;
    logSoftmax(x: JaxArray, axis: number): JaxArray;
  };
  readonly numpy: {
    readonly int32: unknown;
    arange(count: number): JaxArray;
    equal(a: JaxArray, b: JaxArray): JaxArray;
    where(condition: JaxArray, a: JaxArray | number, b: JaxArray | number): JaxArray;
    array(data: Float32Array | Int32Array, options: { device: string }): JaxArray;
    matmul(a: JaxArray, b: JaxArray): JaxArray;
    sum(x: JaxArray, axis?: number | readonly number[]): JaxArray;
    mean(
      x: JaxArray,
      axis?: number | readonly number[],
      options?: { keepdims: boolean },
    ): JaxArray;
    sqrt(x: JaxArray): JaxArray;
    transpose(x: JaxArray): JaxArray;
    zerosLike(x: JaxArray): JaxArray;
  };
}

/** jax-js on `device`; convolutions are left out on request. */
export async function jaxJs(
  device: "webgpu" | "wasm",
  { convs = true }: { convs?: boolean } = {},
): Promise<Library> {
  const jax = await import(`${PACKAGE}@${VERSION}`) as Jax;
  if (!(await jax.init(device)).includes(device)) throw new Error(`jax-js opened no ${device}`);
  const kept: JaxArray[] = [];
  const number = jax.numpy.array(new Float32Array(4096).fill(1), { device });
  return {
    name: device === "wasm" ? "jax-js WASM" : "jax-js",
    prepare(work, inputs): Promise<Job | null> {
      const f = convs || work.op !== "conv" ? functionOf(jax, work) : null;
      if (!f) return Promise.resolve(null);
      const arrays = inputsFor(work, inputs).map((x) => upload(jax, x, device));
      const jit = jax.jit(f);
      const call = () => [jit(...arrays.map((a) => a.ref))].flat();
      return Promise.resolve({
        // Work is submitted when a result is asked for, so results are kept until then.
        run: () => void kept.push(...call()),
        results: () => Promise.all(call().map((a) => a.data())),
        dispose: () => arrays.forEach((a) => a.dispose()),
      });
    },
    async synchronize() {
      await jax.blockUntilReady([...kept, number]);
      kept.splice(0).forEach((a) => a.dispose());
    },
  };
}

/** The inputs that the function takes: Adam also its state, forward passes no gradient. */
function inputsFor(work: Work, inputs: readonly HostInput[]): readonly HostInput[] {
  if (work.op === "conv" && work.pass === "forward") return inputs.slice(0, 2);
  if (work.op !== "adam") return inputs;
  const zeros = () => ({ ...inputs[0]!, data: new Float32Array(work.parameters) });
  return [...inputs, zeros(), zeros()];
}

function upload(jax: Jax, { data, shape }: HostInput, device: string): JaxArray {
  return jax.numpy.array(data, { device }).reshape(shape);
}

/** What `jit` compiles; null where the library has no such operation. */
function functionOf(jax: Jax, work: Work): Fn | null {
  const { nn, numpy: np } = jax;
  switch (work.op) {
    case "gemm":
      return work.dtype === "f16" ? null : (a, b) => np.matmul(a!, b!);
    case "conv":
      return convFunction(jax, work);
    case "softmax":
      return (x) => nn.softmax(x!, 1);
    case "sum rows":
      return (x) => np.sum(x!, 1);
    case "sum columns":
      return (x) => np.sum(x!, 0);
    case "transpose":
      return (x) => np.transpose(x!);
    case "cross entropy": {
      const loss = jax.valueAndGrad((logits, classes) => {
        // Its oneHot makes an identity matrix of all classes, which is over the adapter's binding.
        const own = np.equal(
          np.arange(work.columns).astype(np.int32).reshape([1, -1]),
          classes!.reshape([-1, 1]),
        );
        return np.sum(np.where(own, nn.logSoftmax(logits!, 1), 0)).mul(-1 / work.rows);
      });
      return (x, y) => loss(x!, y!);
    }
    case "batch norm":
      return batchNormFunction(jax);
    case "adam":
      return adamFunction(jax);
    default:
      return null;
  }
}

function convFunction(jax: Jax, work: Conv): Fn | null {
  if (work.pass === "dX") return null;
  const { stride, padding: [top, bottom, left, right], groups: featureGroupCount } = work;
  const padding = [[top, bottom], [left, right]] as const;
  const conv: Fn = (x, w) =>
    jax.lax.convGeneralDilated(x!, w!, stride, padding, { featureGroupCount });
  if (work.pass === "forward") return conv;
  if (work.pass === "dW") {
    return (x, w, dy) => {
      // The convolution itself is used by nothing, and `jit` leaves it out.
      const [y, gradients] = jax.vjp((w) => conv(x!, w!), [w!]);
      y.dispose();
      return gradients(dy!);
    };
  }
  return (x, w, dy) => {
    const [y, gradients] = jax.vjp(conv, [x!, w!]);
    return [y, ...gradients(dy!)];
  };
}

function batchNormFunction(jax: Jax): Fn {
  const { numpy: np } = jax;
  const channels = (v: JaxArray) => v.reshape([1, -1, 1, 1]);
  const norm: Fn = (x, weight, bias) => {
    const mean = np.mean(x!.ref, [0, 2, 3], { keepdims: true });
    const centred = x!.sub(mean);
    const variance = np.mean(centred.ref.mul(centred.ref), [0, 2, 3], { keepdims: true });
    return centred.div(np.sqrt(variance.add(1e-5))).mul(channels(weight!)).add(channels(bias!));
  };
  return (x, weight, bias, dy) => {
    const [y, gradients] = jax.vjp(norm, [x!, weight!, bias!]);
    return [y, ...gradients(dy!)];
  };
}

/** The first step, with state that starts at zero and is read and written as in any other. */
function adamFunction({ numpy: np }: Jax): Fn {
  return (p, g, m, v) => {
    const first = m!.mul(0.9).add(g!.ref.mul(0.1));
    const second = v!.mul(0.999).add(g!.ref.mul(g!).mul(0.001));
    const root = np.sqrt(second.ref.div(0.001)).add(1e-8);
    return [p!.sub(first.ref.div(0.1).div(root).mul(1e-3)), first, second];
  };
}
