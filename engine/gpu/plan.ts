/**
 * Where the tensors of a recorded step lie: those that are never needed at the same time share memory.
 *
 * By falling size, each goes to the tightest gap that is free while it is needed, of all buffers there
 * are; only where there is none, it gets a buffer of its own size. One buffer for everything would do with
 * hardly less, but WebGPU takes no buffer that one dispatch both reads and writes, whatever the ranges.
 */

/** What a tensor needs of memory. */
export interface Span {
  readonly bytes: number;
  /** Numbers of the first and the last dispatch that use it; the last is Infinity for what outlives the step. */
  readonly first: number;
  readonly last: number;
  /** Spans that must have another buffer: those of the same dispatches, where either is written. */
  readonly apart: ReadonlySet<number>;
}

/** Where a span lies. */
export interface Place {
  /** Number of the buffer. */
  readonly buffer: number;
  readonly offset: number;
}

/** A plan of memory. */
export interface Plan {
  /** Bytes of each buffer. */
  readonly buffers: readonly number[];
  /** For each span. What outlives the step lies at the start of its buffer. */
  readonly places: readonly Place[];
}

/** A span that has its place. */
interface Placed {
  readonly id: number;
  readonly offset: number;
  readonly end: number;
}

/** How to plan. */
export interface PlanOptions {
  /** What offsets and sizes are multiples of. */
  readonly align: number;
  /** How many times as large as itself the buffer of what outlives the step may be. */
  readonly slack: number;
}

/** Gives each span its place. */
export function planMemory(spans: readonly Span[], { align, slack }: PlanOptions): Plan {
  const sizes = spans.map(({ bytes }) => alignUp(Math.max(bytes, 1), align));
  const order = spans.map((_, i) => i)
    .sort((a, b) => sizes[b]! - sizes[a]! || spans[a]!.first - spans[b]!.first);
  const buffers: number[] = [];
  const placed: Placed[][] = [];
  const places: Place[] = Array(spans.length);
  for (const id of order) {
    const size = sizes[id]!;
    const largest = spans[id]!.last === Infinity ? slack * size : Infinity;
    let best = { room: Infinity, idle: Infinity, buffer: buffers.length, offset: 0 };
    for (let buffer = 0; buffer < buffers.length; buffer++) {
      if (buffers[buffer]! > largest) continue;
      const gap = tightest(placed[buffer]!, { spans, id, size, end: buffers[buffer]! });
      if (gap && (gap.room < best.room || gap.room === best.room && gap.idle < best.idle)) {
        best = { ...gap, buffer };
      }
    }
    if (best.buffer === buffers.length) {
      buffers.push(size);
      placed.push([]);
    }
    const { buffer, offset } = best;
    const list = placed[buffer]!;
    list.push({ id, offset, end: offset + size });
    list.sort((a, b) => a.offset - b.offset);
    places[id] = { buffer, offset };
  }
  return { buffers, places };
}

/**
 * The smallest gap of a buffer that holds a span, with its bytes and the dispatches for which the buffer lies
 * idle beside it.
 */
function tightest(
  placed: readonly Placed[],
  { spans, id, size, end }: { spans: readonly Span[]; id: number; size: number; end: number },
): { room: number; idle: number; offset: number } | undefined {
  const { first, last, apart } = spans[id]!;
  let [idle, at, room, offset] = [Infinity, 0, Infinity, -1];
  const consider = (to: number) => {
    if (to - at >= size && to - at < room) [room, offset] = [to - at, at];
  };
  for (const other of placed) {
    const span = spans[other.id]!;
    if (span.last < first) idle = Math.min(idle, first - span.last);
    else if (last < span.first) idle = Math.min(idle, span.first - last);
    else {
      if (apart.has(other.id)) return undefined;
      consider(other.offset);
      at = Math.max(at, other.end);
    }
  }
  consider(end);
  if (offset < 0 || offset > 0 && last === Infinity) return undefined;
  return { room, idle, offset };
}

/** `value` rounded up to a multiple of `step`. */
export function alignUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
