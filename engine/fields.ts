/**
 * Fields of the objects that a step computes with, such as a dropout's `p` or a factor that a module of one's own
 * has. They are plain JavaScript: nothing says when they are set, so what a captured step found is compared
 * before each replay.
 */

import { openGpu } from "./gpu/device.ts";
import type { FieldsSeen } from "./gpu/graph.ts";

/** Entries of an array or a plain object that are compared; of longer ones only which they are. */
const MOST_ENTRIES = 32;

/** A field as it was. */
interface Field {
  readonly name: string;
  readonly was: unknown;
  /** Of an array or a plain object its entries, which are settings like any other. */
  readonly entries: readonly Field[];
}

/**
 * The fields of an object as they were at some time. It holds neither the object nor what was in it, which may
 * lead to the captured step itself: those live as long as the object does.
 */
export class Fields implements FieldsSeen {
  readonly #owner: WeakRef<object>;
  readonly #fields = new WeakMap<object, readonly Field[]>();

  /** Takes down those that `owner` has now. */
  constructor(owner: object, fields: readonly Field[] = fieldsOf(owner, 1)) {
    this.#owner = new WeakRef(owner);
    this.#fields.set(owner, fields);
  }

  /** The name of a field that is another now, or null. Of an object that is gone none can be set. */
  changed(): string | null {
    const owner = this.#owner.deref();
    const field = owner && firstOther(owner as Values, this.#fields.get(owner)!);
    return field ? `${owner.constructor.name}.${field}` : null;
  }

  /** Without the fields that have changed since: a step that sets one does so whatever was there before. */
  lasting(): Fields {
    const owner = this.#owner.deref();
    return owner ? new Fields(owner, lastingOf(owner as Values, this.#fields.get(owner)!)) : this;
  }
}

type Values = Readonly<Record<string, unknown>>;

function fieldsOf(owner: object, depth: number): Field[] {
  return Object.entries(owner).map(([name, value]): Field => ({
    name,
    was: value,
    entries: depth > 0 && isPlain(value) ? fieldsOf(value, depth - 1) : [],
  }));
}

/** The name of the first field that is another now, or null. */
function firstOther(owner: Values, fields: readonly Field[]): string | null {
  for (const { name, was, entries } of fields) {
    const value = owner[name];
    if (!Object.is(value, was)) return name;
    const inside = entries.length > 0 ? firstOther(value as Values, entries) : null;
    if (inside) return `${name}.${inside}`;
  }
  return null;
}

function lastingOf(owner: Values, fields: readonly Field[]): Field[] {
  return fields.filter((field) => !firstOther(owner, [{ ...field, entries: [] }])).map((field) => {
    const { name, entries } = field;
    return entries.length > 0
      ? { ...field, entries: lastingOf(owner[name] as Values, entries) }
      : field;
  });
}

/** Whether something is a short array or plain object. */
function isPlain(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  const type = Object.getPrototypeOf(value);
  if (type !== Array.prototype && type !== Object.prototype && type !== null) return false;
  return Object.keys(value).length <= MOST_ENTRIES;
}

/**
 * Says that what is computed now may depend on the fields of `owner`: a step that is being captured is replayed
 * only while those that it does not set itself are as they are now.
 */
export function dependsOnFields(owner: object): void {
  const { fields } = openGpu()?.queue.recorder ?? {};
  if (fields && !fields.has(owner)) fields.set(owner, new Fields(owner));
}
