/** The workers of the cluster as the masters last named them, with a control connection to each. */
import type { Clock } from "../lib/clock.ts";
import type { WorkerId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import { RpcClient } from "../rpc/client.ts";
import { masterApi } from "../rpc/master-api.ts";
import type { MasterConnection } from "../rpc/master-connection.ts";
import type { WorkerInfo } from "../rpc/namespace.ts";
import { workerApi } from "../rpc/worker-api.ts";

/** Age after which the list is fetched anew: beside its use, and from `staleMs` on before it. */
const freshMs = 2000;
const staleMs = 10_000;
/** How long a worker that failed is chosen last. */
const distrustMs = 10_000;
const probeTimeoutMs = 1000;

export class Workers {
  readonly #masters: MasterConnection;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #timeoutMs: number;
  readonly #connections = new Map<string, RpcClient>();
  readonly #distrustedUntilMs = new Map<WorkerId, number>();
  #known = new Map<WorkerId, WorkerInfo>();
  #fetchedMs = Number.NEGATIVE_INFINITY;
  #fetching: Promise<void> | undefined;

  constructor(options: {
    masters: MasterConnection;
    clock: Clock;
    logger: Logger;
    operationTimeoutMs: number;
  }) {
    this.#masters = options.masters;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#timeoutMs = options.operationTimeoutMs;
  }

  /** The live workers, from a list that is at most ten seconds old. */
  async live(): Promise<WorkerInfo[]> {
    const ageMs = this.#clock.monotonicMs() - this.#fetchedMs;
    if (ageMs > staleMs || this.#known.size === 0) await this.refresh();
    else if (ageMs > freshMs) this.refresh().catch(() => undefined);
    return this.liveNow();
  }

  /** The live workers of the list at hand, those that failed lately last. */
  liveNow(): WorkerInfo[] {
    const live = [...this.#known.values()].filter((worker) => worker.state === "live");
    return live.sort(
      (a, b) => Number(this.distrusts(a.id)) - Number(this.distrusts(b.id)) || a.id - b.id,
    );
  }

  get(id: WorkerId): WorkerInfo | undefined {
    return this.#known.get(id);
  }

  /** Remembers that a transfer with the worker failed. */
  distrust(id: WorkerId): void {
    this.#distrustedUntilMs.set(id, this.#clock.monotonicMs() + distrustMs);
    this.#fetchedMs = Number.NEGATIVE_INFINITY;
  }

  distrusts(id: WorkerId): boolean {
    return (this.#distrustedUntilMs.get(id) ?? 0) > this.#clock.monotonicMs();
  }

  /** Asks each worker for a sign of life, and distrusts those that give none. */
  async examine(ids: readonly WorkerId[]): Promise<void> {
    await Promise.all(
      ids.map(async (id) => {
        const worker = this.#known.get(id);
        try {
          if (worker === undefined) throw new Error("unknown");
          await this.connection(worker).call(workerApi.status, {}, { deadlineMs: probeTimeoutMs });
        } catch {
          this.distrust(id);
        }
      }),
    );
  }

  refresh(): Promise<void> {
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = undefined;
    });
    return this.#fetching;
  }

  /** The control connection to a worker's address. */
  connection(worker: WorkerInfo): RpcClient {
    let client = this.#connections.get(worker.address);
    if (client === undefined) {
      const colon = worker.address.lastIndexOf(":");
      client = new RpcClient({
        host: worker.address.slice(0, colon),
        port: Number(worker.address.slice(colon + 1)),
        logger: this.#logger,
      });
      this.#connections.set(worker.address, client);
    }
    return client;
  }

  close(): void {
    for (const client of this.#connections.values()) client.close();
    this.#connections.clear();
  }

  async #fetch(): Promise<void> {
    const { workers } = await this.#masters.call(
      masterApi.workers,
      { consistency: "stale" },
      { deadlineMs: this.#timeoutMs, idempotent: true },
    );
    this.#known = new Map(workers.map((worker) => [worker.id, worker]));
    this.#fetchedMs = this.#clock.monotonicMs();
    const addresses = new Set(workers.map((worker) => worker.address));
    for (const [address, client] of this.#connections) {
      if (addresses.has(address)) continue;
      client.close();
      this.#connections.delete(address);
    }
  }
}
