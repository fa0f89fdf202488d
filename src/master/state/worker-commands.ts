/**
 * Workers: who they are and whether their copies count. That a file is lost follows from it and is never stored: so it
 * holds from the moment that `workerLost` is applied, on every master, and heals when the worker registers again.
 */
import type { WorkerId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { type Context, refuse, takeId } from "./context.ts";
import { workerKey, workerUuidKey } from "./keys.ts";
import { storedId, worker, writeRecord } from "./model.ts";
import { workerByUuid, workerOf } from "./queries.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** Result: `id` is the worker. One uuid has one id for ever. */
export function registerWorker(context: Context, command: Of<"registerWorker">): CommandResult {
  const { uuid, host, address, tiers } = command;
  if (uuid === "") refuse("InvalidArgument", "a worker has a uuid");
  const id = workerByUuid(context.state, uuid)?.id ?? (takeId(context, "Worker") as WorkerId);
  writeRecord(context.state, storedId, workerUuidKey(uuid), id);
  writeRecord(context.state, worker, workerKey(id), {
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
  writeRecord(context.state, worker, workerKey(of.id), { ...of, state: "lost" });
  context.notes.events.push({ kind: "workerLost", worker: of.id });
  return { ok: true };
}
