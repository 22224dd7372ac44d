/** Settings that hold while a function runs, and while what an async one started runs. */

/** A setting, and the functions that have set it and have not ended. */
export class Mode<T> {
  /** What holds now. */
  value: T;
  readonly #usual: T;
  /** The latest last. */
  readonly #set: { readonly value: T }[] = [];

  constructor(usual: T) {
    this.#usual = usual;
    this.value = usual;
  }

  /**
   * Runs `fn` with the setting at `value`; of an async function, until its promise settles. Where several
   * overlap, the latest that has not ended counts, in whatever order they end.
   */
  during<R>(value: T, fn: () => R): R {
    const own = { value };
    this.#set.push(own);
    this.value = value;
    let result: R;
    try {
      result = fn();
    } catch (error) {
      this.#end(own);
      throw error;
    }
    if (result instanceof Promise) return result.finally(() => this.#end(own)) as R;
    this.#end(own);
    return result;
  }

  #end(own: { readonly value: T }): void {
    this.#set.splice(this.#set.lastIndexOf(own), 1);
    this.value = this.#set.length > 0 ? this.#set.at(-1)!.value : this.#usual;
  }
}
