/**
 * Sessions as commands of the leader. A session lives until `closeSession`: its timeout, in cluster time, only tells the
 * leader when to propose that. So all masters end it at the same place of the log.
 */
import type { SessionId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { releaseHold } from "./content-commands.ts";
import type { Context } from "./context.ts";
import {
  answersRange,
  inodeAtEnd,
  leaseRange,
  resultRange,
  retainedRange,
  sessionKey,
} from "./keys.ts";
import { endLease } from "./leases.ts";
import { type Session, session } from "./model.ts";
import { sessionOf } from "./queries.ts";
import { expiryOf } from "./session-table.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** Most leases, holds and results that one `closeSession` ends. */
export const closeStepLimit = 1000;

/** Result: `id` is the session. */
export function openSession(context: Context, command: Of<"openSession">): CommandResult {
  const id = context.position as number as SessionId;
  const { clientName, timeoutMs } = command;
  putSession(context, id, {
    clientName,
    timeoutMs,
    expiresAtMs: expiryOf(context.clusterTimeMs, timeoutMs),
    prunedBelow: 0,
    closing: false,
    executedBelow: 0,
  });
  context.notes.events.push({ kind: "sessionOpened", session: id });
  return { ok: true, id };
}

export function putSession(context: Pick<Context, "state">, id: SessionId, value: Session): void {
  context.state.write(session, sessionKey(id), value);
}

/** Result: `id` is the number of sessions that are open and were extended. */
export function touchSessions(context: Context, command: Of<"touchSessions">): CommandResult {
  let touched = 0;
  for (const id of command.sessions) {
    const of = sessionOf(context.state, id);
    if (of === undefined || of.closing) continue;
    const expiresAtMs = Math.max(of.expiresAtMs, expiryOf(context.clusterTimeMs, of.timeoutMs));
    putSession(context, id, { ...of, expiresAtMs });
    touched++;
  }
  return { ok: true, id: touched };
}

/** Result: `id` 1 while more is to do: then the same command is to be proposed again. */
export function closeSession(context: Context, command: Of<"closeSession">): CommandResult {
  const id = command.session;
  const of = sessionOf(context.state, id);
  if (of === undefined) return { ok: true, id: 0 };
  let left = closeStepLimit;
  const take = (range: ReturnType<typeof leaseRange>, end: (key: string) => void) => {
    const keys = context.state.scan({ ...range, limit: closeStepLimit }).slice(0, left);
    left -= keys.length;
    for (const [key] of keys) end(key);
  };
  take(leaseRange(id), (key) => {
    endLease(context, inodeAtEnd(key));
  });
  take(retainedRange(id), (key) => {
    releaseHold(context, id, inodeAtEnd(key));
  });
  take(answersRange(id), (key) => {
    context.state.delete(key);
  });
  take(resultRange(id), (key) => {
    context.state.delete(key);
  });
  if (left === 0) {
    putSession(context, id, { ...of, closing: true });
    return { ok: true, id: 1 };
  }
  context.state.delete(sessionKey(id));
  context.notes.events.push({ kind: "sessionClosed", session: id });
  return { ok: true, id: 0 };
}
