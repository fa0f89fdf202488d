/**
 * The stores below the mounts, opened when first needed, each under a guard of its own. A mount's id is never used again, so
 * what is open stays right until its mount is changed.
 */
import type { Clock } from "../lib/clock.ts";
import { WeirError } from "../lib/errors.ts";
import type { MountId } from "../lib/ids.ts";
import type { MountTarget, UnhealthyMount } from "../rpc/tasks.ts";
import { defaultLimits, GuardedStore, type GuardLimits } from "../ufs/guarded.ts";
import type { UnderFileSystem } from "../ufs/types.ts";
import { UnionFileSystem } from "../ufs/union.ts";

/** One store, as it is opened. */
export type StoreTarget = Pick<MountTarget, "uri" | "readOnly" | "options">;

export interface UfsMountsOptions {
  /** All mounts, from a master. */
  readonly targets: () => Promise<readonly MountTarget[]>;
  readonly open: (store: StoreTarget) => Promise<UnderFileSystem>;
  readonly clock: Clock;
  /** Reads and looks in one local store at once: each may hold a thread of the process. */
  readonly localInFlight: number;
  /** Other deadlines than those of the product. */
  readonly limits?: Partial<GuardLimits>;
}

/** Reads and looks in one store of another machine at once: as many as it gets connections. */
const remoteInFlight = 64;
/** Readers learn of changed mounts this late at most. */
const freshMs = 2000;
/** A store that is asked for a look before it is mounted answers within this, or is refused. */
const onceLimitMs = 7000;

interface Mounted {
  /** What it was opened by. */
  readonly key: string;
  readonly store: UnderFileSystem;
  /** Each store under a guard of its own: one, or the layers of a union by their names. */
  readonly guards: readonly { readonly layer: string | undefined; readonly guard: GuardedStore }[];
}

export class UfsMounts {
  readonly #options: UfsMountsOptions;
  readonly #mounted = new Map<MountId, Mounted>();
  readonly #former: UnderFileSystem[] = [];
  #knownMs = -Infinity;
  #refreshing: Promise<void> | undefined;

  constructor(options: UfsMountsOptions) {
    this.#options = options;
  }

  /** @throws WeirError `NotFound` for a mount that is gone; what the masters say */
  async get(id: MountId): Promise<UnderFileSystem> {
    if (this.#mounted.has(id)) this.#refreshIfOld();
    else await this.#refresh();
    const mounted = this.#mounted.get(id);
    if (mounted !== undefined) return mounted.store;
    throw new WeirError("NotFound", `Cannot read from mount ${id}: it is not mounted any more`);
  }

  /** The store of a mount as a task describes it: its options may be newer than ours. */
  use(target: MountTarget): UnderFileSystem {
    const key = keyOf(target);
    const known = this.#mounted.get(target.id);
    if (known?.key === key) return known.store;
    const mounted = this.#build(target, this.#options.limits);
    this.#mounted.set(target.id, { key, ...mounted });
    if (known !== undefined) this.#retire(known);
    return mounted.store;
  }

  /** Uses a store that is not mounted (yet): opened for this once. */
  async useOnce<T>(target: MountTarget, use: (store: UnderFileSystem) => Promise<T>): Promise<T> {
    const { store } = this.#build(target, { callMs: onceLimitMs, ...this.#options.limits });
    try {
      return await use(store);
    } finally {
      // One that hangs is closed when it comes back.
      void store.close().catch(() => undefined);
    }
  }

  /** The mounts whose stores do not answer here. */
  unhealthy(): UnhealthyMount[] {
    const found = [...this.#mounted].flatMap(([mount, { guards }]) =>
      guards.flatMap(({ layer, guard }) => {
        const state = guard.health.unhealthy;
        if (state === undefined) return [];
        return [{ mount, ...state, ...(layer === undefined ? {} : { layer }) }];
      }),
    );
    // One of them may be mounted no more.
    if (found.length > 0) this.#refreshIfOld();
    return found;
  }

  async close(): Promise<void> {
    const stores = [...this.#former, ...[...this.#mounted.values()].map(({ store }) => store)];
    await Promise.allSettled(stores.map((store) => store.close()));
  }

  #build(target: MountTarget, limits: Partial<GuardLimits> | undefined): Omit<Mounted, "key"> {
    const { uri, readOnly, layers, writeLayer } = target;
    if (layers === undefined) {
      const guard = this.#guard(target, limits);
      return { store: guard, guards: [{ layer: undefined, guard }] };
    }
    const guards = layers.map((layer) => ({
      layer: layer.name,
      guard: this.#guard({ ...layer, readOnly: readOnly || layer.readOnly }, limits),
    }));
    const store = new UnionFileSystem({
      uri,
      layers: guards.map(({ layer, guard }) => ({ name: layer, store: guard })),
      writeLayer: writeLayer ?? layers[0]!.name,
    });
    return { store, guards };
  }

  #guard(store: StoreTarget, limits: Partial<GuardLimits> | undefined): GuardedStore {
    const { open, clock, localInFlight } = this.#options;
    const { uri, readOnly } = store;
    const inFlight = uri.startsWith("file:") ? localInFlight : remoteInFlight;
    return new GuardedStore({
      ...{ uri, readOnly, clock },
      open: () => open(store),
      limits: { ...defaultLimits, inFlight, ...limits },
    });
  }

  /** What reads from it may finish: it is closed with the worker, and asked no more whether it answers. */
  #retire({ store, guards }: Mounted): void {
    for (const { guard } of guards) guard.health.close();
    this.#former.push(store);
  }

  #refreshIfOld(): void {
    if (this.#options.clock.monotonicMs() - this.#knownMs < freshMs) return;
    // What is known serves until the masters answer.
    this.#refresh().catch(() => undefined);
  }

  #refresh(): Promise<void> {
    this.#refreshing ??= this.#learn().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #learn(): Promise<void> {
    this.#knownMs = this.#options.clock.monotonicMs();
    const targets = await this.#options.targets();
    for (const target of targets) this.use(target);
    const ids = new Set(targets.map(({ id }) => id));
    for (const [id, mounted] of this.#mounted) {
      if (ids.has(id)) continue;
      this.#mounted.delete(id);
      this.#retire(mounted);
    }
  }
}

function keyOf({ uri, readOnly, options, layers, writeLayer }: MountTarget): string {
  const sorted = (of: Readonly<Record<string, string>>) =>
    Object.entries(of).sort(([a], [b]) => (a < b ? -1 : 1));
  const shownLayers = layers?.map((layer) => ({ ...layer, options: sorted(layer.options) }));
  return JSON.stringify([uri, readOnly, sorted(options), shownLayers, writeLayer]);
}
