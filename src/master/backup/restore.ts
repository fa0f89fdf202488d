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
 * 4. The directory is a master's once it is whole: all is made in a directory `restoring` in it, which may be a mount point
 *    that nothing can take the place of. Its parts are renamed out of there, the journal last, and it goes when all is in
 *    place. While it is there no master starts, and what else is there is its own: the next restore removes it.
 */
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm, rmdir } from "node:fs/promises";
import { join, resolve as resolvePath } from "node:path";
import { systemClock } from "../../lib/clock.ts";
import type { Config } from "../../lib/config.ts";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import { maxCommandsPerEntry, type SessionId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import { encode } from "../../lib/schema.ts";
import { openJournal } from "../../journal/journal.ts";
import { syncDirectory, syncParents } from "../../journal/sync-directory.ts";
import { encodeConfiguration } from "../../raft/configuration-codec.ts";
import type { Entry, Index, Member, Term } from "../../raft/types.ts";
import { type Command, entryPayload } from "../../rpc/commands.ts";
import { MachineHost } from "../services/machine-host.ts";
import { sessionsPage } from "../services/listings.ts";
import { clockOf } from "../state/queries.ts";
import { openStateStore } from "../store/level-store.ts";
import type { StateStore } from "../store/types.ts";
import { restoringName } from "./format.ts";
import { rowsOfBackup, type VerifiedBackup, verifyBackup } from "./read.ts";

/** Entries between the backup's place in the log and where the new log begins: more than a cluster writes in months. */
export const restoredGap = 2 ** 34;

/** What a master's directory consists of, in the order in which it comes to be. */
const restoredParts = ["state", "journal"] as const;

export interface RestoreOptions {
  readonly backup: string;
  /** Of the new master; must be missing or empty, but for what an interrupted restore left. A mount point will do. */
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
  await checkFree(dataDir);
  const backup = await verifyBackup(options.backup);
  const { host, raftPort, rpcPort } = own;
  const member: Member = { nodeId: randomUUID(), name, host, raftPort, rpcPort, promote: false };
  const clusterId = randomUUID();

  const firstMade = await mkdir(dataDir, { recursive: true, mode: 0o700 });
  if (firstMade !== undefined) await syncParents(dataDir, firstMade);
  const partial = join(dataDir, restoringName);
  // Reading the backup took its time.
  await checkFree(dataDir);
  try {
    await removeRestored(dataDir);
    await mkdir(partial, { mode: 0o700 });
    await syncDirectory(dataDir);
    const seeded = await seedState(partial, backup, member, options.logger);
    await seedJournal(partial, { ...options, clusterId, member, ...seeded });
    for (const part of restoredParts) {
      await rename(join(partial, part), join(dataDir, part));
      await syncDirectory(dataDir);
    }
    await rm(partial, { recursive: true });
    await syncDirectory(dataDir);
    const { index, sessions } = seeded;
    return { backup, clusterId, nodeId: member.nodeId, index, sessions };
  } catch (thrown) {
    await removeRestored(dataDir).catch(() => undefined);
    if (firstMade !== undefined) await rmdir(dataDir).catch(() => undefined);
    throw toWeirError(thrown, `Cannot restore into "${dataDir}"`);
  }
}

/** Removes what a restore left that did not come to its end; last of all the directory that says so. */
async function removeRestored(dataDir: string): Promise<void> {
  for (const part of [...restoredParts].reverse()) {
    await rm(join(dataDir, part), { recursive: true, force: true });
  }
  await syncDirectory(dataDir);
  await rm(join(dataDir, restoringName), { recursive: true, force: true });
  await syncDirectory(dataDir);
}

/**
 * @throws WeirError `Corrupt` when a restore into the directory did not come to its end: nothing in it is a master's yet
 */
export function checkRestored(dataDir: string): void {
  if (!existsSync(join(dataDir, restoringName))) return;
  throw new WeirError(
    "Corrupt",
    `Cannot start on "${dataDir}": a restore into it is under way, or was interrupted: run it again ` +
      "(weir backup restore FILE), it begins anew",
  );
}

/** Empty, missing, or left by a restore that did not come to its end. */
async function checkFree(dataDir: string): Promise<void> {
  const names: readonly string[] = await readdir(dataDir).catch((thrown: unknown) => {
    if ((thrown as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw toWeirError(thrown, `Cannot restore into "${dataDir}"`);
  });
  const own: readonly string[] = [restoringName, ...restoredParts];
  if (names.length === 0) return;
  if (names.includes(restoringName) && names.every((name) => own.includes(name))) return;
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
