/** Which subgroup matrices a device multiplies, and whether rightly. */

import { MATRICES, type MatrixShape, shapeName } from "../kernels/kernel.ts";
import { runShader } from "./run_shader.ts";

/** The feature of subgroup matrices, which Dawn offers and no standard has yet. */
export const MATRICES_FEATURE = "chromium-experimental-subgroup-matrix";

/** What an adapter says of a shape. Source: Dawn, docs/dawn/features/subgroup_matrix.md */
interface MatrixConfig {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly componentType: string;
  readonly resultComponentType: string;
}

/** The shapes of f16 with sums in f32 that the device has and that give a right product. */
export async function matrixShapesOf(
  device: GPUDevice,
  { about, subgroupSize }: { about: GPUAdapterInfo | undefined; subgroupSize: number },
): Promise<MatrixShape[]> {
  const { features } = device;
  const able = features.has("shader-f16") && features.has(MATRICES_FEATURE as GPUFeatureName);
  // A workgroup's rows are subgroups, and its threads are tried 64 at a time.
  if (!able || subgroupSize === 0 || 64 % subgroupSize !== 0) return [];
  const configs = (about as { subgroupMatrixConfigs?: Iterable<MatrixConfig> } | undefined)
    ?.subgroupMatrixConfigs ?? [];
  const shapes = [...configs]
    .filter((c) => c.componentType === "f16" && c.resultComponentType === "f32")
    .map(({ M, N, K }) => ({ m: M, n: N, k: K }));
  const right: MatrixShape[] = [];
  for (const shape of shapes) {
    if (await tryMatrix(device, shape, subgroupSize)) right.push(shape);
  }
  return right;
}

/**
 * Text of a product of one matrix by another, twice added up, in every subgroup; whole numbers, so that it is
 * exact. It needs all that the kernels do.
 */
function trialText({ m, n, k }: MatrixShape, subgroups: number): string {
  return `enable f16;
enable subgroups;
enable ${MATRICES};
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
var<workgroup> a: array<f16, ${m * k}>;
var<workgroup> b: array<f16, ${k * n}>;
var<workgroup> c: array<f32, ${m * n * subgroups}>;
@compute @workgroup_size(64) fn main(
  @builtin(local_invocation_id) lid: vec3<u32>,
  @builtin(subgroup_id) sub: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  for (var i = lid.x; i < ${m * k}u; i += 64u) { a[i] = f16(i % 7u) - 3.0h; }
  // Column by column, as one of the kernels' layouts.
  for (var i = lid.x; i < ${k * n}u; i += 64u) {
    b[i % ${n}u * ${k}u + i / ${n}u] = f16(i % 5u) - 2.0h;
  }
  workgroupBarrier();
  let left = subgroupMatrixLoad<subgroup_matrix_left<f16, ${k}, ${m}>, row_major>(&a, 0u, ${k}u);
  let right = subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, col_major>(&b, 0u, ${k}u);
  var sum: subgroup_matrix_result<f32, ${n}, ${m}>;
  sum = subgroupMatrixMultiplyAccumulate(left, right, sum);
  sum = subgroupMatrixMultiplyAccumulate(left, right, sum);
  subgroupMatrixStore<row_major>(&c, sub * ${m * n}u, sum, ${n}u);
  workgroupBarrier();
  for (var i = lane; i < ${m * n}u; i += ${64 / subgroups}u) {
    y[sub * ${m * n}u + i] = bitcast<u32>(c[sub * ${m * n}u + i]);
  }
}`;
}

/** Whether a shape gives a right product in subgroups of a size. */
export async function tryMatrix(
  device: GPUDevice,
  shape: MatrixShape,
  subgroupSize: number,
): Promise<boolean> {
  const { m, n, k } = shape;
  let result: Uint32Array | string;
  try {
    const subgroups = 64 / subgroupSize;
    const words = new Uint32Array(m * n * subgroups);
    result = await runShader(device, trialText(shape, subgroups), words);
  } catch {
    return false;
  }
  if (typeof result === "string") return false;
  const got = new Float32Array(result.buffer);
  return got.every((value, i) => {
    const [row, column] = [Math.floor(i / n) % m, i % n];
    let sum = 0;
    for (let j = 0; j < k; j++) sum += ((row * k + j) % 7 - 3) * ((j * n + column) % 5 - 2);
    return value === 2 * sum;
  });
}

/** What the trials of a device's shapes came to, in words. */
export function matricesDetail(shapes: readonly MatrixShape[]): string {
  return shapes.length > 0
    ? `${shapes.map(shapeName).join(", ")}, f16 in, sums in f32`
    : "not granted";
}
