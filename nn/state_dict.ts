/** @file Copies tensors into others of the same names, or says all that does not fit. */

import { noGrad, type Tensor } from "../engine/mod.ts";

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

/**
 * Copies `source` into `target`, name by name. Nothing changes unless everything fits.
 *
 * @throws {TypeError} If shapes differ or, when strict, names do.
 */
export function loadTensors(
  target: Readonly<Record<string, Tensor>>,
  source: Readonly<Record<string, Tensor>>,
  options: LoadStateOptions & { name: string },
): LoadReport {
  const missing = Object.keys(target).filter((name) => !Object.hasOwn(source, name));
  const unexpected = Object.keys(source).filter((name) => !Object.hasOwn(target, name));
  const shared = Object.keys(target).filter((name) => Object.hasOwn(source, name));
  const shapes = shared.flatMap((name) => {
    const [own, given] = [target[name]!.shape, source[name]!.shape];
    const same = own.length === given.length && own.every((size, d) => size === given[d]);
    return same ? [] : [`${name} is [${given.join(", ")}] and must be [${own.join(", ")}]`];
  });
  const strict = options.strict ?? true;
  const faults = [
    ...(strict && missing.length > 0 ? [`missing ${missing.join(", ")}`] : []),
    ...(strict && unexpected.length > 0 ? [`unexpected ${unexpected.join(", ")}`] : []),
    ...(shapes.length > 0 ? [`wrong shape: ${shapes.join(", ")}`] : []),
  ];
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
