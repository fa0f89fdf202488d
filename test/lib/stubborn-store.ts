/** A store that can be told not to answer, to answer late, or to say that it is away, as a test needs it. */
import { WeirError } from "../../src/lib/errors.ts";
import type { UnderFileSystem } from "../../src/ufs/types.ts";

export class StubbornStore {
  mood: "well" | "silent" | "away" = "well";
  /** Calls that reached it, by their names. */
  readonly calls: string[] = [];
  /** Those that are under way in it. */
  underWay = 0;
  readonly #inner: UnderFileSystem;
  readonly #held: (() => void)[] = [];

  constructor(inner: UnderFileSystem) {
    this.#inner = inner;
  }

  /** Lets go of what it kept without an answer. */
  recover(): void {
    this.mood = "well";
    for (const go of this.#held.splice(0)) go();
  }

  readonly store: UnderFileSystem = new Proxy({} as UnderFileSystem, {
    get: (_target, key: keyof UnderFileSystem) => {
      const value: unknown = Reflect.get(this.#inner, key);
      if (typeof value !== "function") return value;
      if (key === "close") return () => this.#inner.close();
      if (key === "read") return (...args: Parameters<UnderFileSystem["read"]>) => this.#read(args);
      return async (...args: unknown[]) => {
        await this.#meet(key);
        return (value as (...all: unknown[]) => unknown).apply(this.#inner, args);
      };
    },
  });

  async *#read(args: Parameters<UnderFileSystem["read"]>): AsyncIterable<Uint8Array> {
    for await (const chunk of this.#inner.read(...args)) {
      await this.#meet("read");
      yield chunk;
    }
  }

  async #meet(call: string): Promise<void> {
    this.calls.push(call);
    if (this.mood === "away")
      throw new WeirError("Unavailable", "Cannot reach the store: it is away");
    this.underWay++;
    if (this.mood === "silent") await new Promise<void>((resolve) => this.#held.push(resolve));
    this.underWay--;
  }
}
