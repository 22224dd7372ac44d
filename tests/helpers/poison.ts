/**
 * Fresh buffers are filled with ones (NaN in f32 and f16, -1 in i32) before a kernel sees them. An
 * element that no kernel writes, and a kernel that takes undefined contents for zeros, is then seen;
 * else a buffer's last user, or WebGPU itself, may have left the right number there.
 */

import { gpu } from "../../engine/gpu/device.ts";
import type { PooledBuffer } from "../../engine/gpu/pool.ts";
import type { Storage } from "../../engine/gpu/storage.ts";
import { kernel } from "../../engine/kernels/kernel.ts";

const POISON = kernel({
  name: "poison",
  buffers: [{ name: "y", access: "write", type: "u32" }],
  params: { count: "u32" },
  body:
    `  for (var i = wid.x * 64u + lid.x; i < p.count; i += nwg.x * 64u) { y[i] = 0xffffffffu; }`,
});

/** Workgroups of a launch; few, so that no faked limit is in the way. */
const GROUPS = 8;

/** Poisons every buffer that is taken for GPU output until the result is disposed of. */
export function poisoned(): Disposable {
  const { pool, queue, limits } = gpu();
  const { take } = pool;
  pool.take = (bytes, options) => {
    const pooled = take.call(pool, bytes, options);
    if (!options.hostWrite) fill(pooled, options.label);
    return pooled;
  };
  const fill = (pooled: PooledBuffer, label: string) => {
    const byteEnd = Math.min(pooled.bytes, limits.maxStorageBufferBindingSize);
    const count = byteEnd / 4;
    queue.launch({
      kernel: POISON,
      buffers: [{ storage: { pooled, label } as Storage, byteOffset: 0, byteEnd }],
      params: { count },
      grid: [Math.min(GROUPS, Math.ceil(count / 64)), 1, 1],
      cost: { flops: 0, bytes: byteEnd },
    });
  };
  return {
    [Symbol.dispose]() {
      pool.take = take;
    },
  };
}
