/** @file Copies tensors into others of the same names, or says all that does not fit. */

import { given } from "../engine/arguments.ts";
import { noGrad, Tensor } from "../engine/mod.ts";

/** Options of `Module.loadStateDict`. */
export interface LoadStateOptions {
  /** Whether missing and unexpected names are errors. Default true. */
  strict?: boolean;
}

/** Names that did not meet. */
export interface LoadReport {
  /** In the module, not in the dict: left as they were. */
  missing: string[];
  /** In the dict, not in the module: not used. */
  unexpected: string[];
}

/** How a set of tensors differs from a model's. */
export interface Misfits {
  /** In the model, not in the set. */
  missing: string[];
  /** In the set, not in the model. */
  unexpected: string[];
  /** In both, of different shapes. */
  mismatched: { name: string; found: number[]; expected: number[] }[];
}

/** Names listed of each kind; a wrong file misses hundreds. */
const MAX_LISTED = 10;

/** A line for each kind of misfit there is. */
export function describeMisfits({ missing, unexpected, mismatched }: Misfits): string[] {
  const shapes = mismatched.map(({ name, found, expected }) =>
    `${name} is [${found.join(", ")}] and must be [${expected.join(", ")}]`
  );
  return [
    ...(missing.length > 0 ? [`missing ${listed(missing)}`] : []),
    ...(unexpected.length > 0 ? [`unexpected ${listed(unexpected)}`] : []),
    ...(shapes.length > 0 ? [`wrong shape: ${listed(shapes)}`] : []),
  ];
}

function listed(items: readonly string[]): string {
  const more = items.length - MAX_LISTED;
  return items.slice(0, MAX_LISTED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}

function isBatchCount(name: string): boolean {
  return /(^|\.)num_batches_tracked$/.test(name);
}

/**
 * Copies `source` into `target`, name by name; a batch count that no module of the source has stays. Nothing changes unless everything fits.
 *
 * @throws {TypeError} If shapes differ or, when strict, names do.
 */
export function loadTensors(
  target: Readonly<Record<string, Tensor>>,
  source: Readonly<Record<string, Tensor>>,
  options: LoadStateOptions & { name: string },
): LoadReport {
  const named = typeof source === "object" && source !== null && !(source instanceof Map);
  if (!named || source instanceof Promise || "stateDict" in source) {
    throw new TypeError(
      `Cannot load the state of ${options.name} from ${
        given(source)
      }: it must be tensors by name, ` +
        "as stateDict() gives them",
    );
  }
  // Checkpoints of PyTorch before 0.4.1 have no counts of batches, as torchvision's older weights show.
  const counted = Object.keys(source).some(isBatchCount);
  const missing = Object.keys(target).filter((name) =>
    !Object.hasOwn(source, name) && (counted || !isBatchCount(name))
  );
  const unexpected = Object.keys(source).filter((name) => !Object.hasOwn(target, name));
  const shared = Object.keys(target).filter((name) => Object.hasOwn(source, name));
  for (const name of Object.keys(source)) {
    if (source[name] instanceof Tensor) continue;
    throw new TypeError(
      `Cannot load the state of ${options.name} with ${name} ${
        given(source[name])
      }: it must be a tensor`,
    );
  }
  const mismatched = shared.flatMap((name) => {
    const [expected, found] = [target[name]!.shape, source[name]!.shape];
    const same = expected.length === found.length && expected.every((n, d) => n === found[d]);
    return same ? [] : [{ name, found: [...found], expected: [...expected] }];
  });
  const strict = options.strict ?? true;
  const faults = describeMisfits({
    missing: strict ? missing : [],
    unexpected: strict ? unexpected : [],
    mismatched,
  });
  if (faults.length > 0) {
    throw new TypeError(`Cannot load the state of ${options.name}:\n  ${faults.join("\n  ")}`);
  }
  noGrad(() => {
    for (const name of shared) {
      if (target[name] !== source[name]) target[name]!.copy_(source[name]!);
    }
  });
  return { missing, unexpected };
}
