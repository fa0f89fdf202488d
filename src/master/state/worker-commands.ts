/**
 * Workers: who they are and whether their copies count. That a file is lost follows from it and is never stored: so it
 * holds from the moment that `workerLost` is applied, on every master, and heals when the worker registers again. One that
 * is there without its copies loses the duty to keep them by `keeperGone`; that does not heal.
 */
import type { WorkerId } from "../../lib/ids.ts";
import { type Command, type CommandResult, maxKeeperGone } from "../../rpc/commands.ts";
import { setKeepers } from "./containers.ts";
import { type Context, refuse, takeId } from "./context.ts";
import { workerKey, workerUuidKey } from "./keys.ts";
import { storedId, worker } from "./model.ts";
import { containerOf, inodeOf, workerByUuid, workerOf } from "./queries.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** It is a part of a key. */
const maxUuidLength = 255;

/** Result: `id` is the worker. One uuid has one id for ever. */
export function registerWorker(context: Context, command: Of<"registerWorker">): CommandResult {
  const { uuid, host, address, tiers } = command;
  if (uuid === "") refuse("InvalidArgument", "a worker has a uuid");
  if (uuid.length > maxUuidLength) {
    refuse(
      "InvalidArgument",
      `the uuid has ${uuid.length} characters, wanted at most ${maxUuidLength}`,
    );
  }
  const id = workerByUuid(context.state, uuid)?.id ?? (takeId(context, "Worker") as WorkerId);
  context.state.write(storedId, workerUuidKey(uuid), id);
  context.state.write(worker, workerKey(id), {
    id,
    uuid,
    host,
    address,
    state: "live",
    tiers,
  });
  context.notes.events.push({ kind: "workerRegistered", worker: id });
  return { ok: true, id };
}

export function workerLost(context: Context, command: Of<"workerLost">): CommandResult {
  const of = workerOf(context.state, command.worker);
  if (of === undefined) refuse("NotFound", `no worker ${command.worker} is registered`);
  context.state.write(worker, workerKey(of.id), { ...of, state: "lost" });
  context.notes.events.push({ kind: "workerLost", worker: of.id });
  return { ok: true };
}

/**
 * Containers that the worker does not keep are passed over, and so are those that are being written: only when the write
 * is over nobody can have put their bytes there again since the leader looked.
 */
export function keeperGone(context: Context, command: Of<"keeperGone">): CommandResult {
  const { worker: gone, containers } = command;
  if (workerOf(context.state, gone) === undefined) {
    refuse("NotFound", `no worker ${gone} is registered`);
  }
  if (containers.length > maxKeeperGone) {
    refuse("InvalidArgument", `${containers.length} containers, wanted at most ${maxKeeperGone}`);
  }
  for (const { inode, writeId } of containers) {
    const of = containerOf(context.state, inode, writeId);
    if (of === undefined || !of.keepers.includes(gone)) continue;
    if (inodeOf(context.state, inode)?.lease?.writeId === writeId) continue;
    const keepers = of.keepers.filter((keeper) => keeper !== gone);
    setKeepers(context, { inode, writeId }, { keepers, size: of.size });
  }
  return { ok: true };
}
