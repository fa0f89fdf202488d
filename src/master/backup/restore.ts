/**
 * Seeds the first master of a new cluster from a backup: its state, and a journal that begins right behind it. The other
 * masters start empty and join it (`weir cluster add`), so nothing but this master ever holds a half of the truth.
 *
 * Invariants
 * 1. No node of the old cluster can take part in the new one, or the other way round: cluster and node ids are new.
 * 2. No id that the old cluster gave out after the backup is given out again: ids are log positions, and the new log begins
 *    `restoredGap` entries further. Blocks that workers still have from that time are strangers here, never taken for others.
 * 3. Sessions of the old clients are over, with their leases: what they did after the backup is gone, and they must not go
 *    on as if it were not.
 * 4. The directory appears whole or not at all.
 */
import { randomUUID } from "node:crypto";
import { mkdir, readdir, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join, resolve as resolvePath } from "node:path";
import { systemClock } from "../../lib/clock.ts";
import type { Config } from "../../lib/config.ts";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import { maxCommandsPerEntry, type SessionId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import { encode } from "../../lib/schema.ts";
import { openJournal } from "../../journal/journal.ts";
import { syncDirectory } from "../../journal/sync-directory.ts";
import { encodeConfiguration } from "../../raft/configuration-codec.ts";
import type { Entry, Index, Member, Term } from "../../raft/types.ts";
import { type Command, entryPayload } from "../../rpc/commands.ts";
import { MachineHost } from "../services/machine-host.ts";
import { sessionsPage } from "../services/listings.ts";
import { clockOf } from "../state/queries.ts";
import { openStateStore } from "../store/level-store.ts";
import type { StateStore } from "../store/types.ts";
import { rowsOfBackup, type VerifiedBackup, verifyBackup } from "./read.ts";

/** Entries between the backup's place in the log and where the new log begins: more than a cluster writes in months. */
export const restoredGap = 2 ** 34;

export interface RestoreOptions {
  readonly backup: string;
  /** Of the new master; must be missing or empty. */
  readonly dataDir: string;
  /** Which of the configuration's masters it is to be. */
  readonly name: string;
  readonly config: Config;
  readonly logger: Logger;
}

export interface Restored {
  readonly backup: VerifiedBackup;
  /** Of the new cluster's consensus. */
  readonly clusterId: string;
  readonly nodeId: string;
  /** Where the new log begins. */
  readonly index: number;
  /** Sessions of the old cluster that were ended. */
  readonly sessions: number;
}

/**
 * Makes the data directory of a master that is, alone, a new cluster with the backup's state.
 * @throws WeirError `Corrupt` for a damaged backup; `AlreadyExists` when the directory is not empty; `ConfigInvalid` for a
 *   name that the configuration does not have
 */
export async function restoreBackup(options: RestoreOptions): Promise<Restored> {
  const { name, config } = options;
  const dataDir = resolvePath(options.dataDir);
  const own = config.masters.find((master) => master.name === name);
  if (own === undefined) {
    const known = config.masters.map((master) => master.name).join(", ");
    throw new WeirError(
      "ConfigInvalid",
      `Cannot restore master "${name}": the configuration names ${known}`,
    );
  }
  await checkEmpty(dataDir);
  const backup = await verifyBackup(options.backup);
  const { host, raftPort, rpcPort } = own;
  const member: Member = { nodeId: randomUUID(), name, host, raftPort, rpcPort, promote: false };
  const clusterId = randomUUID();

  const partial = `${dataDir}.restoring`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true, mode: 0o700 });
  try {
    const seeded = await seedState(partial, backup, member, options.logger);
    await seedJournal(partial, { ...options, clusterId, member, ...seeded });
    await rmdir(dataDir).catch((thrown: unknown) => {
      if ((thrown as NodeJS.ErrnoException).code !== "ENOENT") throw thrown;
    });
    await rename(partial, dataDir);
    await syncDirectory(dirname(dataDir));
    const { index, sessions } = seeded;
    return { backup, clusterId, nodeId: member.nodeId, index, sessions };
  } catch (thrown) {
    await rm(partial, { recursive: true, force: true });
    throw toWeirError(thrown, `Cannot restore into "${dataDir}"`);
  }
}

async function checkEmpty(dataDir: string): Promise<void> {
  const names = await readdir(dataDir).catch((thrown: unknown) => {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw toWeirError(thrown, `Cannot restore into "${dataDir}"`);
  });
  if (names.length === 0) return;
  throw new WeirError(
    "AlreadyExists",
    `Cannot restore into "${dataDir}": it holds "${names[0]!}", wanted an empty directory; ` +
      "move it away first, it may be all that is left of a cluster",
  );
}

/** Where the state stands after what the restore itself does to it. */
interface Seeded {
  readonly index: number;
  readonly term: number;
  readonly sessions: number;
}

async function seedState(
  directory: string,
  backup: VerifiedBackup,
  member: Member,
  logger: Logger,
): Promise<Seeded> {
  const store = await openStateStore({
    directory: join(directory, "state"),
    clock: systemClock,
    logger,
  });
  try {
    const { header } = backup;
    const term = header.term + 1;
    await store.install(header.index + restoredGap, term, rowsOfBackup(backup.path));
    const machine = new MachineHost({
      store,
      onApplied: () => undefined,
      onInstalled: () => undefined,
    });
    const sessions = await endSessions(store, machine, term);
    const voters = [member.nodeId];
    const configuration = { voters, outgoing: [], learners: [], members: [member] };
    const payload = encodeConfiguration(configuration);
    await machine.apply([nextEntry(store, term, "configuration", payload)]);
    const flushed = await store.flush();
    return { ...flushed, sessions };
  } finally {
    await store.close();
  }
}

/** Ends all sessions by the commands by which a leader ends expired ones; their number. */
async function endSessions(store: StateStore, machine: MachineHost, term: number): Promise<number> {
  const ended = new Set<SessionId>();
  for (;;) {
    const page = await sessionsPage(store, { after: undefined, limit: maxCommandsPerEntry });
    if (page.length === 0) return ended.size;
    for (const { id } of page) ended.add(id);
    const commands = page.map(({ id }): Command => ({ kind: "closeSession", session: id }));
    const { clusterTimeMs, wallTime } = clockOf(store);
    const session = 0 as SessionId;
    const request = { session, sequence: 0, acknowledgedBelow: 0, atomic: false, commands };
    const payload = encode(entryPayload, { clusterTimeMs, wallTime, requests: [request] });
    await machine.apply([nextEntry(store, term, "command", payload)]);
  }
}

function nextEntry(
  store: StateStore,
  term: number,
  kind: Entry["kind"],
  payload: Uint8Array,
): Entry {
  return { index: (store.appliedIndex + 1) as Index, term: term as Term, kind, payload };
}

async function seedJournal(
  directory: string,
  seed: RestoreOptions & { clusterId: string; member: Member } & Seeded,
): Promise<void> {
  const { config, clusterId, member, index, term, logger } = seed;
  const journal = await openJournal({
    directory: join(directory, "journal"),
    segmentBytes: config.master.segmentBytes,
    reservedDiskBytes: config.master.reservedDiskBytes,
    clock: systemClock,
    logger,
  });
  try {
    const { nodeId, name } = member;
    await journal.initialize({ nodeId, clusterId, members: [{ name, nodeId }] });
    await journal.append({ hardState: { term: term as Term, vote: undefined }, entries: [] });
    await journal.reset(index as Index, term as Term);
  } finally {
    await journal.close();
  }
}
