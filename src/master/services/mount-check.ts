/**
 * Looks at a store before it is mounted: a worker lists its root once. So a missing directory, a wrong credential or an
 * endpoint where nobody listens is refused with what the store itself says, and no mount is left that can never be read.
 */
import { WeirError } from "../../lib/errors.ts";
import type { Command } from "../../rpc/commands.ts";
import { unmountedId } from "../../rpc/tasks.ts";
import { edgeOf, inodeOf, workersOf } from "../state/queries.ts";
import { flawOfStore } from "../state/store-address.ts";
import type { StateReader } from "../store/types.ts";
import { failureOf } from "./directory-loader.ts";
import type { TaskDispatcher } from "./task-dispatcher.ts";

/** The client of a bucket gives up a connection within 5 s, several times over. */
const checkLimitMs = 8000;

type Mount = Extract<Command, { kind: "mount" }>;

/**
 * Resolves when a worker can list the store, or when the state will refuse the mount anyway.
 * @throws WeirError what the store says; `Unavailable` when no worker is there to ask or the store keeps silent
 */
export async function checkMount(
  leader: { readonly reader: StateReader; readonly dispatcher: TaskDispatcher },
  { parent, name, uri, readOnly, options }: Mount,
  signal: AbortSignal,
): Promise<void> {
  const { reader, dispatcher } = leader;
  const existing = edgeOf(reader, parent, name);
  // Mounted already: by this very request, whose answer was lost, or by another. The state knows.
  if (existing !== undefined && inodeOf(reader, existing.child)?.mountPoint === true) return;
  if (flawOfStore(uri) !== undefined) return;
  if (!workersOf(reader).some((worker) => worker.state === "live")) {
    throw new WeirError(
      "Unavailable",
      "no worker is registered to look at the store: start one with: weir worker",
    );
  }
  const limit = AbortSignal.timeout(checkLimitMs);
  const mount = { id: unmountedId, uri, readOnly, options };
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
