import { assertEquals } from "@std/assert";
import { type Immediates, paceImmediates } from "../../../engine/gpu/dawn_ticks.ts";

/** A global object whose immediates run in the order they came, with a count of those that are asked for. */
function recorder(): Immediates & { direct: number } {
  return {
    direct: 0,
    setImmediate(callback, ...args) {
      this.direct++;
      queueMicrotask(() => callback(...args));
      return this.direct;
    },
  };
}

/** A native function that calls `fn`, as a bound one is. */
function native(fn: (...args: unknown[]) => void): (...args: unknown[]) => void {
  return fn.bind(null);
}

Deno.test("the turns of a native wait come to rest, and a script's do not", async () => {
  const scope = recorder();
  // Called as a member, since the real one is a function of the global object.
  const own = scope.setImmediate;
  scope.setImmediate = (...args) => own.call(scope, ...args);
  paceImmediates(scope);
  /** Turns of a wait that ends when `done` says so, or is given up. */
  const wait = (wrap: (fn: () => void) => () => void, done: (turns: number) => boolean) =>
    new Promise<number>((resolve) => {
      let turns = 0;
      const turn = wrap(() => {
        if (done(++turns) || turns === 1e6) resolve(turns);
        else scope.setImmediate(turn);
      });
      scope.setImmediate(turn);
    });
  assertEquals(await wait((fn) => () => fn(), (turns) => turns === 1000), 1000);
  assertEquals(scope.direct, 1000);
  scope.direct = 0;
  // Turns with a rest before them pass it by.
  const turns = await wait(native, (turns) => turns - scope.direct > 5);
  assertEquals(turns - scope.direct, 6);
  // The next wait starts at once again.
  scope.direct = 0;
  await wait(native, () => true);
  assertEquals(scope.direct, 1);
});

Deno.test("paced immediates keep their arguments, and pacing twice is pacing once", async () => {
  const scope = recorder();
  const own = scope.setImmediate;
  scope.setImmediate = (...args) => own.call(scope, ...args);
  paceImmediates(scope);
  const once = scope.setImmediate;
  paceImmediates(scope);
  assertEquals(scope.setImmediate, once);
  const got = await new Promise<unknown[]>((resolve) => {
    scope.setImmediate(native((...args) => resolve(args)), 1, "two");
  });
  assertEquals(got, [1, "two"]);
});
