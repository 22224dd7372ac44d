/** @file Words of the captioning experiment. */

/** Ids of the four entries that are not words of captions. */
export const PAD = 0, START = 1, END = 2, UNKNOWN = 3;

const SPECIAL: readonly string[] = ["pad", "startofseq", "endofseq", "unk"];

/** The words of a text: lower case, runs of letters, digits and underscores of any script. */
export function tokenize(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];
}

/**
 * Words by id. The first four are `pad`, `startofseq`, `endofseq` and `unk`; then every word that occurs
 * often enough, in the order of its first appearance.
 */
export class Vocabulary {
  /** Words, by id. */
  readonly words: readonly string[];
  readonly #ids = new Map<string, number>();

  /** @param words All words in order, the four special ones first. */
  constructor(words: readonly string[]) {
    this.words = words;
    words.forEach((word, id) => this.#ids.set(word, id));
  }

  /** The vocabulary of captions whose words occur at least `minFrequency` times. */
  static of(captions: Iterable<string>, minFrequency: number): Vocabulary {
    const counts = new Map<string, number>();
    for (const caption of captions) {
      for (const word of tokenize(caption)) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
    // A caption's own "pad" (a lily pad) is another entry with that spelling. The notebook then takes its
    // id for that of padding, so its losses count padding.
    const kept = [...counts].filter(([, count]) => count >= minFrequency).map(([word]) => word);
    return new Vocabulary([...SPECIAL, ...kept]);
  }

  /** Number of entries. */
  get size(): number {
    return this.words.length;
  }

  /** Ids of a caption between `startofseq` and `endofseq`; unknown words are `unk`. */
  encode(caption: string): number[] {
    return [START, ...tokenize(caption).map((word) => this.#ids.get(word) ?? UNKNOWN), END];
  }

  /** The words before `endofseq`, joined by spaces. */
  decode(ids: ArrayLike<number>): string {
    const all = Array.from(ids);
    const end = all.indexOf(END);
    const kept = (end < 0 ? all : all.slice(0, end)).filter((id) => id !== START && id !== PAD);
    return kept.map((id) => this.words[id]!).join(" ");
  }
}

/**
 * Entropy in nats of the ids that are to be predicted, when each is guessed by its frequency alone:
 * -Σ p log p. A model that learns anything from the picture or the words before has a lower loss.
 */
export function unigramEntropy(captions: Iterable<readonly number[]>): number {
  const counts = new Map<number, number>();
  let total = 0;
  for (const ids of captions) {
    for (const id of ids.slice(1)) {
      counts.set(id, (counts.get(id) ?? 0) + 1);
      total++;
    }
  }
  let entropy = 0;
  for (const count of counts.values()) entropy -= count / total * Math.log(count / total);
  return entropy;
}
