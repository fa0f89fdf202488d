/** The stores below the mounts, opened when first needed. A mount's id is never used again, so what is open stays right. */
import { WeirError } from "../lib/errors.ts";
import type { MountId } from "../lib/ids.ts";
import type { MountTarget } from "../rpc/tasks.ts";
import type { UnderFileSystem } from "../ufs/types.ts";

export interface UfsMountsOptions {
  /** All mounts, from a master. */
  readonly targets: () => Promise<readonly MountTarget[]>;
  readonly open: (target: {
    uri: string;
    readOnly: boolean;
    options: Readonly<Record<string, string>>;
  }) => Promise<UnderFileSystem>;
}

export class UfsMounts {
  readonly #options: UfsMountsOptions;
  readonly #open = new Map<MountId, { target: string; store: Promise<UnderFileSystem> }>();

  constructor(options: UfsMountsOptions) {
    this.#options = options;
  }

  /** @throws WeirError `NotFound` for a mount that is gone; what opening the store says */
  async get(id: MountId): Promise<UnderFileSystem> {
    const known = this.#open.get(id);
    if (known !== undefined) return known.store;
    const targets = await this.#options.targets();
    const target = targets.find((each) => each.id === id);
    if (target === undefined) {
      throw new WeirError("NotFound", `Cannot read from mount ${id}: it is not mounted any more`);
    }
    return this.use(target);
  }

  /** The store of a mount as a task describes it: its options may be newer than ours. */
  async use(target: MountTarget): Promise<UnderFileSystem> {
    const text = JSON.stringify([target.uri, target.readOnly, target.options]);
    const known = this.#open.get(target.id);
    if (known?.target === text) return known.store;
    const store = this.#options.open(target);
    this.#open.set(target.id, { target: text, store });
    // What reads from the former one may finish: it is closed with the worker.
    if (known !== undefined) this.#former.push(known.store);
    store.catch(() => {
      if (this.#open.get(target.id)?.store === store) this.#open.delete(target.id);
    });
    return store;
  }

  /** Uses a store that is not mounted (yet): opened for this once. */
  async useOnce<T>(target: MountTarget, use: (store: UnderFileSystem) => Promise<T>): Promise<T> {
    const store = await this.#options.open(target);
    try {
      return await use(store);
    } finally {
      await store.close();
    }
  }

  async close(): Promise<void> {
    const stores = [...this.#former, ...[...this.#open.values()].map(({ store }) => store)];
    await Promise.allSettled(stores.map(async (store) => (await store).close()));
  }

  readonly #former: Promise<UnderFileSystem>[] = [];
}
