/**
 * Rests between the turns in which npm:webgpu asks Dawn for finished work.
 *
 * While anything is awaited, the package runs a loop of `setImmediate`, each turn a new native function, of
 * which Deno keeps a list until they are collected, and takes them out one by one: a wait of 2 s is
 * 45,000 turns, and taking them out cost minutes of a test run (webgpu 0.6.2, Deno 2.9.6). So the turns of a
 * wait that lasts are a millisecond apart. Only native functions are held back, never a script's.
 */

/** For how long a wait's turns follow at once, so that short readbacks lose nothing, in milliseconds. */
const AT_ONCE_MS = 2;
/** How far apart they are after that, in milliseconds. */
const REST_MS = 1;

/** What of the global object is used and replaced. */
export interface Immediates {
  /** Runs `callback` as soon as the event loop is free. */
  setImmediate(callback: (...args: unknown[]) => void, ...args: unknown[]): unknown;
}

const paced = new WeakSet<Immediates>();

/** Whether a function is a native one. */
function isNative(callback: unknown): boolean {
  return typeof callback === "function" &&
    Function.prototype.toString.call(callback).endsWith("{ [native code] }");
}

/** Makes native functions rest between turns; a second call changes nothing. */
export function paceImmediates(scope: Immediates): void {
  if (paced.has(scope)) return;
  paced.add(scope);
  const own = scope.setImmediate;
  let start = 0;
  let within = false;
  scope.setImmediate = (callback, ...args) => {
    if (!isNative(callback)) return own(callback, ...args);
    // A turn that asks for the next one goes on waiting.
    if (!within) start = performance.now();
    const turn = () => {
      within = true;
      try {
        callback(...args);
      } finally {
        within = false;
      }
    };
    return performance.now() - start < AT_ONCE_MS ? own(turn) : setTimeout(turn, REST_MS);
  };
}
