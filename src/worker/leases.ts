/**
 * Block leases: as long as a client's lease on a container lives, the file stays where it is. One renewal covers all
 * leases of a connection; they end with it, or when it does not renew in time.
 */
import type { Clock } from "../lib/clock.ts";
import type { BlockStore } from "./block-store.ts";
import type { Container } from "./container.ts";

interface Holder {
  expiresMs: number;
  readonly containers: Map<string, Container>;
}

export class BlockLeases {
  readonly leaseMs: number;
  readonly #store: BlockStore;
  readonly #clock: Clock;
  readonly #holders = new Map<number, Holder>();
  #cancelSweep: () => void = () => undefined;

  constructor(options: { store: BlockStore; clock: Clock; leaseMs: number }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.leaseMs = options.leaseMs;
    this.#sweep();
  }

  /** Takes a lease for a connection, or renews all that it has. */
  take(connection: number, container: Container): void {
    const holder = this.#holders.get(connection) ?? { expiresMs: 0, containers: new Map() };
    this.#holders.set(connection, holder);
    holder.expiresMs = this.#clock.monotonicMs() + this.leaseMs;
    if (holder.containers.get(container.key) === container) return;
    holder.containers.set(container.key, container);
    container.leases += 1;
  }

  renew(connection: number): void {
    const holder = this.#holders.get(connection);
    if (holder !== undefined) holder.expiresMs = this.#clock.monotonicMs() + this.leaseMs;
  }

  release(connection: number, key: string): void {
    const holder = this.#holders.get(connection);
    const container = holder?.containers.get(key);
    if (container === undefined) return;
    holder?.containers.delete(key);
    this.#end(container);
  }

  releaseAll(connection: number): void {
    const holder = this.#holders.get(connection);
    this.#holders.delete(connection);
    for (const container of holder?.containers.values() ?? []) this.#end(container);
  }

  close(): void {
    this.#cancelSweep();
    for (const connection of [...this.#holders.keys()]) this.releaseAll(connection);
  }

  #end(container: Container): void {
    if (container.dropped) return;
    container.leases -= 1;
    this.#store.settleLeases(container);
  }

  #sweep(): void {
    const now = this.#clock.monotonicMs();
    for (const [connection, { expiresMs }] of [...this.#holders]) {
      if (expiresMs <= now) this.releaseAll(connection);
    }
    this.#cancelSweep = this.#clock.after(Math.max(10, this.leaseMs / 4), () => {
      this.#sweep();
    });
  }
}
