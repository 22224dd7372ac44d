/** @file Captions from a trained model: greedy and by beam search, wholly on the GPU. */

import { full, type nn, noGrad, scope, stack, type Tensor, tensor, where, zeros } from "../mod.ts";
import { END, PAD, START, UNKNOWN } from "./_captioning_vocab.ts";

/** State of the LSTM for N sequences: [layers, N, H] each. */
interface State {
  readonly h: Tensor;
  readonly c: Tensor;
}

/** One step of the decoder: inputs [N, E] → logits [N, V] and the next state. */
function step(
  decoder: nn.models.CaptionDecoder,
  input: Tensor,
  state?: State,
): { logits: Tensor; state: State } {
  const { output, hn, cn } = decoder.lstm.forward(input.unsqueeze(1), {
    h0: state?.h,
    c0: state?.c,
  });
  return { logits: decoder.fc.forward(output.select(1, 0)), state: { h: hn, c: cn } };
}

/** How captions are generated. */
export interface DecodeOptions {
  /** Captions followed at a time; 1 is greedy. */
  readonly beams: number;
  /** Most words. */
  readonly maxWords: number;
}

/**
 * Ids of the most likely captions, i32 [N, maxWords + 1]: words other than `unk`, then `endofseq`, then
 * `pad`.
 *
 * Beam search keeps the `beams` captions with the largest sums of log probabilities; a finished one goes
 * on with `pad` at no cost. The winner has the largest mean over its words and its end. Nothing is read
 * back on the way.
 *
 * @param vectors What the encoder gives for N pictures, [N, E].
 */
export function generate(
  decoder: nn.models.CaptionDecoder,
  vectors: Tensor,
  { beams, maxWords }: DecodeOptions,
): Tensor {
  return scope(() => noGrad(() => beamSearch(decoder, vectors, { beams, maxWords })));
}

function beamSearch(
  decoder: nn.models.CaptionDecoder,
  vectors: Tensor,
  { beams: K, maxWords }: DecodeOptions,
): Tensor {
  const [N, E] = vectors.shape as [number, number];
  const V = decoder.fc.weight.shape[0]!;
  // Every picture K times, side by side; at first only one of the K copies counts.
  const copies = vectors.unsqueeze(1).expand([N, K, E]).reshape(N * K, E);
  let { state } = step(decoder, copies);
  const lead = tensor(Float32Array.from({ length: K }, (_, k) => k === 0 ? 0 : -1e30));
  let scores = lead.expand([N, K]);
  let lengths = zeros([N, K]);
  let last = full([N * K], START, { dtype: "i32" });
  const row = tensor(Int32Array.from({ length: N }, (_, n) => n * K)).unsqueeze(1);
  // What may follow `endofseq` and `pad`: `pad`, at no cost.
  const onlyPad = tensor(Float32Array.from({ length: V }, (_, v) => v === PAD ? 0 : -1e30));
  const never = tensor(
    Float32Array.from({ length: V }, (_, v) => [PAD, START, UNKNOWN].includes(v) ? -1e30 : 0),
  );
  let words: Tensor[] = [];
  for (let t = 0; t <= maxWords; t++) {
    const next = step(decoder, decoder.embedding.forward(last), state);
    const done = last.eq(END).logicalOr(last.eq(PAD)).unsqueeze(1);
    const gains = where(done, onlyPad, next.logits.logSoftmax(1).add(never));
    const sums = gains.add(scores.reshape(N * K, 1)).reshape(N, K * V);
    const best = sums.topk(K, { dim: 1 });
    scores = best.values;
    const beam = best.indices.floorDivide(V);
    const word = best.indices.sub(beam.mul(V)).reshape(N * K);
    const from = row.add(beam).reshape(N * K);
    const pick = (s: Tensor) => s.indexSelect(1, from);
    state = { h: pick(next.state.h), c: pick(next.state.c) };
    words = [...words.map((w) => w.indexSelect(0, from)), word];
    const open = where(word.eq(PAD), zeros([]), full([], 1)).reshape(N, K);
    lengths = lengths.reshape(N * K).indexSelect(0, from).reshape(N, K).add(open);
    last = word;
  }
  const winner = scores.div(lengths.clamp({ min: 1 })).argmax(1);
  const chosen = row.reshape(N).add(winner).to("i32");
  return stack(words, 1).indexSelect(0, chosen).contiguous();
}
