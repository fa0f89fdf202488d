/**
 * Looks at a store before it is mounted, or before the options of its mount are changed: a worker lists its root once. So a missing directory, a wrong credential or an
 * endpoint where nobody listens is refused with what the store itself says, and no mount is left that can never be read.
 */
import { isDeepStrictEqual } from "node:util";
import { WeirError } from "../../lib/errors.ts";
import type { Command } from "../../rpc/commands.ts";
import { unmountedId } from "../../rpc/tasks.ts";
import { edgeOf, inodeOf, mountOf, workersOf } from "../state/queries.ts";
import {
  flawOfStores,
  type Stores,
  storesAfter,
  storesOf,
  storesOfMount,
} from "../state/mount-stores.ts";
import type { StateReader } from "../store/types.ts";
import { failureOf } from "./store-lister.ts";
import type { TaskDispatcher } from "./task-dispatcher.ts";

/** The client of a bucket gives up a connection within 5 s, several times over. */
const checkLimitMs = 8000;

/** The stores that a command would mount, or reach otherwise than before; undefined when there is nothing to look at. */
export function storeToCheck(reader: StateReader, command: Command): Stores | undefined {
  if (command.kind === "mount") {
    const existing = edgeOf(reader, command.parent, command.name);
    // Mounted already: by this very request, whose answer was lost, or by another. The state knows.
    if (existing !== undefined && inodeOf(reader, existing.child)?.mountPoint === true) return;
    const stores = storesOfMount(command);
    return flawOfStores(stores) === undefined ? stores : undefined;
  }
  if (command.kind !== "updateMount") return undefined;
  const mount = mountOf(reader, command.mount);
  if (mount === undefined) return undefined;
  const after = storesAfter(mount, command);
  const isSame = isDeepStrictEqual({ ...after, readOnly: mount.readOnly }, storesOf(mount));
  return isSame || flawOfStores(after) !== undefined ? undefined : after;
}

/**
 * Resolves when a worker can list the store.
 * @throws WeirError what the store says; `Unavailable` when no worker is there to ask or the store keeps silent
 */
export async function checkStore(
  leader: { readonly reader: StateReader; readonly dispatcher: TaskDispatcher },
  stores: Stores,
  signal: AbortSignal,
): Promise<void> {
  const { reader, dispatcher } = leader;
  if (!workersOf(reader).some((worker) => worker.state === "live")) {
    throw new WeirError(
      "Unavailable",
      "no worker is registered to look at the store: start one with: weir worker",
    );
  }
  const limit = AbortSignal.timeout(checkLimitMs);
  const mount = { id: unmountedId, ...stores };
  const task = { kind: "listDirectory" as const, mount, path: "", after: undefined, limit: 1 };
  const result = await dispatcher
    .run(task, { urgent: true }, AbortSignal.any([signal, limit]))
    .catch((thrown: unknown) => {
      if (!limit.aborted || signal.aborted) throw thrown;
      throw new WeirError(
        "Unavailable",
        `no worker could list the store within ${checkLimitMs / 1000} s`,
      );
    });
  if (result.kind === "listed") return;
  const { code, message } = failureOf(result, "Cannot list the store");
  throw new WeirError(code, result.kind === "failed" ? result.message : message);
}
