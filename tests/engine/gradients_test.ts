/** Clipping, and loss scaling undone, over many gradients in one dispatch, as on a discrete GPU. */

import { assert, assertEquals } from "@std/assert";
import { gpu } from "../../engine/gpu/device.ts";
import {
  clipGradNorm,
  clipGradValue,
  init,
  profile,
  readAll,
  type Tensor,
  tensor,
  zeros,
} from "../../engine/mod.ts";
import { unscaleGradients } from "../../engine/functions_amp.ts";
import { asHardware } from "../helpers/as_hardware.ts";
import { Draw } from "../helpers/draw.ts";
import { poisoned } from "../helpers/poison.ts";

await init();

/**
 * One by one and by fours, of one workgroup and of several; more of each kind than a dispatch takes, of which the
 * first and the last are more than a turn.
 */
const SIZES = [4099, 8200, 1, 3, 8, 260, ...Array.from({ length: 34 }, (_, i) => 517 + i)];

/** Parameters with gradients. */
function parameters(): Tensor[] {
  const draw = new Draw("gradients");
  return SIZES.map((size) => {
    const p = tensor(new Float32Array(size)).requiresGrad_();
    p.grad = tensor(Array.from({ length: size }, () => draw.weight()));
    return p;
  });
}

/** What `fn` returns, and all gradients after it. */
async function after(fn: (params: Tensor[]) => Tensor | void): Promise<Float32Array[]> {
  using _fresh = poisoned();
  const params = parameters();
  const result = fn(params);
  const all = [...(result ? [result] : []), ...params.map((p) => p.grad!)];
  const data = await readAll(all) as Float32Array[];
  for (const t of [...params, ...all]) t.dispose();
  return data;
}

/** Says where two lists of arrays first differ; `assertEquals` takes a minute to show thousands of numbers. */
function assertSame(got: readonly Float32Array[], want: readonly ArrayLike<number>[]) {
  want.forEach((values, i) => {
    const at = Array.from(values).findIndex((v, e) => !Object.is(v, got[i]![e]));
    assert(at < 0, `array ${i}, element ${at}: ${got[i]![at]}, not ${values[at]}`);
  });
}

for (const normType of [2, 1, 3, Infinity]) {
  Deno.test(`clipGradNorm() of order ${normType} gives the same bits to many gradients at once`, async () => {
    const clip = (params: Tensor[]) => clipGradNorm(params, { maxNorm: 2, normType });
    const want = await after(clip);
    assertSame(await after((params) => asHardware(() => clip(params))), want);
    const factor = want[0]![0]! / Math.min(2, want[0]![0]!);
    const sizes = want.slice(1).flatMap((grad) => [...grad].map((g) => Math.abs(g) * factor));
    const norm = normType === Infinity
      ? sizes.reduce((m, g) => Math.max(m, g))
      : sizes.reduce((sum, g) => sum + g ** normType, 0);
    const root = normType === Infinity ? norm : norm ** (1 / normType);
    // Terms, their sum in shares, a root, a quotient and a product, each rounded.
    const most = (16 + Math.sqrt(sizes.length)) * 2 ** -24 * root;
    assert(Math.abs(root - want[0]![0]!) <= most, `${root}, ${want[0]![0]}`);
  });
}

Deno.test("clipGradValue() gives the same bits to many gradients at once", async () => {
  const clip = (params: Tensor[]) => clipGradValue(params, 0.75);
  const want = await after(clip);
  assertSame(await after((params) => asHardware(() => clip(params))), want);
  const plain = await after(() => {});
  const limited = plain.map((g) => g.map((v) => Math.min(Math.max(v, -0.75), 0.75)));
  assertSame(want, limited);
});

Deno.test("many gradients are few dispatches, fours and others apart", async () => {
  const params = parameters();
  const { dispatches } = await profile(() => asHardware(() => clipGradValue(params, 1)));
  const fours = SIZES.filter((size) => size % 4 === 0).length;
  const atOnce = Math.min(16, gpu().limits.maxStorageBuffersPerShaderStage);
  const most = Math.ceil(fours / atOnce) + Math.ceil((SIZES.length - fours) / atOnce);
  assertEquals(dispatches.length, most);
  for (const p of params) p.dispose();
});

Deno.test("gradients are unscaled, and one that is not finite is found wherever it is", async () => {
  const scale = 4;
  const plain = await after(() => {});
  for (const many of [false, true]) {
    for (const bad of [null, 0, 3, 4, 5, SIZES.length - 1]) {
      const state = tensor([scale, 0]);
      const found = tensor([0], { dtype: "u32" });
      const got = await after((params) => {
        if (bad !== null) {
          const values = Float32Array.from(plain[bad]!);
          values[values.length - 1] = bad % 2 === 0 ? Infinity : NaN;
          params[bad]!.grad = tensor(values);
        }
        const unscale = () => unscaleGradients(params.map((p) => p.grad!), state, found);
        if (many) asHardware(unscale);
        else unscale();
      });
      assertEquals([...await found.data()], [bad === null ? 0 : 1], `${many} ${bad}`);
      got.forEach((g, i) => {
        if (i !== bad) assertSame([g], [plain[i]!.map((v) => v / scale)]);
      });
      for (const t of [state, found]) t.dispose();
    }
  }
});

Deno.test("clipGradNorm() of one small gradient is its norm, of each order", async () => {
  for (const size of [8, 7]) {
    const rising = Array.from({ length: size }, (_, i) => (i + 1) / 4 * (i % 2 ? -1 : 1));
    for (const values of [rising, rising.toReversed()]) {
      for (const order of [1, 2, 3, 4.5, Infinity]) {
        const p = tensor(new Float32Array(size)).requiresGrad_();
        p.grad = tensor(values);
        const norm = await clipGradNorm([p], { maxNorm: 100, normType: order }).item();
        const want = order === Infinity
          ? size / 4
          : values.reduce((sum, v) => sum + Math.abs(v) ** order, 0) ** (1 / order);
        // A power is exp2(p · log2 |x|) with relative errors near 1e-6.
        const right = Math.abs(norm - want) < 1e-5 * want;
        assert(right, `${size} of order ${order}: ${norm}, not ${want}`);
      }
    }
  }
});

Deno.test("clipGradNorm() of order Infinity sees every element, whatever the gradient's shape", async () => {
  for (const shape of [[6], [6, 1], [1, 6], [2, 3], [3, 2, 1, 1], [1, 3, 1, 2]]) {
    for (let at = 0; at < 6; at++) {
      const values = Float32Array.from({ length: 6 }, (_, i) => i === at ? -6 : 1);
      for (const turned of shape.length === 2 ? [false, true] : [false]) {
        const p = zeros(shape).requiresGrad_();
        const grad = tensor(values, { shape: turned ? shape.toReversed() : shape });
        p.grad = turned ? grad.transpose(0, 1) : grad;
        const norm = await clipGradNorm([p], { maxNorm: 3, normType: Infinity }).item();
        assertEquals(norm, 6, `${shape}, the largest at ${at}, turned: ${turned}`);
      }
    }
  }
});
