import { assert, assertEquals } from "@std/assert";
import { formatResult } from "../../bench/mod.ts";
import { workloads } from "../../bench/workloads.ts";

Deno.test("bench: names are unique and large work is left out where asked", () => {
  const all = workloads({ batch: 8, largest: Infinity });
  assertEquals(new Set(all.map((w) => w.name)).size, all.length);
  const small = workloads({ batch: 8, largest: 5e9 });
  assert(small.length < all.length);
  assert(!small.some((w) => w.name === "gemm 4096"));
});

Deno.test("bench: a line has time, spread, rates, share of the roofline and the ratio to before", () => {
  const r = {
    name: "gemm 8",
    from: "test",
    ms: 2,
    low: 1.5,
    high: 3,
    gflops: 10,
    gbs: 1.25,
    roofline: 0.256,
    dispatches: 1,
  };
  const line = formatResult(r, { ...r, ms: 3 });
  assertEquals(
    line.replace(/\s+/g, " "),
    "gemm 8 2.00 1.50–3.00 10.00 1.25 26 % 1.50x",
  );
});
