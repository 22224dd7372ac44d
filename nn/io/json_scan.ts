/** @file Checks on JSON text that `JSON.parse` does not make: repeated keys and nesting. */

/** What is wrong with a JSON text, and where. */
export class JsonFault extends Error {
  override name = "JsonFault";
  /** Position in the text, in UTF-16 units. */
  readonly index: number;
  constructor(message: string, index: number) {
    super(message);
    this.index = index;
  }
}

/**
 * Parses JSON that names every key of an object once and nests at most `maxDepth` deep. Without such
 * a limit a text of 10 million brackets takes `JSON.parse` five seconds and callers their stack.
 *
 * @param text The JSON text.
 * @param maxDepth Levels of arrays and objects allowed.
 * @returns The value, and the position in `text` of each key of the outermost object.
 * @throws {JsonFault} If the text is not such JSON.
 */
export function parseStrictJson(
  text: string,
  maxDepth: number,
): { value: unknown; keys: Map<string, number> } {
  const keys = scan(text, maxDepth);
  try {
    return { value: JSON.parse(text), keys };
  } catch (error) {
    const message = error instanceof Error ? error.message : "";
    const position = /position (\d+)/.exec(message)?.[1];
    throw new JsonFault("invalid JSON", position === undefined ? 0 : Number(position));
  }
}

/** A number or a word of JSON. */
const LITERAL = /(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.+-])/y;

/** Walks over strings, brackets, numbers and words; their order is left to `JSON.parse`. */
function scan(text: string, maxDepth: number): Map<string, number> {
  const outermost = new Map<string, number>();
  const open: (Set<string> | undefined)[] = []; // the keys of each open object, none for an array
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === "{" || character === "[") {
      if (open.length === maxDepth) throw new JsonFault(`JSON nested beyond ${maxDepth} levels`, i);
      open.push(character === "{" ? new Set() : undefined);
    } else if (character === "}" || character === "]") {
      open.pop();
    } else if (character === '"') {
      const end = stringEnd(text, i);
      const keys = open.at(-1);
      if (keys && isKey(text, end)) {
        const key = decodeString(text.slice(i, end));
        if (keys.has(key)) throw new JsonFault(`repeated key ${quote(key)}`, i);
        keys.add(key);
        if (open.length === 1) outermost.set(key, i);
      }
      i = end - 1;
    } else if (!/[\s,:]/.test(character!)) {
      LITERAL.lastIndex = i;
      if (!LITERAL.test(text)) throw new JsonFault("invalid JSON", i);
      i = LITERAL.lastIndex - 1;
    }
  }
  return outermost;
}

/** One past the closing quote of the string that starts at `start`. */
function stringEnd(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === '"') return i + 1;
  }
  throw new JsonFault("a string without end", start);
}

/** True if a colon follows. */
function isKey(text: string, end: number): boolean {
  while (/[ \t\n\r]/.test(text[end] ?? "")) end++;
  return text[end] === ":";
}

function decodeString(literal: string): string {
  if (!literal.includes("\\")) return literal.slice(1, -1);
  try {
    return JSON.parse(literal);
  } catch {
    return literal; // not JSON: the parse after this scan says so
  }
}

/** A name in quotes for a message, on one line and not too long. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 77)}...` : name);
}
