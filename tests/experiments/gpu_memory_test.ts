import { assertEquals } from "@std/assert";
import { init, memory, nn } from "../../mod.ts";
import { extractFeatures, linearProbe } from "../../experiments/_moco_probe.ts";
import { detectorOptions, FLAGS } from "../../experiments/_ssd_flags.ts";
import { introduce } from "../../experiments/_ssd_log.ts";
import { makeDetector } from "../../experiments/_ssd_model.ts";

/** Fails if work leaves memory on the GPU. The first time does not count: constants are made that stay. */
async function assertFrees(work: () => Promise<void>): Promise<void> {
  await init();
  await work();
  const before = memory();
  await work();
  const after = memory();
  assertEquals([after.liveBytes, after.buffers], [before.liveBytes, before.buffers]);
}

Deno.test("moco: features and linear classifiers leave nothing on the GPU", async () => {
  await init();
  const labels = Uint8Array.from({ length: 20 }, (_, i) => i % 10);
  using encoder = nn.models.convNet({ channels: [8, 8, 8], outFeatures: 16 });
  const images = new Uint8Array(20 * 3072);
  const set = { images, labels, count: 20, channels: 3, height: 32, width: 32 } as const;
  await assertFrees(async () => {
    const options = { batchSize: 5, probe: "output" } as const;
    using train = extractFeatures(encoder, set, options);
    using test = extractFeatures(encoder, set, options);
    const sets = { train, test, trainLabels: labels, testLabels: labels };
    await linearProbe(sets, { classes: 10, share: 1 }, { steps: 4, seed: 1 });
  });
});

Deno.test("ssd: the introduction leaves nothing on the GPU", async () => {
  await init();
  const { options } = FLAGS.parse([]);
  using model = makeDetector(detectorOptions(options));
  const scenes = [{ image: new Uint8Array(3), objects: [] }];
  const set = { scenes, width: 1, height: 1, mostObjects: 1 };
  await assertFrees(() => introduce(() => {}, { model, sets: { train: set, val: set }, options }));
});
