/** @file Scenes of coloured shapes, and the grammar that speaks about them. */

import type { HostRandom } from "../../nn/data/rng.ts";

/** Colours by name, RGB. */
export const COLOURS: Readonly<Record<string, readonly [number, number, number]>> = {
  red: [214, 48, 44],
  green: [46, 160, 67],
  blue: [48, 92, 214],
  yellow: [236, 190, 40],
};

/** Shapes by name. */
export const SHAPES: readonly string[] = ["circle", "square", "triangle"];

const COUNTS: readonly string[] = ["", "a", "two", "three"];

/** Some like things in one part of a scene. */
export interface SceneGroup {
  /** 1 to 3. */
  readonly count: number;
  readonly colour: string;
  readonly shape: string;
}

/** Where the first of two groups is, seen from the second; or where the only one is. */
export type SceneSide = "left" | "right" | "top" | "bottom";

/** One or two groups. */
export interface Scene {
  readonly groups: readonly SceneGroup[];
  /** Side of the first group; the second one is on the other side. */
  readonly side: SceneSide;
}

/** What a caption says: groups, and sides of those whose place it tells. */
export interface Statement {
  readonly groups: readonly SceneGroup[];
  /** Side of the first group, if told. */
  readonly side?: SceneSide;
}

const OPPOSITE: Readonly<Record<SceneSide, SceneSide>> = {
  left: "right",
  right: "left",
  top: "bottom",
  bottom: "top",
};

const RELATIONS: Readonly<Record<SceneSide, string>> = {
  left: "to the left of",
  right: "to the right of",
  top: "above",
  bottom: "below",
};

const PLACES: Readonly<Record<SceneSide, string>> = {
  left: "on the left",
  right: "on the right",
  top: "at the top",
  bottom: "at the bottom",
};

const SIDES = Object.keys(OPPOSITE) as SceneSide[];

/**
 * A random scene; two groups differ in colour and in shape. Of two the first is the left or the upper one,
 * the order in which people read.
 */
export function randomScene(random: HostRandom): Scene {
  const pick = <T>(from: readonly T[]): T => from[random.integer(0, from.length)]!;
  const group = (): SceneGroup => ({
    count: random.integer(1, 4),
    colour: pick(Object.keys(COLOURS)),
    shape: pick(SHAPES),
  });
  const first = group();
  if (random.uniform() < 0.35) return { groups: [first], side: pick(SIDES) };
  let second = group();
  while (second.colour === first.colour || second.shape === first.shape) second = group();
  return { groups: [first, second], side: pick(["left", "top"]) };
}

/** A group in words: `a red circle`, `two red circles`. */
function phrase({ count, colour, shape }: SceneGroup): string {
  return `${COUNTS[count]} ${colour} ${shape}${count === 1 ? "" : "s"}`;
}

/** Five captions of a scene, each true and grammatical. */
export function sceneCaptions({ groups, side }: Scene): string[] {
  const [a, b] = groups.map(phrase);
  const there = (group: SceneGroup) => group.count === 1 ? "there is" : "there are";
  const first = groups[0]!;
  if (b === undefined) {
    const place = PLACES[side];
    return [
      `${a} ${place}`,
      `${there(first)} ${a} ${place}`,
      `a picture with ${a} ${place}`,
      `${place} ${there(first)} ${a}`,
      `${a} can be seen ${place}`,
    ];
  }
  const other = OPPOSITE[side];
  return [
    `${a} ${RELATIONS[side]} ${b}`,
    `${there(first)} ${a} ${RELATIONS[side]} ${b}`,
    `a picture with ${a} and ${b}`,
    `${RELATIONS[other]} ${a} ${there(groups[1]!)} ${b}`,
    `${a} ${PLACES[side]} and ${b} ${PLACES[other]}`,
  ];
}

const PHRASE = `(${COUNTS.slice(1).join("|")}) (${Object.keys(COLOURS).join("|")}) ` +
  `(${SHAPES.join("|")})(s?)`;

/** A group from the words of {@linkcode PHRASE}, null where number and noun do not agree. */
function readGroup([number, colour, shape, plural]: readonly string[]): SceneGroup | null {
  const count = COUNTS.indexOf(number!);
  return (count === 1) === (plural === "") ? { count, colour: colour!, shape: shape! } : null;
}

/** The side that words for a place or a relation name. */
function sideOf(words: string, table: Readonly<Record<SceneSide, string>>): SceneSide {
  return (Object.keys(table) as SceneSide[]).find((side) => table[side] === words)!;
}

const PLACE = `(${Object.values(PLACES).join("|")})`;
const RELATION = `(${Object.values(RELATIONS).join("|")})`;
const THERE = "there (is|are) ";

/** The forms of captions, each with what its words say. */
const FORMS: readonly [RegExp, (words: readonly string[]) => Statement | null][] = [
  [form(`${PHRASE} ${PLACE}`), (w) => one(w, 0, 4)],
  [form(`${THERE}${PHRASE} ${PLACE}`), (w) => agrees(w[0]!, one(w, 1, 5))],
  [form(`a picture with ${PHRASE} ${PLACE}`), (w) => one(w, 0, 4)],
  [form(`${PLACE} ${THERE}${PHRASE}`), (w) => agrees(w[1]!, one(w, 2, 0))],
  [form(`${PHRASE} can be seen ${PLACE}`), (w) => one(w, 0, 4)],
  [
    form(`${PHRASE} ${RELATION} ${PHRASE}`),
    (w) => two(w.slice(0, 4), w.slice(5), sideOf(w[4]!, RELATIONS)),
  ],
  [
    form(`${THERE}${PHRASE} ${RELATION} ${PHRASE}`),
    (w) => agrees(w[0]!, two(w.slice(1, 5), w.slice(6), sideOf(w[5]!, RELATIONS))),
  ],
  [
    form(`${RELATION} ${PHRASE} ${THERE}${PHRASE}`),
    (w) => agrees(w[5]!, two(w.slice(6), w.slice(1, 5), sideOf(w[0]!, RELATIONS))),
  ],
  [form(`a picture with ${PHRASE} and ${PHRASE}`), (w) => pair(w.slice(0, 4), w.slice(4, 8))],
  [form(`${PHRASE} ${PLACE} and ${PHRASE} ${PLACE}`), (w) => {
    const side = sideOf(w[4]!, PLACES);
    if (sideOf(w[9]!, PLACES) !== OPPOSITE[side]) return null;
    return two(w.slice(0, 4), w.slice(5, 9), side);
  }],
];

function form(text: string): RegExp {
  return new RegExp(`^${text}$`);
}

/** One group at a place: its words begin at `at`, the place is at `place`. */
function one(words: readonly string[], at: number, place: number): Statement | null {
  const group = readGroup(words.slice(at, at + 4));
  return group && { groups: [group], side: sideOf(words[place]!, PLACES) };
}

/** Two groups of four words each, the first on `side` of the second. */
function two(
  first: readonly string[],
  second: readonly string[],
  side: SceneSide,
): Statement | null {
  const both = pair(first, second);
  return both && { ...both, side };
}

function pair(first: readonly string[], second: readonly string[]): Statement | null {
  const [a, b] = [readGroup(first), readGroup(second)];
  return a && b && { groups: [a, b] };
}

/** The statement if its verb agrees with its first group. */
function agrees(verb: string, statement: Statement | null): Statement | null {
  if (!statement) return null;
  return (verb === "is") === (statement.groups[0]!.count === 1) ? statement : null;
}

/** What a caption says, or null where it is not grammatical. */
export function parseCaption(caption: string): Statement | null {
  for (const [pattern, read] of FORMS) {
    const words = pattern.exec(caption);
    if (words) return read(words.slice(1));
  }
  return null;
}

/** Whether a caption is grammatical, names every group of the scene and nothing else, where it is. */
export function isTrue(caption: string, scene: Scene): boolean {
  const said = parseCaption(caption);
  if (!said || said.groups.length !== scene.groups.length) return false;
  const same = (a: SceneGroup, b: SceneGroup) =>
    a.count === b.count && a.colour === b.colour && a.shape === b.shape;
  const [a, b] = said.groups, [x, y] = scene.groups;
  if (same(a!, x!) && (!b || same(b, y!))) {
    return said.side === undefined || said.side === scene.side;
  }
  if (!b || !same(a!, y!) || !same(b, x!)) return false;
  return said.side === undefined || said.side === OPPOSITE[scene.side];
}
