/** The tables of tiles, and what the planner makes of them. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { fileOf, saves, tableText, trials } from "../../bench/tune.ts";
import { gpu, reopen } from "../../engine/gpu/device.ts";
import {
  classOf,
  defaultTile,
  fits,
  type GemmSize,
  type GemmUse,
  tileFor,
  tileName,
  TILES,
} from "../../engine/ops/gemm_tiles.ts";
import { planGemm } from "../../engine/ops/gemm_plan.ts";
import { adapterKey, TUNED } from "../../engine/ops/tuned/mod.ts";
import { init } from "../../mod.ts";

const USE = { kind: "nn", dtype: "f32" } as const;
const SIZE = { M: 100, N: 100, K: 100, batch: 1 };

Deno.test("every entry of a table names a tile, which the tests of tiles run, and a class", () => {
  const names = new Set(TILES.map(tileName));
  assertEquals(names.size, TILES.length);
  assert(TUNED.length > 0);
  for (const { tiles, date, deno, adapter } of TUNED) {
    assert(/^\d{4}-\d\d-\d\d$/.test(date) && /^\d+\.\d+\.\d+$/.test(deno), adapter);
    for (const [key, tile] of Object.entries(tiles)) {
      assert(names.has(tile), `${adapter}: ${key} has ${tile}`);
      assert(/^(nn|nt|tn|conv|dx|dw) f(32|16) (8|16|more)x(8|more)$/.test(key), key);
    }
  }
});

Deno.test("the planner takes a measured tile that fits, and its own elsewhere", async () => {
  await init();
  const mine = tileName(defaultTile(SIZE, USE));
  const other = TILES.find((t) => tileName(t) !== mine && fits(t, "f32"))!;
  const unfit = TILES.find((t) => t.staged)!;
  const tables = TUNED as unknown as { adapter: string; tiles: Record<string, string> }[];
  const before = tables.splice(0);
  try {
    Object.assign(gpu().info, { adapter: "Some GPU (driver 1.2)" });
    const tiles: Record<string, string> = { [classOf(USE, SIZE)]: tileName(other) };
    tables.push({ adapter: "Some GPU", tiles });
    assertEquals(tileName(tileFor(SIZE, USE)), tileName(other));
    assertEquals(tileName(tileFor(SIZE, { ...USE, dtype: "f16" })), mine);
    assertEquals(
      tileName(tileFor({ ...SIZE, M: 8 }, USE)),
      tileName(defaultTile({ ...SIZE, M: 8 }, USE)),
    );
    Object.assign(gpu().info, { adapter: "Another GPU" });
    assertEquals(tileName(tileFor(SIZE, USE)), mine);
    // A tile that needs more workgroup memory than there is, and a name that no tile has.
    Object.assign(gpu().info, { adapter: "Some GPU" });
    Object.assign(gpu().info.limits, { maxComputeWorkgroupStorageSize: 16 });
    tiles[classOf(USE, SIZE)] = tileName(unfit);
    assertEquals(tileName(tileFor(SIZE, USE)), mine);
    tiles[classOf(USE, SIZE)] = "3x3";
    assertEquals(tileName(tileFor(SIZE, USE)), mine);
  } finally {
    tables.splice(0, tables.length, ...before);
    await reopen();
  }
});

Deno.test("adapters without tables get what suits their kind", async () => {
  await reopen();
  const lanes = gpu().info.subgroupSize === 8;
  assertEquals(tileName(defaultTile(SIZE, USE)), lanes ? "16x32_lanes" : "8x32");
  assertEquals(tileName(defaultTile(SIZE, { kind: "nt" })), lanes ? "16x16_lanes" : "8x32");
  Object.assign(gpu().info, { subgroupSize: 0 });
  assertEquals(tileName(defaultTile(SIZE, USE)), "8x32");
  Object.assign(gpu().info, { software: false });
  assertEquals(tileName(defaultTile(SIZE, USE)), "32x32_staged16");
  assertEquals(
    tileName(defaultTile({ M: 4096, N: 4096, K: 4096, batch: 1 }, USE)),
    "128x128_staged8",
  );
  await reopen();
});

Deno.test("a GPU's plan shares K out where it is short of threads, can, and one binding holds the shares", async () => {
  await reopen({ limits: { maxStorageBufferBindingSize: 1 << 20 } });
  Object.assign(gpu().info, { software: false, adapter: "none" });
  const plan = (size: GemmSize, use: Partial<GemmUse> = {}) => {
    const { tile, splits } = planGemm(size, { ...USE, ...use });
    return `${tileName(tile)} ${splits}`;
  };
  const size = { M: 256, N: 1568, K: 2048, batch: 1 };
  // 1.5 MiB of outputs: not two shares.
  assertEquals(plan(size), "32x32_staged16 1");
  Object.assign(gpu().info.limits, { maxStorageBufferBindingSize: 1 << 27 });
  assertEquals(plan(size), "128x128_staged8 8");
  assertEquals(plan(size, { shares: false }), "32x32_staged16 1");
  assertEquals(plan({ ...size, K: 256 }), "32x32_staged16 1");
  // 144 of the 256 workgroups that fill a GPU: to the nearest, two shares.
  assertEquals(plan({ M: 512, N: 4608, K: 3136, batch: 1 }), "128x128_staged8 2");
  assertEquals(plan({ M: 64, N: 64, K: 1 << 20, batch: 1 }), "64x64_staged8 1024");
  await reopen();
});

Deno.test("a trial lies in the class that it is measured for, and no class has two", () => {
  const all = trials("f32", 1).map((t) => classOf(t.use, t.size));
  assertEquals(new Set(all).size, all.length);
  assertEquals(all.filter((name) => name.startsWith("dw")).length, 3);
});

Deno.test("a tile has to save a quarter of the planner's time, and 50 microseconds", () => {
  assert(saves(0.74, 1) && !saves(0.76, 1));
  assert(saves(0.04, 0.1) && !saves(0.06, 0.1));
});

Deno.test("a table is written as a module of the engine", () => {
  const text = tableText({
    adapter: "NVIDIA H200",
    date: "2026-01-02",
    deno: "2.9.6",
    tiles: { "nn f32 8x8": "8x8" },
  });
  assertStringIncludes(text, "export const NVIDIA_H200: TunedTable = {");
  assertStringIncludes(text, '"nn f32 8x8": "8x8",\n  },\n};');
  assertEquals(fileOf("NVIDIA H200"), "nvidia_h200.ts");
  assertEquals(adapterKey("llvmpipe (LLVM 15.0.6, 256 bits)"), "llvmpipe");
});
