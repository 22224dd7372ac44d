/**
 * @file Stands in for the parts of `Deno` that tests register themselves with, in a page. Imported before
 * every test; `runAll` then runs them one after the other.
 */

interface Registered {
  readonly name: string;
  readonly fn: (context: StepContext) => void | Promise<void>;
  readonly ignore: boolean;
}

interface StepContext {
  step(name: string, fn: (context: StepContext) => void | Promise<void>): Promise<boolean>;
}

/** What a page reports to the runner. */
export interface PageResult {
  passed: number;
  ignored: number;
  failures: { name: string; message: string }[];
  adapter: string;
  seconds: number;
}

type Body = Registered["fn"];
type Definition = { name: string; fn: Body; ignore?: boolean };

const tests: Registered[] = [];

function register(first: string | Definition, second?: Body | Omit<Definition, "name">): void {
  const given = typeof first === "string"
    ? typeof second === "function" ? { name: first, fn: second } : { ...second!, name: first }
    : first;
  tests.push({ ignore: false, ...given as Definition });
}

const context: StepContext = {
  async step(_name, fn) {
    await fn(context);
    return true;
  },
};

if (!("Deno" in globalThis)) {
  Object.assign(globalThis, {
    Deno: {
      test: register,
      // The entry imports every op, so a test that lists the folder finds nothing left to load.
      readDirSync: () => [],
      inspect: (value: unknown) => typeof value === "string" ? value : JSON.stringify(value),
    },
  });
}

/** Runs every registered test in order. */
export async function runAll(
  adapter: () => Promise<string>,
  progress: (line: string) => void,
): Promise<PageResult> {
  const start = performance.now();
  const result: PageResult = {
    passed: 0,
    ignored: 0,
    failures: [],
    adapter: await adapter(),
    seconds: 0,
  };
  for (const { name, fn, ignore } of tests) {
    if (ignore) {
      result.ignored++;
      continue;
    }
    try {
      await fn(context);
      result.passed++;
    } catch (error) {
      const message = error instanceof Error ? error.stack ?? error.message : String(error);
      result.failures.push({ name, message });
      progress(`FAILED ${name}: ${message.split("\n")[0]}`);
    }
  }
  result.seconds = (performance.now() - start) / 1000;
  return result;
}
