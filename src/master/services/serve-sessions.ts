/**
 * RPC: sessions, and the commands that clients send under them.
 *
 * Invariant: what the table of sessions has decided is answered from there, and a refusal for what lies outside of the log
 * (a store, a worker) is decided there too: that has no second say in any copy of a request.
 */
import { type ErrorCode, hasCode, toWeirError, WeirError } from "../../lib/errors.ts";
import { type InodeId, positionOf, type SessionId } from "../../lib/ids.ts";
import { type Command, levelOf, type Request, sinceVersion, unwrap } from "../../rpc/commands.ts";
import { masterApi } from "../../rpc/master-api.ts";
import type { RpcServer } from "../../rpc/server.ts";
import { directoriesToLoad, unknownNames } from "../state/preload.ts";
import { levelOfState } from "../state/queries.ts";
import { isDecided, sequenceWindow } from "../state/session-table.ts";
import { checkStore, storeToCheck } from "./mount-check.ts";
import type { MasterParts } from "./parts.ts";
import type { Outcome } from "./proposer.ts";

/** Rounds of loading before a request is proposed as it is: what it names keeps changing. */
const loadRounds = 8;
/** Sequences end here: the window beyond each is still of integers that a double holds. */
const sequencesEnd = 2 ** 53 - 2 * sequenceWindow;

export function serveSessions(server: RpcServer, parts: MasterParts): void {
  const { proposer, config } = parts;

  server.handle(masterApi.openSession, async ({ clientName }, { signal }) => {
    const timeoutMs = config.master.sessionTimeoutMs;
    const [result] = await proposer.propose(
      [{ kind: "openSession", clientName, timeoutMs }],
      signal,
    );
    return { session: unwrap(result!, "Cannot open a session").id as SessionId, timeoutMs };
  });

  server.handle(masterApi.keepSession, async ({ session }, { signal }) => {
    const [result] = await proposer.propose(
      [{ kind: "touchSessions", sessions: [session] }],
      signal,
    );
    if (unwrap(result!, "Cannot keep a session").id === 0) throw expired(session);
    return {};
  });

  server.handle(masterApi.closeSession, async ({ session }, { signal }) => {
    for (;;) {
      const [result] = await proposer.propose([{ kind: "closeSession", session }], signal);
      if (unwrap(result!, "Cannot close a session").id === 0) return {};
    }
  });

  server.handle(masterApi.mutate, (received, call) => {
    const request = readable(parts, received);
    if (request.commands.length === 0) {
      throw new WeirError("InvalidArgument", "Cannot take a request without commands");
    }
    if (request.session === 0) throw expired(request.session);
    if (request.sequence >= sequencesEnd) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot take sequence ${String(request.sequence)}: wanted one below ${String(sequencesEnd)}`,
      );
    }
    needLevel(parts, request.commands);
    const isReady =
      parts.leadership.reign !== undefined &&
      directoriesOf(parts, request.commands).length === 0 &&
      !asksStores(request);
    return isReady ? proposer.enqueue(request, call) : mutateWhenReady(parts, request, call.signal);
  });
}

/** Whether the request would mount a store or change how it is reached. Of all but the superuser it is refused, and no store is asked in vain. */
function asksStores({ caller, commands }: Request): boolean {
  return (
    caller === undefined && commands.some(({ kind }) => kind === "mount" || kind === "updateMount")
  );
}

/**
 * The request as all members read it: those of before level 2 would pass over its caller, and over a umask, which nothing
 * but a mode without its bits can take the place of then.
 */
function readable({ store }: MasterParts, request: Request): Request {
  if (levelOfState(store) >= 2) return request;
  const commands = request.commands.map((command) => {
    if (command.kind !== "create" || command.umask === undefined) return command;
    return { ...command, mode: command.mode & ~command.umask, umask: undefined };
  });
  return { ...request, commands, caller: undefined };
}

/** Refuses what some member might not be able to read. */
function needLevel({ store }: MasterParts, commands: readonly Command[]): void {
  for (const command of commands) {
    if (levelOf(command) <= levelOfState(store)) continue;
    throw new WeirError(
      "Unavailable",
      `Cannot take ${command.kind}: a master of an earlier release, or one that is away, may not know it yet`,
    );
  }
}

/** For requests that have to wait for something before they can be proposed. */
async function mutateWhenReady(
  parts: MasterParts,
  request: Request,
  signal: AbortSignal,
): Promise<Outcome> {
  const { leadership, proposer, store, raft } = parts;
  await leadership.whenReigning(signal);
  if (isDecided(store, request)) return await proposer.submit(request, signal);
  await loadForCommands(parts, request.commands, signal);
  const refusal = asksStores(request)
    ? await refusalOfMounts(parts, request.commands, signal)
    : undefined;
  if (refusal === undefined) return await proposer.submit(request, signal);
  if (raft.oldestVersion >= sinceVersion.refuseMount) {
    return await proposer.submit(refused(request, refusal), signal);
  }
  // A copy of it may be in the log, not applied yet: what is behind that in the log is applied later.
  const { session } = request;
  await proposer.propose([{ kind: "touchSessions", sessions: [session] }], signal);
  if (isDecided(store, request)) return await proposer.submit(request, signal);
  const { code, detail } = refusal;
  const position = positionOf(store.appliedIndex, 0);
  return { position, results: request.commands.map(() => ({ ok: false, code, detail })) };
}

/** The request as the log takes it when one of its mounts is refused: nothing of it is done, and its session knows so. */
function refused(request: Request, { place, code, detail }: MountRefusal): Request {
  const commands = request.commands.with(place, { kind: "refuseMount", code, detail });
  return { ...request, atomic: true, commands };
}

/** The directories whose names in the store decide what the commands do, and that have not been loaded. */
function directoriesOf(parts: MasterParts, commands: readonly Command[]): readonly InodeId[] {
  let wanted: Set<InodeId> | undefined;
  for (const command of commands) {
    for (const directory of directoriesToLoad(parts.store, command)) {
      wanted ??= new Set();
      wanted.add(directory);
    }
  }
  return wanted === undefined ? none : [...wanted];
}

const none: readonly InodeId[] = [];

/** Loads what `directoriesOf` names. */
async function loadForCommands(
  parts: MasterParts,
  commands: readonly Command[],
  signal: AbortSignal,
): Promise<void> {
  const { loader } = await parts.leader(signal);
  const unknown = commands.flatMap((command) => unknownNames(parts.store, command));
  await Promise.all(unknown.map(({ directory, name }) => loader.know(directory, name, signal)));
  for (let round = 0; round < loadRounds; round++) {
    const wanted = directoriesOf(parts, commands);
    if (wanted.length === 0) return;
    await Promise.all(wanted.map((directory) => loader.load(directory, signal)));
  }
}

/** A mount (or a change of one) whose store could not be read, by its place among the commands of a request, and what the store says. */
interface MountRefusal {
  readonly place: number;
  readonly code: ErrorCode;
  readonly detail: string;
}

/**
 * Why a store that the request would mount cannot be. It is for the log to say, and no error of the call: a client would
 * ask again for as long as a store is away.
 */
async function refusalOfMounts(
  parts: MasterParts,
  commands: readonly Command[],
  signal: AbortSignal,
): Promise<MountRefusal | undefined> {
  for (const [place, command] of commands.entries()) {
    const wanted = storeToCheck(parts.store, command);
    if (wanted === undefined) continue;
    const { dispatcher } = await parts.leader(signal);
    try {
      await checkStore({ reader: parts.store, dispatcher }, wanted, signal);
    } catch (thrown) {
      if (signal.aborted || hasCode(thrown, "NotLeader")) throw thrown;
      const { code, message: detail } = toWeirError(thrown, "Cannot look at the store");
      return { place, code, detail };
    }
  }
  return undefined;
}

function expired(session: SessionId): WeirError {
  return new WeirError(
    "SessionExpired",
    `Cannot use session ${String(session)}: it was closed or has expired`,
  );
}
