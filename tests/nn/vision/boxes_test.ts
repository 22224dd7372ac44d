/** Boxes: MXNet's own numbers, cases derived by hand, errors. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { init, memory, nn, rand, readAll, scope, stack, tensor, zeros } from "../../../mod.ts";
import { NMS_CASES, PRIOR_CASES, TARGET_CASE } from "./mxnet_literals.ts";

const info = await init();

const { multiboxPrior, multiboxTarget, multiboxDetection, nms, boxIou, drawBoxes } = nn.vision;

/** As upstream compares: |got - want| <= atol + rtol · |want|. */
function assertNear(got: ArrayLike<number>, want: readonly number[], tolerance: number): void {
  assertEquals(got.length, want.length);
  want.forEach((w, i) => {
    const off = Math.abs(got[i]! - w);
    assert(off <= tolerance * (1 + Math.abs(w)), `at ${i}: got ${got[i]}, want ${w}`);
  });
}

Deno.test("multiboxPrior() gives MXNet's anchors", async () => {
  for (const { ratios, expected } of PRIOR_CASES) {
    const anchors = scope(() =>
      multiboxPrior(zeros([1, 1, 561, 728]), { sizes: [0.75, 0.5, 0.25], ratios })
    );
    assertEquals(anchors.shape, [1, 2042040, 4]);
    const cell = anchors.narrow(1, (250 * 728 + 250) * 5, 1);
    assertNear(await cell.data(), expected, 1e-5);
    for (const t of [anchors, cell]) t.dispose();
  }
});

Deno.test("multiboxPrior() orders anchors, clips, steps and shifts", async () => {
  // H/W = 1/2: half width size/4·√ratio, half height size/2/√ratio.
  const two = multiboxPrior(zeros([3, 1, 2]), { sizes: [0.5, 0.25], ratios: [1, 4] });
  assertNear(
    await two.data(),
    [
      [0.125, 0.25, 0.375, 0.75],
      [0.1875, 0.375, 0.3125, 0.625],
      [0, 0.375, 0.5, 0.625],
      [0.625, 0.25, 0.875, 0.75],
      [0.6875, 0.375, 0.8125, 0.625],
      [0.5, 0.375, 1, 0.625],
    ].flat(),
    1e-7,
  );
  const clipped = multiboxPrior(zeros([1, 1]), { sizes: [2], clip: true });
  assertEquals(await clipped.array(), [[[0, 0, 1, 1]]]);
  // steps and offsets are [y, x]: centre ((c + 0.25)·0.5, (r + 0.75)·0.4).
  const moved = multiboxPrior(zeros([2, 1]), {
    sizes: [0.1],
    steps: [0.4, 0.5],
    offsets: [0.75, 0.25],
  });
  assertNear(await moved.data(), [0.025, 0.25, 0.225, 0.35, 0.025, 0.65, 0.225, 0.75], 1e-6);
});

Deno.test("multiboxTarget() gives MXNet's targets", async () => {
  const { locTarget, locMask, clsTarget } = multiboxTarget(
    tensor([TARGET_CASE.anchors]),
    tensor([TARGET_CASE.labels]),
    {
      clsPred: tensor([TARGET_CASE.clsPred]),
      overlapThreshold: 0.5,
      negativeMiningRatio: 3,
      negativeMiningThresh: 0.4,
    },
  );
  const [loc, mask, cls] = await readAll([locTarget, locMask, clsTarget]);
  assertNear(loc!, TARGET_CASE.locTarget, 1e-5);
  assertEquals([...mask!], TARGET_CASE.locMask);
  assertEquals([...cls!], TARGET_CASE.clsTarget);
});

Deno.test("multiboxTarget() matches greedily, mines, and ignores images without objects", async () => {
  // Overlaps with objects 0 and 1: anchor 0: 1, 1/3; anchor 1: 1/3, 1; anchor 2: 1/3, 0; anchor 3: none.
  const anchors = tensor([[[0, 0, 0.2, 0.2], [0.1, 0, 0.3, 0.2], [0, 0.1, 0.2, 0.3], [
    0.6,
    0.6,
    0.9,
    0.9,
  ]]]);
  const objects = [[2, 0, 0, 0.2, 0.2], [0, 0.1, 0, 0.3, 0.2]];
  const none = [-1, -1, -1, -1, -1];
  const labels = tensor([[...objects, none], [none, ...objects], [objects[1]!, none, none]]);
  const clsPred = zeros([3, 2, 4]);
  const cls = async (options = {}) =>
    await multiboxTarget(anchors, labels, { clsPred, ...options }).clsTarget.array();
  assertEquals(await cls(), [[3, 1, 0, 0], [-1, -1, -1, -1], [0, 1, 0, 0]]);
  assertEquals(await cls({ overlapThreshold: 0.3 }), [[3, 1, 3, 0], [-1, -1, -1, -1], [
    1,
    1,
    0,
    0,
  ]]);
  // One negative a positive: of candidates below 0.3, equal in probability, the first ones.
  assertEquals(await cls({ negativeMiningRatio: 1, negativeMiningThresh: 0.34 }), [
    [3, 1, 0, 0],
    [-1, -1, -1, -1],
    [0, 1, -1, -1],
  ]);
  assertEquals(await cls({ negativeMiningRatio: 1, negativeMiningThresh: 0.3 }), [
    [3, 1, -1, 0],
    [-1, -1, -1, -1],
    [-1, 1, 0, -1],
  ]);
});

Deno.test("multiboxTarget() takes hundreds of anchors and objects", async () => {
  // Objects are the anchors in reverse order: each anchor must find its own.
  const n = 300;
  const boxes = Array.from({ length: n }, (_, i) => {
    const [x, y] = [(i % 20) / 20, Math.floor(i / 20) / 20];
    return [x, y, x + 0.06, y + 0.06];
  });
  const labels = boxes.map((box, i) => [i, ...box]).reverse();
  const { clsTarget, locTarget } = multiboxTarget(tensor([boxes]), tensor([labels]), {
    clsPred: zeros([1, 2, n]),
  });
  const [cls, loc] = await readAll([clsTarget, locTarget]);
  assertEquals([...cls!], Array.from({ length: n }, (_, i) => i + 1));
  assert(loc!.every((v) => v === 0));
});

Deno.test("multiboxDetection() decodes, sorts and suppresses", async () => {
  const anchors = tensor([[[0.1, 0.1, 0.3, 0.3], [0.12, 0.1, 0.32, 0.3], [0.6, 0.6, 0.8, 0.8], [
    0.6,
    0.6,
    0.8,
    0.8,
  ]]]);
  // Anchors 0 and 1 overlap by 0.18 / 0.22; 2 and 3 are one box of two classes. Anchor 3 is below 0.05
  // in all but its background.
  const clsProb = tensor([[[0.2, 0.1, 0.3, 0.96], [0.7, 0.8, 0.1, 0.01], [0.1, 0.1, 0.6, 0.03]]]);
  const locPred = zeros([1, 16]);
  const detect = async (options = {}) =>
    (await multiboxDetection(clsProb, locPred, { anchors, ...options }).array() as number[][][])[0]!
      .map((row) => row.map((v) => Math.round(v * 1e4) / 1e4));
  const [b0, b1, b2] = [[0.1, 0.1, 0.3, 0.3], [0.12, 0.1, 0.32, 0.3], [0.6, 0.6, 0.8, 0.8]];
  const gone = [-1, -1, -1, -1, -1, -1];
  assertEquals(await detect({ threshold: 0.05 }), [
    [0, 0.8, ...b1],
    [-1, 0.7, ...b0],
    [1, 0.6, ...b2],
    gone,
  ]);
  // The background is not compared: 0.03 is a detection of class 1.
  assertEquals((await detect())[3], [-1, 0.03, ...b2]);
  assertEquals(await detect({ threshold: 0.05, nmsThreshold: 0 }), [
    [0, 0.7, ...b0],
    [0, 0.8, ...b1],
    [1, 0.6, ...b2],
    gone,
  ]);
  assertEquals((await detect({ threshold: 0.05, nmsTopk: 1 })).map((r) => r[0]), [0, -1, -1, -1]);
  // IoU 9/11 = 0.8181…: suppression is from the threshold on.
  assertEquals((await detect({ nmsThreshold: 0.82 })).map((r) => r[0]), [0, 0, 1, -1]);
});

Deno.test("targets decode back to the objects they came from", async () => {
  const anchors = multiboxPrior(zeros([4, 4]), { sizes: [0.3, 0.5], ratios: [1, 2] });
  const A = anchors.shape[1]!;
  const label = [1, 0.2, 0.3, 0.55, 0.7];
  const { locTarget, clsTarget } = multiboxTarget(anchors, tensor([[label]]), {
    clsPred: zeros([1, 3, A]),
    overlapThreshold: 0.4,
  });
  const one = nn.vision.boxIou(anchors.select(0, 0), tensor([label.slice(1)]));
  const prob = stack([clsTarget.eq(0).to("f32"), zeros([1, A]), clsTarget.eq(2).to("f32")], 1);
  const rows = await multiboxDetection(prob, locTarget, {
    anchors,
    threshold: 0.5,
    nmsThreshold: 0,
  }).array() as number[][][];
  const found = rows[0]!.filter((r) => r[0]! >= 0);
  const overlaps = await one.data();
  assertEquals(found.length, overlaps.filter((v) => v > 0.4).length);
  assert(found.length >= 2);
  for (const row of found) assertNear(row.slice(2), label.slice(1), 1e-5);
});

Deno.test("nms() gives MXNet's survivors, alone and in batches", async () => {
  assertEquals(NMS_CASES.length, 10);
  for (const { name, batch: images = 1, data, attrs, expected } of NMS_CASES) {
    const rows = tensor(data as number[][]);
    const one = images === 1 ? rows : rows.reshape([images, data.length / images, 6]);
    const batch = stack([one, one, one]).reshape([3, 1, ...one.shape]);
    const [single, many] = await readAll([nms(one, attrs), nms(batch, attrs)]);
    const want = expected.flat();
    try {
      assertNear(single!, want, 1e-3);
      assertNear(many!, [...want, ...want, ...want], 1e-3);
    } catch (error) {
      throw new Error(`${name}: ${error}`);
    }
  }
});

Deno.test({
  name: "boxes in f16: overlaps of pixels in f32, the same survivors",
  ignore: !info.features.has("shader-f16"),
  async fn() {
    // 400² is over what f16 holds.
    const boxes = tensor([[0, 0, 400, 400], [0, 200, 400, 600]], { dtype: "f16" });
    const overlaps = boxIou(boxes, boxes);
    assertEquals(overlaps.dtype, "f32");
    const got = await overlaps.data();
    [1, 1 / 3, 1 / 3, 1].forEach((w, i) => assert(Math.abs(got[i]! - w) < 1e-6, `${got}`));
    const rows = tensor([[0, 0.5, 0, 0, 4, 4], [0, 0.75, 0, 0, 4, 3.5]], { dtype: "f16" });
    const kept = nms(rows);
    assertEquals(kept.dtype, "f16");
    assertEquals([...await kept.data()], [0, 0.75, 0, 0, 4, 3.5, -1, -1, -1, -1, -1, -1]);
  },
});

Deno.test("nms() of 2000 boxes equals a loop on the host, and leaves nothing behind", async () => {
  const n = 2000;
  const x = scope(() => {
    const at = rand([n, 2]);
    const boxes = [rand([n, 1]), at, at.add(rand([n, 2]).mul(0.1))];
    return rowsOf(boxes);
  });
  const [data] = await readAll([x]);
  const before = memory().liveBytes;
  const y = nms(x, { scoreIndex: 0, coordStart: 1, overlapThresh: 0.3 });
  const got = await y.data();
  y.dispose();
  assert(memory().liveBytes <= before); // less if garbage was collected
  const rows = Array.from({ length: n }, (_, i) => [...data!.subarray(5 * i, 5 * i + 5)]);
  rows.sort((a, b) => b[0]! - a[0]!);
  const kept: number[][] = [];
  for (const r of rows) if (kept.every((k) => iou(k, r) <= 0.3)) kept.push(r);
  assert(kept.length > 100 && kept.length < 1900, `${kept.length}`);
  const want = [...kept.flat(), ...new Array((n - kept.length) * 5).fill(-1)];
  assertEquals([...got], want);
});

function rowsOf(parts: ReturnType<typeof rand>[]) {
  const [score, low, high] = parts as [typeof parts[0], typeof parts[0], typeof parts[0]];
  const columns = [score!, low!, high!].flatMap((t) =>
    Array.from({ length: t.shape[1]! }, (_, c) => t.select(1, c))
  );
  return stack(columns, 1);
}

/** IoU of rows [score, box] in f32 steps. */
function iou(a: readonly number[], b: readonly number[]): number {
  const f = Math.fround;
  const side = (k: number) =>
    Math.max(0, f(Math.min(a[k + 3]!, b[k + 3]!) - Math.max(a[k + 1]!, b[k + 1]!)));
  const area = (r: readonly number[]) => f(f(r[3]! - r[1]!) * f(r[4]! - r[2]!));
  const inter = f(side(0) * side(1));
  return f(inter / f(f(area(a) + area(b)) - inter));
}

Deno.test("boxIou() of every pair, 0 for empty boxes, with a gradient", async () => {
  const a = tensor([[0, 0, 2, 2], [0, 0, 0, 0]], { requiresGrad: true });
  const b = tensor([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6], [0, 0, 0, 0]]);
  const y = boxIou(a, b);
  assertNear(await y.data(), [1 / 7, 1, 0, 0, 0, 0, 0, 0], 1e-7);
  // d (i/u) / d xmax: i' = 1, u' = 2 - 1 → (1·7 - 1·1) / 49.
  y.select(0, 0).select(0, 0).backward();
  const grad = await a.grad!.data();
  assertNear([grad[2]!, grad[3]!], [6 / 49, 6 / 49], 1e-6);
  assert([...grad].every(Number.isFinite));
  assertEquals(boxIou(zeros([2, 5, 4]), zeros([2, 3, 4])).shape, [2, 5, 3]);
});

Deno.test("drawBoxes() outlines boxes and leaves the rest", () => {
  const image = { width: 8, height: 6, data: new Uint8Array(8 * 6 * 3).fill(9) };
  const drawn = drawBoxes(image, [[0.25, 1 / 6, 0.75, 5 / 6], [0.9, 0.5, 1.5, 9]], {
    thickness: 1,
    colors: [[255, 0, 0], [0, 0, 255]],
  });
  const text = Array.from({ length: 6 }, (_, y) =>
    Array.from({ length: 8 }, (_, x) => {
      const [r, , b] = drawn.data.subarray((y * 8 + x) * 3);
      return r === 255 ? "R" : b === 255 ? "B" : ".";
    }).join(""));
  assertEquals(text, [
    "........",
    "..RRRR..",
    "..R..R..",
    "..R..R.B",
    "..RRRR.B",
    ".......B",
  ]);
  assertEquals(image.data[0], 9);
  const clear = drawBoxes({ width: 1, height: 1, data: new Uint8Array(4) }, [[0, 0, 1, 1]]);
  assertEquals(clear.data[3], 255);
});

Deno.test("drawBoxes() writes labels above a box, or inside where there is no room", () => {
  const image = { width: 20, height: 24, data: new Uint8Array(20 * 24 * 3) };
  const options = { colors: [[200, 0, 0]] as const, thickness: 1 };
  const draw = (box: number[], label: string) => {
    const { data } = drawBoxes(image, [box], { ...options, labels: [label] });
    return Array.from({ length: 24 }, (_, y) =>
      Array.from({ length: 20 }, (_, x) => {
        const [r, g] = data.subarray((y * 20 + x) * 3);
        return g === 255 ? "#" : r === 200 ? "+" : ".";
      }).join(""));
  };
  const low = draw([0.1, 0.5, 1, 1], "1!");
  assertEquals(low.slice(3, 12).map((row) => row.slice(0, 16)), [
    "..+++++++++++++.",
    "..+++#+++++#+++.",
    "..++##+++++#+++.",
    "..+++#+++++#+++.",
    "..+++#+++++#+++.",
    "..+++#+++++#+++.",
    "..+++#+++++++++.",
    "..++###++++#+++.",
    "..+++++++++++++.",
  ]);
  // No room above: inside. No room at the right: moved to the left.
  const high = draw([0.9, 0, 1, 1], "1!");
  assertEquals(high[1], ".......+++#+++++#+++");
  assertEquals(draw([0.1, 0.5, 1, 1], "")[4], ".".repeat(20));
});

Deno.test("box functions throw for what does not fit", () => {
  const anchors = zeros([1, 3, 4]);
  assertThrows(
    () => multiboxTarget(anchors, zeros([2, 1, 5]), { clsPred: zeros([2, 4, 2]) }),
    TypeError,
    "Cannot multiboxTarget anchors [1, 3, 4], labels [2, 1, 5] and class predictions [2, 4, 2]",
  );
  assertThrows(
    () => multiboxDetection(zeros([1, 2, 3]), zeros([1, 9]), { anchors }),
    TypeError,
    "offsets [1, 9] and anchors [1, 3, 4]: they must be [B, C, A], [B, 4 · A] and [1, A, 4]",
  );
  assertThrows(() => multiboxPrior(zeros([2])), TypeError, "it must be [..., H, W]");
  assertThrows(() => multiboxPrior(zeros([2, 2]), { sizes: [] }), RangeError, "sizes []");
  assertThrows(() => multiboxPrior(zeros([2, 2]), { offsets: [0, 2] }), RangeError, "[0, 2]");
  assertThrows(() => nms(zeros([6])), TypeError, "it must be [..., n, k], f32 or f16");
  assertThrows(() => nms(zeros([1, 5])), RangeError, "columns are 0 to 4");
  assertThrows(() => nms(zeros([1, 6]), { idIndex: 6 }), RangeError, "it must be -1 to 5");
  assertThrows(() => boxIou(anchors, zeros([3])), TypeError, "both must be [..., n, 4]");
  const image = { width: 2, height: 2, data: new Uint8Array(5) };
  assertThrows(() => drawBoxes(image, []), TypeError, "5 bytes of an image 2 x 2");
  const good = { width: 2, height: 2, data: new Uint8Array(12) };
  assertThrows(() => drawBoxes(good, [[0, 0, NaN, 1]]), TypeError, "four finite numbers");
});
