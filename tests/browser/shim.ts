/**
 * @file Stands in for the parts of `Deno` that tests register themselves with, in a page. Imported before
 * every test; `report` then runs them one after the other.
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
  ignored: { name: string; reason: string }[];
  failures: { name: string; message: string }[];
  /** Empty where the test file failed before any test. */
  adapter: string;
  seconds: number;
}

type Body = Registered["fn"];
type Definition = { name: string; fn: Body; ignore?: boolean };

const tests: Registered[] = [];

function register(
  first: string | Definition,
  second?: Body | Partial<Definition>,
  third?: Body,
): void {
  const given = typeof first === "string"
    ? typeof second === "function"
      ? { name: first, fn: second }
      : { ...second, ...(third ? { fn: third } : {}), name: first }
    : first;
  tests.push({ ignore: false, ...given as Definition });
}

const context: StepContext = {
  async step(_name, fn) {
    await fn(context);
    return true;
  },
};

/** As Deno prints a value that says how; the rest only has to be readable. */
function inspect(value: unknown): string {
  const custom = (value as Record<symbol, unknown> | null)?.[Symbol.for("Deno.customInspect")];
  if (typeof custom === "function") return String(custom.call(value, inspect, {}));
  return typeof value === "string" ? value : JSON.stringify(value) ?? String(value);
}

if (!("Deno" in globalThis)) {
  Object.assign(globalThis, {
    Deno: {
      test: register,
      // The entry imports every op, so a test that lists the folder finds nothing left to load.
      readDirSync: () => [],
      inspect,
    },
  });
}

/** The engine's own error where the adapter has no f16: a test that ends in it tests f16. */
const NO_F16 = /^Cannot run \S+ in f16: this adapter lacks it; use f32$/;

/** Runs every registered test in order. */
async function runAll(result: PageResult): Promise<void> {
  for (const { name, fn, ignore } of tests) {
    if (ignore) {
      result.ignored.push({ name, reason: "the test asks for it" });
      continue;
    }
    try {
      await fn(context);
      result.passed++;
    } catch (error) {
      if (error instanceof TypeError && NO_F16.test(error.message)) {
        result.ignored.push({ name, reason: "the adapter has no shader-f16" });
      } else {
        result.failures.push({ name, message: describe(error) });
      }
    }
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? error.stack ?? error.message : String(error);
}

/**
 * Loads a test file, runs its tests, tells the runner and moves on to the next page.
 *
 * @param load imports the test file and gives the adapter's name
 */
export async function report(load: () => Promise<string>): Promise<void> {
  const start = performance.now();
  const result: PageResult = { passed: 0, ignored: [], failures: [], adapter: "", seconds: 0 };
  try {
    result.adapter = await load();
    await runAll(result);
  } catch (error) {
    result.failures.push({ name: "(loading the file)", message: describe(error) });
  }
  result.seconds = (performance.now() - start) / 1000;
  const response = await fetch("/result", { method: "POST", body: JSON.stringify(result) });
  location.href = `/${await response.text()}`;
}
