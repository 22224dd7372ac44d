/**
 * What a fault is tried on: the samples of the op records, on this adapter and on the tiles of others, and
 * the tests of those files that cover kernels without a record.
 */

import { gpu } from "../../engine/gpu/device.ts";
import type { DeviceInfo } from "../../engine/gpu/device.ts";
import { allOps } from "../../engine/op.ts";
import { onDirect } from "../../engine/ops/conv_direct.ts";
import { onWinograd } from "../../engine/ops/conv_winograd.ts";
import { checkOp } from "../helpers/check_op.ts";
import { checkEdges, checkWholeEdge, GEMM_EDGES } from "../helpers/gemm_edges.ts";
import { registeredTests, testFiles } from "../helpers/registered.ts";
import { ROOT } from "../helpers/source.ts";

/** Something that runs kernels and checks what they give. */
export interface Case {
  readonly name: string;
  /** The op whose record it runs, or "". */
  readonly op: string;
  /** Runs it; the problems found. Throws as a test does. */
  run(): Promise<readonly string[]>;
  /** Seconds that it took without a fault. */
  seconds: number;
}

/** Facts under which the planner picks other kernels; a plain adapter's first. */
const ADAPTERS: Readonly<Record<string, Partial<DeviceInfo>>> = {
  "": {},
  " on software without subgroups": { software: true, subgroupSize: 0 },
  " on a discrete GPU": { software: false, subgroupSize: 0 },
};

/** The ops whose kernels depend on the adapter. */
const PLANNED = new RegExp(
  "^(matmul|linear|conv\\w*|\\w*[nN]orm(Eval)?|\\w*[sS]oftmax|crossEntropy|sum|mean|max|min|prod|any|all|argm\\w*|cum\\w*|topk)$",
);

/** One case for each sample of each op and one for its other dtypes, on each adapter that matters. */
export async function opCases(): Promise<Case[]> {
  for (const { name } of Deno.readDirSync(new URL("engine/ops/", ROOT))) {
    if (name.endsWith(".ts")) await import(new URL(`engine/ops/${name}`, ROOT).href);
  }
  const cases: Case[] = [], half = gpu().info.features.has("shader-f16");
  for (const adapter of Object.keys(ADAPTERS)) {
    for (const op of allOps().values()) {
      if (!op.reference || (adapter !== "" && !PLANNED.test(op.name))) continue;
      const add = (what: string, run: () => Promise<readonly string[]>) =>
        cases.push({
          name: `${op.name} ${what}${adapter}`,
          op: op.name,
          seconds: 0,
          run: () => onAdapter(adapter, run),
        });
      if (adapter === "" && /^conv/.test(op.name)) {
        for (const i of op.samples.keys()) {
          add(
            `${i} by Winograd's filtering`,
            async () =>
              (await onWinograd(() => checkOp(op, { only: [i], dtypes: false }), 3840)).problems,
          );
          add(
            `${i} by the kernel for few channels`,
            async () => (await onDirect(() => checkOp(op, { only: [i], dtypes: false }))).problems,
          );
        }
      }
      for (const i of op.samples.keys()) {
        add(`${i}`, async () => (await checkOp(op, { only: [i], dtypes: false })).problems);
      }
      add("in other dtypes", async () => (await checkOp(op, { only: [] })).problems);
      for (const i of (GEMM_EDGES[op.name] ?? []).keys()) {
        add(`edge ${i}`, () => checkEdges(op, [i]));
        add(`edge ${i} in whole numbers`, () => checkWholeEdge(op, i, half));
      }
    }
  }
  return cases;
}

/** Runs `fn` while the planner sees the facts of an adapter. */
async function onAdapter<T>(adapter: string, fn: () => Promise<T>): Promise<T> {
  const { info } = gpu();
  const { software, subgroupSize } = info;
  Object.assign(info, ADAPTERS[adapter]);
  try {
    return await fn();
  } finally {
    Object.assign(info, { software, subgroupSize });
  }
}

/** Folders with tests of kernels that no record reaches. */
const FOLDERS = ["tests/engine", "tests/nn/layers", "tests/nn/optim", "tests/nn/vision"];
/** Tests that open the device again, or that the cases above run. */
const ELSEWHERE = /\breopen\(|\bcheck(Op|Edges)\(/;

/** One case for each test of those files. */
export async function testCases(): Promise<Case[]> {
  const files = FOLDERS.flatMap((folder) => testFiles(folder, (text) => !ELSEWHERE.test(text)));
  const tests = await registeredTests(files);
  return tests.filter((t) => !t.ignore).map(({ file, name, run }) => ({
    name: `${file}: ${name}`,
    op: "",
    seconds: 0,
    async run() {
      await run();
      return [];
    },
  }));
}
