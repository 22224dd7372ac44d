import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { init, manualSeed, nn, noGrad, randn } from "../../mod.ts";
import {
  byPicture,
  collate,
  fillPictures,
  keptFeatures,
  loadCaptions,
  trainingOrder,
} from "../../experiments/_captioning_data.ts";
import { generate } from "../../experiments/_captioning_decode.ts";
import {
  END,
  PAD,
  START,
  tokenize,
  unigramEntropy,
  UNKNOWN,
  Vocabulary,
} from "../../experiments/_captioning_vocab.ts";
import { randomScene, type Scene, sceneCaptions } from "../../experiments/synth/_scene_grammar.ts";
import { drawnScene, isTrue, parseCaption, writeScenes } from "../../experiments/synth/scenes.ts";
import { type Outcome, runLetters, savedTensors, startLetters } from "./letters_run.ts";

const script = new URL("../../experiments/captioning.ts", import.meta.url).href;

/** The smallest run that still has several steps and epochs. */
const TINY = tiny({ scenes: 16, epochs: 3 });

function tiny({ scenes, epochs }: { scenes: number; epochs: number }): string[] {
  return [
    ...["--scenes", `${scenes}`, "--size", "32", "--embed-dim", "8", "--hidden-dim", "8"],
    ...["--batch-size", "4", "--epochs", `${epochs}`, "--max-words", "12"],
  ];
}

Deno.test("captioning: a vocabulary has the notebook's entries", () => {
  const captions = ["A dog, a Cat .", "the dog's lily pad", "Ein Hündchen"];
  assertEquals(tokenize(captions[1]!), ["the", "dog", "s", "lily", "pad"]);
  const words = Vocabulary.of(captions, 1);
  assertEquals(words.words, [
    ...["pad", "startofseq", "endofseq", "unk"],
    ...["a", "dog", "cat", "the", "s", "lily", "pad", "ein", "hündchen"],
  ]);
  assertEquals(words.encode("a dog on a pad"), [START, 4, 5, 3, 4, 10, END]);
  assertEquals(words.decode([START, 4, 5, END, PAD, 7]), "a dog");
  assertEquals(Vocabulary.of(captions, 2).words.slice(4), ["a", "dog"]);
});

Deno.test("captioning: the unigram entropy is that of the words to predict", () => {
  // Predicted are 4 4 5 2 and 4 2: shares 1/2, 1/6, 1/3.
  const entropy = unigramEntropy([[START, 4, 4, 5, END], [START, 4, END]]);
  const wanted = Math.log(2) / 2 + Math.log(6) / 6 + Math.log(3) / 3;
  assertAlmostEquals(entropy, wanted, 1e-12);
});

Deno.test("captioning: a batch is sorted by length and padded", () => {
  const { pictures, rows, ids, length } = collate([
    { picture: 7, ids: [1, 5, 2] },
    { picture: 3, ids: [1, 4, 4, 4, 2] },
    { picture: 7, ids: [1, 2] },
  ]);
  assertEquals([pictures, [...rows], length], [[3, 7], [0, 1, 1], 8]);
  assertEquals([...ids.subarray(0, 16)], [1, 4, 4, 4, 2, 0, 0, 0, 1, 5, 2, 0, 0, 0, 0, 0]);
});

Deno.test("captioning: an order by picture keeps its captions together, others each epoch", () => {
  const pairs = [0, 1, 0, 2, 1, 2, 0].map((picture) => ({ picture, ids: [1, 2] }));
  for (const [count, length] of [[1, 3], [2, 6], [3, 7], [9, 7]] as const) {
    const sampler = byPicture(pairs, { count, seed: 1 });
    assertEquals(sampler.length, length);
    const orders = Array.from({ length: 30 }, (_, epoch) => Array.from(sampler.indices(epoch)));
    for (const order of orders) {
      assertEquals([order.length, new Set(order).size], [length, length]);
      const seen = order.map((i) => pairs[i]!.picture);
      const runs = seen.filter((picture, at) => picture !== seen[at - 1]);
      assertEquals(runs.toSorted(), [0, 1, 2], `not side by side: ${seen}`);
    }
    assertEquals(new Set(orders.flat()).size, 7, "captions are left out in every epoch");
    assert(new Set(orders.map(String)).size > 1, "always the same order");
    assertEquals(Array.from(byPicture(pairs, { count, seed: 1 }).indices(3)), orders[3]);
  }
});

Deno.test("captioning: a last batch of one caption is left out, another one each epoch", () => {
  const pairs = Array.from({ length: 9 }, (_, picture) => ({ picture, ids: [1, 2] }));
  for (const count of [0, 1]) {
    const order = (batchSize: number) => trainingOrder(pairs, { count, seed: 1, batchSize });
    assertEquals([2, 3, 4, 5, 8, 16].map((size) => order(size).length), [8, 9, 8, 9, 8, 9]);
    const seen = Array.from({ length: 30 }, (_, epoch) => Array.from(order(4).indices(epoch)));
    for (const indices of seen) assertEquals([indices.length, new Set(indices).size], [8, 8]);
    assertEquals(new Set(seen.flat()).size, 9, "captions are left out in every epoch");
  }
  const only = () => trainingOrder(pairs.slice(0, 1), { count: 0, seed: 1, batchSize: 4 });
  assertThrows(only, nn.run.RunError, "Cannot train on one caption");
});

Deno.test("captioning: batches of captions in any order have few shapes", () => {
  const random = new nn.data.HostRandom(2);
  const pairs = Array.from({ length: 2000 }, (_, i) => ({
    picture: Math.floor(i / 5),
    ids: new Array(random.integer(5, 41)).fill(4),
  }));
  const order = trainingOrder(pairs, { count: 0, seed: 1, batchSize: 32 });
  const shapes = [0, 1, 2].flatMap((epoch) => {
    const indices = Array.from(order.indices(epoch));
    return Array.from({ length: 62 }, (_, b) => {
      const batch = collate(indices.slice(32 * b, 32 * b + 32).map((i) => pairs[i]!));
      const filled = fillPictures(batch, 8);
      assertEquals(filled.slice(0, batch.pictures.length), batch.pictures);
      assertEquals(new Set(filled), new Set(batch.pictures));
      return `${filled.length} ${batch.length}`;
    });
  });
  // A multiple of 8 pictures up to 32, and the longest of 32 captions has more than 28 words of at most 40.
  assert(new Set(shapes).size <= 4 * 3, `${new Set(shapes)}`);
  assertEquals(fillPictures({ ...collate(pairs.slice(0, 7)) }, 8).length, 7);
});

Deno.test("captioning: kept features are made anew when a picture has other contents", async () => {
  await init();
  const dir = await Deno.makeTempDir();
  try {
    await writeScenes(dir, { scenes: 3, seed: 1 });
    const source = { data: dir, cache: dir, scenes: 3, split: 0.5, minWordFreq: 1, seed: 1 };
    const sets = await loadCaptions(source, () => {});
    using model = nn.models.captioner({ vocabSize: 9, encoder: "small", imageSize: 16 });
    const made = async () => {
      const lines: string[] = [];
      using features = await keptFeatures(model.encoder, {
        ...{ sets, size: 16, file: `${dir}/new/folder/kept`, batchSize: 2 },
        say: (line) => lines.push(line),
      });
      const kept = lines.some((line) => line.startsWith("Kept the features"));
      return { kept, values: [...await features.data()] };
    };
    const first = await made(), second = await made();
    assertEquals([first.kept, second.kept, second.values], [true, false, first.values]);
    const [a, b] = [0, 1].map((i) => `${dir}/Images/scene_${i}.png`) as [string, string];
    await Deno.copyFile(b, a);
    const { mtime } = await Deno.stat(b);
    await Deno.utime(a, mtime!, new Date(mtime!.getTime() + 5000));
    const third = await made();
    assert(third.kept, "features of a picture that is gone");
    const F = first.values.length / 3;
    assertEquals(third.values.slice(0, F), third.values.slice(F, 2 * F));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("captioning: captions of a scene are grammatical and true, of another one false", () => {
  for (let i = 0; i < 300; i++) {
    const [scene, other] = [i, i + 1].map((n) => randomScene(new nn.data.HostRandom(5, 2 * n))) as [
      Scene,
      Scene,
    ];
    for (const caption of sceneCaptions(scene)) {
      assert(parseCaption(caption), caption);
      assert(isTrue(caption, scene), caption);
      const alike = JSON.stringify(scene.groups) === JSON.stringify(other.groups);
      assert(alike || !isTrue(caption, other), caption);
    }
  }
  const scene = {
    groups: [
      { count: 1, colour: "red", shape: "circle" },
      { count: 2, colour: "blue", shape: "square" },
    ],
    side: "left",
  } as const;
  for (
    const [caption, right] of [
      ["a red circle to the left of two blue squares", true],
      ["two blue squares to the right of a red circle", true],
      ["a picture with two blue squares and a red circle", true],
      ["to the right of a red circle there are two blue squares", true],
      ["to the left of two blue squares there is a red circle", true],
      ["to the left of a red circle there are two blue squares", false],
      ["to the right of a red circle there is two blue squares", false],
      ["a red circle to the right of two blue squares", false],
      ["a red circle to the left of three blue squares", false],
      ["a red circles to the left of two blue squares", false],
      ["there are a red circle to the left of two blue squares", false],
      ["a red circle on the left", false],
      ["a red circle on the left and two blue squares on the left", false],
      ["red circle", false],
    ] as const
  ) assertEquals(isTrue(caption, scene), right, caption);
});

Deno.test("captioning: drawn scenes are the same for a seed, in Flickr8k's files", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await writeScenes(`${dir}/a`, { scenes: 3, seed: 1 });
    await writeScenes(`${dir}/b`, { scenes: 3, seed: 1 });
    for (const name of ["captions.txt", "Images/scene_0.png", "Images/scene_2.png"]) {
      assertEquals(Deno.readFileSync(`${dir}/a/${name}`), Deno.readFileSync(`${dir}/b/${name}`));
    }
    const { columns } = await nn.data.readCsv(`${dir}/a/captions.txt`);
    assertEquals(columns.image?.slice(4, 7), ["scene_0.png", "scene_1.png", "scene_1.png"]);
    const { data } = await nn.data.readImage(`${dir}/a/Images/scene_1.png`, { channels: 3 });
    assertEquals(data, drawnScene(1, 1).pixels);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

/** Log probabilities of every next word after some words, from the whole decoder at once. */
async function nextWords(
  decoder: nn.models.CaptionDecoder,
  options: { vector: ReturnType<typeof randn>; words: readonly number[] },
): Promise<Float32Array> {
  const { tensor } = await import("../../mod.ts");
  const ids = tensor(Int32Array.from([...options.words, PAD]), {
    shape: [1, options.words.length + 1],
  });
  const logits = noGrad(() => decoder.forward(options.vector, ids).logSoftmax(2));
  return await logits.select(1, options.words.length).data() as Float32Array;
}

Deno.test("captioning: greedy captions and beams are those of an exhaustive search", async () => {
  await init();
  manualSeed(4);
  const V = 7, maxWords = 3;
  const { decoder } = nn.models.captioner({ vocabSize: V, embedDim: 5, hiddenDim: 7, encoder: 18 });
  // Larger weights, so that captions differ.
  for (const p of decoder.parameters()) noGrad(() => p.mul_(6));
  const vectors = randn([3, 5]);
  const generated = async (beams: number) => {
    const ids = generate(decoder, vectors, { beams, maxWords });
    const flat = [...await ids.data() as Int32Array];
    return [0, 1, 2].map((n) => flat.slice(n * (maxWords + 1), (n + 1) * (maxWords + 1)));
  };
  const found = await generated(1), searched = await generated(16);
  for (const n of [0, 1, 2]) {
    const vector = vectors.narrow(0, n, 1);
    // Greedy: the likeliest word each time.
    const greedy: number[] = [];
    while (greedy.length <= maxWords && greedy.at(-1) !== END) {
      const p = await nextWords(decoder, { vector, words: [START, ...greedy] });
      p[PAD] = p[START] = p[UNKNOWN] = -Infinity;
      greedy.push(p.indexOf(Math.max(...p)));
    }
    while (greedy.length <= maxWords) greedy.push(PAD);
    assertEquals(found[n], greedy);
    // Beams: with room for all prefixes of two words none of those is lost.
    const all: { words: number[]; sum: number }[] = [];
    const grow = async (words: number[], sum: number): Promise<void> => {
      if (words.length > maxWords || words.at(-1) === END) {
        all.push({ words, sum });
        return;
      }
      const p = await nextWords(decoder, { vector, words: [START, ...words] });
      for (const v of [END, 4, 5, 6]) await grow([...words, v], sum + p[v]!);
    };
    await grow([], 0);
    const kept = all.filter(({ words }) =>
      JSON.stringify(padded(words)) === JSON.stringify(searched[n])
    );
    assertEquals(kept.length, 1, `a caption of the search: ${searched[n]}`);
    // The 16 likeliest of all captions hold the winner by mean, unless beams lost it on the way.
    const best = all.toSorted((a, b) => b.sum - a.sum).slice(0, 16)
      .toSorted((a, b) => b.sum / b.words.length - a.sum / a.words.length)[0]!;
    const mean = (c: { words: number[]; sum: number }) => c.sum / c.words.length;
    assert(mean(kept[0]!) >= mean(best) - 1e-4, `${mean(kept[0]!)} against ${mean(best)}`);
  }
  function padded(words: number[]): number[] {
    return [...words, ...new Array(maxWords + 1 - words.length).fill(PAD)];
  }
});

Deno.test("captioning: a run writes its folder, and a stopped one resumes to the same bits", async () => {
  const cwd = await Deno.makeTempDir();
  const whole = `${cwd}/whole`, dir = `${cwd}/stopped`;
  const ended = ({ code, stderr }: Outcome) => assertEquals([code, stderr], [0, ""]);
  try {
    const first = await runLetters([...TINY, "--out", whole], { cwd, script });
    ended(first);
    assertMatch(first.stdout, /\[Epoch 3\/3\] Train Loss: \d\.\d{4} \| Val Loss: \d\.\d{4}/);
    const { experiment, metrics } = JSON.parse(Deno.readTextFileSync(`${whole}/summary.json`));
    assertEquals(experiment, "captioning");
    for (const name of ["valLoss", "unigramEntropy", "bleu4", "captionAccuracy"]) {
      assert(metrics[name] >= 0, name);
    }
    // In the middle of an epoch, as a rule.
    const running = startLetters([...TINY, "--out", dir], { cwd, script });
    await running.saw("Batch 1/6");
    running.kill("SIGINT");
    const { code, stdout } = await running.outcome;
    assertEquals(code, 130);
    assertStringIncludes(stdout, `deno task train captioning --resume ${dir}`);
    ended(await runLetters(["--resume", dir], { cwd, script }));
    assertEquals(savedTensors(dir), savedTensors(whole));

    // A longer run goes on at the rate that it has there by its cosine.
    ended(await runLetters(["--resume", dir, "--epochs", "4"], { cwd, script }));
    const rates = Deno.readTextFileSync(`${dir}/metrics.csv`).trim().split(/\r?\n/)
      .map((line) => line.split(",")[1]);
    assertEquals(rates[0], "lr");
    assertAlmostEquals(Number(rates[4]), 0.003 * (1 + Math.cos(Math.PI * 3 / 4)) / 2, 1e-9);

    // The run captions any picture.
    const picture = `${cwd}/.cache/scenes-16-42/Images/scene_0.png`;
    const caption = new URL("../../experiments/caption.ts", import.meta.url).href;
    const said = await runLetters([picture, "--weights", whole], { cwd, script: caption });
    ended(said);
    assert(said.stdout.endsWith("\n"), said.stdout);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("captioning: a last batch of captions of one picture trains", async () => {
  const cwd = await Deno.makeTempDir();
  try {
    // 33 pictures with two captions each: batches of 4 leave two captions of the last picture.
    const args = tiny({ scenes: 42, epochs: 1 });
    const { code, stdout, stderr } = await runLetters(args, { cwd, script });
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(stdout, "(17 batches of 4 an epoch)");
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("captioning: features of a frozen encoder are kept on disk and read again", async () => {
  const cwd = await Deno.makeTempDir();
  const args = [...TINY, "--encoder", "resnet18", "--frozen", "--checkpoint-every", "3", "--out"];
  try {
    const first = await runLetters([...args, `${cwd}/a`], { cwd, script });
    assertStringIncludes(first.stdout, "Kept the features in");
    const second = await runLetters([...args, `${cwd}/b`], { cwd, script });
    assertEquals([second.code, second.stderr], [0, ""]);
    assert(!second.stdout.includes("Kept the features in"), second.stdout);
    const line = /Train Loss: .* \(/;
    assertEquals(line.exec(second.stdout)?.[0], line.exec(first.stdout)?.[0]);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});

Deno.test("captioning: each wrong input is one line that says what would be right", async (t) => {
  const cwd = await Deno.makeTempDir();
  await Deno.writeTextFile(`${cwd}/captions.txt`, "image,caption\na.jpg,a dog\nb.jpg,a cat\n");
  const caption = new URL("../../experiments/caption.ts", import.meta.url).href;
  const cases: [string, string[], RegExp, string?][] = [
    ["weights", ["--weights", "x.pth"], /choose --encoder resnet18/],
    ["pictures", ["--data", cwd], /a\.jpg should be in/],
    ["folder", ["--data", `${cwd}/none`], /none/],
    ["no picture", ["--weights", cwd], /name a picture/, caption],
    ["no weights", ["a.png"], /--weights is a run folder/, caption],
    ["not a run", ["a.png", "--weights", cwd], /not a run folder/, caption],
  ];
  try {
    for (const [name, args, pattern, other] of cases) {
      await t.step(name, async () => {
        const { code, stderr } = await runLetters(args, { cwd, script: other ?? script });
        assertEquals(code, 1);
        assertMatch(stderr, /^error: [^\n]+\n$/);
        assertMatch(stderr, pattern);
      });
    }
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
});
