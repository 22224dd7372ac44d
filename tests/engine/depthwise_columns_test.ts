/** Depthwise convolutions by columns, which only a discrete GPU and enough threads take, against software's kernels. */

import { assert, assertEquals } from "@std/assert";
import {
  conv2d,
  convTranspose2d,
  init,
  randint,
  readAll,
  scope,
  type Tensor,
} from "../../engine/mod.ts";
import { gpu } from "../../engine/gpu/device.ts";
import { asHardware, asSoftware } from "../helpers/as_hardware.ts";
import { assertSame } from "../helpers/close.ts";
import { poisoned } from "../helpers/poison.ts";

const { features } = await init();

/** Columns that end within a thread's outputs, all of a column, more padding than the window, both steps. */
const CASES = [
  { x: [2, 40, 17, 300], size: 3, stride: 1, padding: 1, dtype: "f32" },
  { x: [3, 52, 14, 212], size: 5, stride: 1, padding: 2, dtype: "f32" },
  { x: [2, 56, 31, 603], size: 3, stride: 2, padding: 0, dtype: "f32" },
  { x: [4, 70, 15, 466], size: 5, stride: 2, padding: 3, dtype: "f16" },
  { x: [2, 125, 12, 275], size: 3, stride: 1, padding: 3, dtype: "f16" },
] as const;

/** The results, and names of the kernels that made them. */
async function results(run: () => Tensor[]): Promise<{ values: Float32Array[]; names: string[] }> {
  using _ = poisoned();
  const { queue } = gpu(), { launch } = queue, names: string[] = [];
  queue.launch = (work) => {
    names.push(work.kernel.name);
    launch.call(queue, work);
  };
  try {
    const made = scope(run);
    // A sum of zeros may come out as -0: that is the same here.
    const values = (await readAll(made)).map((v) =>
      Float32Array.from(v as Float32Array, (e) => e + 0)
    );
    for (const t of made) t.dispose();
    return { values, names: names.filter((n) => n.startsWith("depthwise")) };
  } finally {
    queue.launch = launch;
  }
}

for (const { x: shape, size, stride, padding, dtype } of CASES) {
  const ignore = dtype === "f16" && !features.has("shader-f16");
  const name = `${size} x ${size} / ${stride} + ${padding} in ${dtype}`;
  Deno.test({
    name: `depthwise windows of whole numbers are exact by columns: ${name}`,
    ignore,
    async fn() {
      const draw = (of: readonly number[]) => randint(-2, 3, { shape: of }).to(dtype);
      const channels = shape[1];
      const [x, w, bias] = [draw(shape), draw([channels, 1, size, size]), draw([channels])];
      const run = () => {
        const at = { stride, padding, groups: channels };
        const gx = x.detach().requiresGrad_();
        const y = conv2d(gx, w, { ...at, bias });
        y.sum().backward();
        const turned = stride === 1 ? [convTranspose2d(x, w, { ...at, bias })] : [];
        return [y.detach(), conv2d(x, w, at), gx.grad!.detach(), ...turned].map((t) => t.to("f32"));
      };
      const few = await results(() => asSoftware(run));
      const many = await results(() => asHardware(run));
      many.values.forEach((values, i) => assertSame(values, few.values[i]!, `${name} ${i}`));
      const rows = shape[2] === 14 ? 7 : 8;
      const start = `depthwise_columns_${size}_${stride}_${rows}`;
      const turned = [`${start}_turned`, `${start}_turned_bias`];
      const wanted = [`${start}_bias`, start, ...stride === 1 ? turned : []];
      for (const kernel of wanted) assert(many.names.includes(kernel), `${kernel}: ${many.names}`);
      assertEquals(few.names.filter((n) => /columns/.test(n)), []);
      for (const t of [x, w, bias]) t.dispose();
    },
  });
}

Deno.test("few outputs stay with the kernels that have a thread for less", async () => {
  const [x, w] = [randint(0, 2, { shape: [1, 4, 16, 16] }), randint(0, 2, { shape: [4, 1, 3, 3] })];
  const [a, b] = [x.to("f32"), w.to("f32")];
  const { names } = await results(() => [asHardware(() => conv2d(a, b, { groups: 4 }))]);
  assertEquals(names, ["depthwise_conv2d"]);
  for (const t of [x, w, a, b]) t.dispose();
});
