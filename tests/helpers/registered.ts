/** Tests of other files as functions, to be run again: under faked limits, or with faults planted. */

import { ROOT } from "./source.ts";

/** A test of a file. */
export interface RegisteredTest {
  readonly file: string;
  readonly name: string;
  /** Whether the test asks to be passed over. */
  readonly ignore: boolean;
  run(): Promise<void>;
}

type Body = (context: Steps) => void | Promise<void>;
type Definition = { name: string; fn: Body; ignore?: boolean };

/** Stands in for Deno's context of a test. */
interface Steps {
  step(name: string, fn: Body): Promise<boolean>;
}

const context: Steps = {
  async step(_name, fn) {
    await fn(context);
    return true;
  },
};

let loads = 0;

/**
 * Loads test files afresh, so that what they find out when they are loaded holds for the open device;
 * gives their tests.
 */
export async function registeredTests(files: readonly string[]): Promise<RegisteredTest[]> {
  const tests: RegisteredTest[] = [];
  let file = "";
  const register = (
    first: string | Definition,
    second?: Body | Partial<Definition>,
    third?: Body,
  ) => {
    const given = typeof first === "string"
      ? typeof second === "function"
        ? { name: first, fn: second }
        : { ...second, ...(third ? { fn: third } : {}), name: first }
      : first;
    const { name, ignore = false, fn } = given as Definition;
    tests.push({ file, name, ignore, run: async () => await fn(context) });
  };
  const own = Object.getOwnPropertyDescriptor(Deno, "test")!;
  Object.defineProperty(Deno, "test", { ...own, value: register });
  try {
    loads++;
    for (file of files) await import(`${new URL(file, ROOT)}?load=${loads}`);
  } finally {
    Object.defineProperty(Deno, "test", own);
  }
  return tests;
}

/** The test files of a folder, without those in folders below it, whose text passes `keep`. */
export function testFiles(folder: string, keep: (text: string) => boolean): string[] {
  return [...Deno.readDirSync(new URL(`${folder}/`, ROOT))]
    .filter(({ name, isFile }) => isFile && name.endsWith("_test.ts"))
    .map(({ name }) => `${folder}/${name}`)
    .filter((path) => keep(Deno.readTextFileSync(new URL(path, ROOT))))
    .sort();
}
