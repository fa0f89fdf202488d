/**
 * The worker's control RPC: short circuit and state. A client that can read a tier directory's nonce shares that storage,
 * whatever the host names say; it then gets addresses of files in that directory, and no others.
 */
import { timingSafeEqual } from "node:crypto";
import { containerName } from "../blocks/types.ts";
import type { WorkerId } from "../lib/ids.ts";
import type { RpcServer } from "../rpc/server.ts";
import { workerApi } from "../rpc/worker-api.ts";
import type { BlockStore } from "./block-store.ts";
import type { BlockLeases } from "./leases.ts";
import type { TierDirectory } from "./tier-directory.ts";

export interface ControlOptions {
  readonly store: BlockStore;
  readonly leases: BlockLeases;
  readonly uuid: string;
  /** Undefined until a master knows the worker. */
  worker(): WorkerId | undefined;
  counters(): readonly { readonly name: string; readonly value: number }[];
}

export function serveControl(server: RpcServer, options: ControlOptions): void {
  const { store, leases } = options;
  const directories = store.tiers.flatMap((tier) => tier.directories);
  /** Directories that a connection proved to share. */
  const proved = new Map<number, Set<TierDirectory>>();

  const forget = (connection: { id: number; onClose(callback: () => void): void }): void => {
    connection.onClose(() => {
      proved.delete(connection.id);
      leases.releaseAll(connection.id);
    });
  };

  server.handle(workerApi.tiers, async () => ({
    directories: directories.map(({ path }) => path),
  }));

  server.handle(workerApi.proveLocal, async ({ nonces }, { connection }) => {
    const local = directories.map((directory, place) => isEqual(nonces[place], directory.nonce));
    if (!proved.has(connection.id)) forget(connection);
    proved.set(connection.id, new Set(directories.filter((_, place) => local[place])));
    return { local };
  });

  server.handle(workerApi.leaseContainer, async (request, { connection }) => {
    const container = store.peek(request.container);
    if (container === undefined || proved.get(connection.id)?.has(container.directory) !== true) {
      return { address: undefined };
    }
    const length = container.prefixLength;
    if (length === 0) return { address: undefined };
    store.touch(container);
    leases.take(connection.id, container);
    const { leaseMs } = leases;
    return { address: { path: container.path, offset: 0, length, leaseMs } };
  });

  server.handle(workerApi.releaseContainers, async ({ containers }, { connection }) => {
    for (const container of containers) leases.release(connection.id, containerName(container));
    return {};
  });

  server.handle(workerApi.renewLeases, async (_, { connection }) => {
    leases.renew(connection.id);
    return { leaseMs: leases.leaseMs };
  });

  server.handle(workerApi.status, async () => ({
    uuid: options.uuid,
    worker: options.worker() ?? 0,
    tiers: [...store.usage],
    containers: store.count,
    keptBytes: store.keptBytes,
    counters: [...options.counters()],
  }));
}

function isEqual(given: string | undefined, wanted: string): boolean {
  const [a, b] = [Buffer.from(given ?? ""), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}
