/**
 * The keys of the replicated state: a word, then ids of 8 bytes (big-endian, so that keys sort like numbers), then a name
 * where there is one. Keys are latin1 strings, one character per byte. Values are said in model.ts.
 *
 * Invariant: every range that is scanned ends in "/", so that the end of the range can be written by counting up.
 */
import type {
  DataPolicyId,
  InodeId,
  LineageId,
  MountId,
  SessionId,
  TreeOpId,
  UfsOpId,
  WorkerId,
  WriteId,
} from "../../lib/ids.ts";
import { type KeyRange, prefixRange } from "../store/types.ts";

const idLength = 8;

/** An integer below 2^53 as 8 characters that sort like the integer. */
function id(value: number): string {
  const high = Math.floor(value / 2 ** 32);
  const low = value >>> 0;
  return String.fromCharCode(
    (high >>> 24) & 0xff,
    (high >>> 16) & 0xff,
    (high >>> 8) & 0xff,
    high & 0xff,
    low >>> 24,
    (low >>> 16) & 0xff,
    (low >>> 8) & 0xff,
    low & 0xff,
  );
}

function idAt(key: string, offset: number): number {
  let value = 0;
  for (let i = 0; i < idLength; i++) value = value * 256 + key.charCodeAt(offset + i);
  return value;
}

/** The id that stands first in a key, behind its word. */
export function firstIdOf(key: string): number {
  return idAt(key, key.indexOf("/") + 1);
}

const slots = 4096;

/**
 * Keys made of one id, kept for the ids that come again and again: making the string and its hash costs more than what is
 * then done with it. A slot holds the last id that fell into it.
 */
function idKeys(make: (value: number) => string): (value: number) => string {
  const ids = new Float64Array(slots);
  const keys = new Array<string>(slots).fill("");
  return (value) => {
    const slot = value % slots;
    if (ids[slot] === value && value !== 0) return keys[slot]!;
    ids[slot] = value;
    return (keys[slot] = make(value));
  };
}

export const clusterKey = "meta/cluster";
export const clockKey = "meta/clock";
/** The members of the cluster, as of the last committed change of them. */
export const configurationKey = "meta/configuration";
/** Ids of all mounts. */
export const mountIdsKey = "meta/mounts";
/** The level of the state; see `levelOf` in rpc/commands.ts. */
export const levelKey = "meta/level";
/** Wall time and cluster time as they were when they were last taken as right. */
export const ttlClockKey = "meta/ttlClock";
/** What holds for the tree as a whole. */
export const treeKey = "meta/tree";
/** Number of inodes that exist. */
export const inodeCountKey = "meta/inodes";

/** Says that some directory or mount has, or had, an interval of its own at which its store is asked again. */
export const syncIntervalsKey = "meta/syncIntervals";

export type CounterName =
  | "Inode"
  | "Mount"
  | "Worker"
  | "Lineage"
  | "UfsOp"
  | "TreeOp"
  | "DataPolicy";
/** The next id of a kind. */
export function counterKey(name: CounterName): string {
  return counterKeys[name];
}
const counterKeys: Readonly<Record<CounterName, string>> = {
  Inode: "meta/nextInode",
  Mount: "meta/nextMount",
  Worker: "meta/nextWorker",
  Lineage: "meta/nextLineage",
  UfsOp: "meta/nextUfsOp",
  TreeOp: "meta/nextTreeOp",
  DataPolicy: "meta/nextDataPolicy",
};

export const inodeKey: (inode: InodeId) => string = idKeys(flatInodeKey);
/** In one piece from the start: a string that was put together is copied once more before it can be looked up. */
function flatInodeKey(inode: number): string {
  const high = Math.floor(inode / 2 ** 32);
  const low = inode >>> 0;
  return String.fromCharCode(
    0x69,
    0x6e,
    0x6f,
    0x64,
    0x65,
    0x2f,
    (high >>> 24) & 0xff,
    (high >>> 16) & 0xff,
    (high >>> 8) & 0xff,
    high & 0xff,
    low >>> 24,
    (low >>> 16) & 0xff,
    (low >>> 8) & 0xff,
    low & 0xff,
  );
}
/** Rows of the inodes with ids [from, to). */
export function inodeRange(from: InodeId, to: InodeId): KeyRange {
  return { from: inodeKey(from), to: inodeKey(to) };
}
export function isInodeKey(key: string): boolean {
  return key.startsWith("inode/");
}

const edgePrefixLength = "edge/".length + idLength + 1;
const edgePrefix = idKeys((parent) => `edge/${id(parent)}/`);
/** One command asks for the same key several times. */
const lastEdge = { parent: 0 as InodeId, name: "", key: "" };
export function edgeKey(parent: InodeId, name: string): string {
  if (lastEdge.parent !== parent || lastEdge.name !== name) {
    lastEdge.parent = parent;
    lastEdge.name = name;
    lastEdge.key = edgePrefix(parent) + name;
  }
  return lastEdge.key;
}
export function edgeRange(parent: InodeId): KeyRange {
  return prefixRange(edgeKey(parent, ""));
}
/** The name in an `edgeKey`. */
export function nameOfEdge(key: string): string {
  return key.slice(edgePrefixLength);
}

/** The own policy of a file or directory. */
export function policyRowKey(inode: InodeId): string {
  return `policy/${id(inode)}`;
}
/** Policies of the inodes after this one. */
export function policyRange(after: InodeId | undefined): KeyRange {
  const all = prefixRange("policy/");
  return after === undefined ? all : { from: policyRowKey((after + 1) as InodeId), to: all.to };
}

/** The names of an inode that has several. */
export function parentKey(inode: InodeId): string {
  return `parent/${id(inode)}`;
}

/** A name in a directory that a pending side effect takes out of the store. */
export function tombKey(directory: InodeId, name: string): string {
  return `tomb/${id(directory)}/${name}`;
}
/** The name in a `tombKey`. */
export function nameOfTomb(key: string): string {
  return key.slice(edgePrefixLength);
}

/** An extended attribute by its full name, as in `user.comment`. */
export function xattrKey(inode: InodeId, name: string): string {
  return `xattr/${id(inode)}/${name}`;
}
export function xattrRange(inode: InodeId): KeyRange {
  return prefixRange(xattrKey(inode, ""));
}
/** The name in an `xattrKey`. */
export function nameOfXattr(key: string): string {
  return key.slice(xattrPrefixLength);
}
const xattrPrefixLength = "xattr/".length + idLength + 1;

/** A name in a directory that a pending side effect brings into the store, though its inode is there already. */
export function arrivalKey(directory: InodeId, name: string): string {
  return `arrival/${id(directory)}/${name}`;
}
/** The name in an `arrivalKey`. */
export function nameOfArrival(key: string): string {
  return key.slice("arrival/".length + idLength + 1);
}

/** Whose extents: those of a later generation of an inode lie apart from all before. */
export interface ExtentOwner {
  readonly id: InodeId;
  readonly cleared?: { readonly generation: number } | undefined;
}
function extentPrefix(of: ExtentOwner): string {
  const generation = of.cleared?.generation ?? 0;
  return generation === 0 ? `extent/${id(of.id)}/` : `extents/${id(of.id)}/${id(generation)}/`;
}
export function extentKey(of: ExtentOwner, fileOffset: number): string {
  return extentPrefix(of) + id(fileOffset);
}
/** Keys of all extents that begin at `fileOffset` or later, but before `end`. */
export function extentRange(of: ExtentOwner, fileOffset = 0, end?: number): KeyRange {
  const from = extentKey(of, fileOffset);
  return { from, to: end === undefined ? prefixRange(extentPrefix(of)).to : extentKey(of, end) };
}
/** Ranges of the extents of all generations. */
export function allExtents(inode: InodeId): readonly KeyRange[] {
  return [prefixRange(`extent/${id(inode)}/`), prefixRange(`extents/${id(inode)}/`)];
}
/** The file offset in an `extentKey`. */
export function offsetOfExtent(key: string): number {
  return idAt(key, key.length - idLength);
}

/** The generation in an `extentKey`. */
export function generationOfExtent(key: string): number {
  return key.startsWith("extents/") ? idAt(key, key.length - 2 * idLength - 1) : 0;
}

/** Says which extents of a generation are being taken away, in steps. */
export function clearingKey(inode: InodeId, generation: number): string {
  return `clearing/${id(inode)}/${id(generation)}`;
}
export const clearingRange = prefixRange("clearing/");
/** The inode and the generation in a `clearingKey`. */
export function clearingOfKey(key: string): { inode: InodeId; generation: number } {
  return {
    inode: idAt(key, key.length - 2 * idLength - 1) as InodeId,
    generation: idAt(key, key.length - idLength),
  };
}

/** Says that a file has very many small extents. */
export function compactKey(inode: InodeId): string {
  return `compact/${id(inode)}`;
}
export const compactRange = prefixRange("compact/");

export function containerKey(inode: InodeId, writeId: WriteId): string {
  return `container/${id(inode)}/${id(writeId)}`;
}
export function containerRange(inode: InodeId): KeyRange {
  return prefixRange(`container/${id(inode)}/`);
}
/** The write id in a `containerKey`. */
export function writeIdOfContainer(key: string): WriteId {
  return idAt(key, key.length - idLength) as WriteId;
}

/** Says that a worker keeps a container: the reverse of the container's list of workers. */
export function keptKey(worker: WorkerId, inode: InodeId, writeId: WriteId): string {
  return `kept/${id(worker)}/${id(inode)}/${id(writeId)}`;
}
export function keptRange(worker: WorkerId): KeyRange {
  return prefixRange(`kept/${id(worker)}/`);
}
/** The container in a `keptKey`. */
export function containerOfKept(key: string): { inode: InodeId; writeId: WriteId } {
  return {
    inode: idAt(key, key.length - 2 * idLength - 1) as InodeId,
    writeId: idAt(key, key.length - idLength) as WriteId,
  };
}

export const sessionKey: (session: SessionId) => string = idKeys(
  (session) => `session/${id(session)}`,
);
export const sessionRange = prefixRange("session/");
export function sessionOfKey(key: string): SessionId {
  return idAt(key, key.length - idLength) as SessionId;
}

/** Sequences whose results lie in one row. */
const sequencesPerRow = 16;
const answersPrefix = idKeys((session) => `answers/${id(session)}/`);
const lastAnswers = { session: 0 as SessionId, row: -1, key: "" };
/** The results of the requests of a session whose sequences fall into one row with `sequence`. */
export function answersKey(session: SessionId, sequence: number): string {
  const row = Math.floor(sequence / sequencesPerRow);
  if (lastAnswers.session !== session || lastAnswers.row !== row) {
    lastAnswers.session = session;
    lastAnswers.row = row;
    lastAnswers.key = answersPrefix(session) + id(row);
  }
  return lastAnswers.key;
}
export function answersRange(session: SessionId): KeyRange {
  return prefixRange(answersPrefix(session));
}
/** The first sequence of the row after that of `sequence`. */
export function nextAnswersRow(sequence: number): number {
  return (Math.floor(sequence / sequencesPerRow) + 1) * sequencesPerRow;
}

/** The results of one request of a session that are too many for a shared row; those of any, as older versions kept them. */
export function resultKey(session: SessionId, sequence: number): string {
  return `result/${id(session)}/${id(sequence)}`;
}
export function resultRange(session: SessionId): KeyRange {
  return prefixRange(`result/${id(session)}/`);
}

/** Says that a session holds the write lease of an inode. */
export function leaseKey(session: SessionId, inode: InodeId): string {
  return `lease/${id(session)}/${id(inode)}`;
}
export function leaseRange(session: SessionId): KeyRange {
  return prefixRange(`lease/${id(session)}/`);
}

/** Says that another session waits for the write lease of an inode. */
export function recallKey(inode: InodeId): string {
  return `recall/${id(inode)}`;
}
export const recallRange = prefixRange("recall/");

/** Says that a session holds an inode beyond its last name. */
export function retainedKey(session: SessionId, inode: InodeId): string {
  return `retained/${id(session)}/${id(inode)}`;
}
/** Which versions of an inode are read. */
export function readingKey(inode: InodeId): string {
  return `reading/${id(inode)}`;
}
export function retainedRange(session: SessionId): KeyRange {
  return prefixRange(`retained/${id(session)}/`);
}
/** The inode in a `leaseKey`, a `recallKey`, a `compactKey`, a `retainedKey`, a `treeDirectoryKey` or a `policyRowKey`. */
export function inodeAtEnd(key: string): InodeId {
  return idAt(key, key.length - idLength) as InodeId;
}

export const mountKey: (mount: MountId) => string = idKeys((mount) => `mount/${id(mount)}`);

export function workerKey(worker: WorkerId): string {
  return `worker/${id(worker)}`;
}
/** Of the UTF-8 bytes: a text may have characters that no key has. */
export function workerUuidKey(uuid: string): string {
  return `uuid/${Buffer.from(uuid, "utf8").toString("latin1")}`;
}

export function lineageKey(lineage: LineageId): string {
  return `lineage/${id(lineage)}`;
}
/** The id in a `lineageKey`. */
export function lineageOfKey(key: string): LineageId {
  return idAt(key, key.length - idLength) as LineageId;
}
export function lineageRange(after: LineageId | undefined): KeyRange {
  const from = after === undefined ? "lineage/" : lineageKey((after + 1) as LineageId);
  return { from, to: prefixRange("lineage/").to };
}

export function ufsOpKey(mount: MountId, op: UfsOpId): string {
  return `ufsop/${id(mount)}/${id(op)}`;
}
export function ufsOpRange(mount: MountId, after?: UfsOpId): KeyRange {
  const prefix = `ufsop/${id(mount)}/`;
  const range = prefixRange(prefix);
  return after === undefined
    ? range
    : { from: ufsOpKey(mount, (after + 1) as UfsOpId), to: range.to };
}

export function treeOpKey(treeOp: TreeOpId): string {
  return `treeop/${id(treeOp)}`;
}
export function treeOpOfKey(key: string): TreeOpId {
  return idAt(key, key.length - idLength) as TreeOpId;
}
/** Operations on trees, the newest of which has the highest id. */
export const treeOpRange = prefixRange("treeop/");

/** Ids of all operations on trees that are remembered. */
export const treeOpIdsKey = "meta/treeOps";
/** Ids of all data policies. */
export const dataPolicyIdsKey = "meta/dataPolicies";
export function dataPolicyKey(policy: DataPolicyId): string {
  return `datapolicy/${id(policy)}`;
}

/** A directory that an operation on a tree has not finished. */
export function treeDirectoryKey(treeOp: TreeOpId, directory: InodeId): string {
  return `treedir/${id(treeOp)}/${id(directory)}`;
}
export function treeDirectoryRange(treeOp: TreeOpId): KeyRange {
  return prefixRange(`treedir/${id(treeOp)}/`);
}

const garbagePrefix = "garbage/";
const garbageKeyLength = garbagePrefix.length + 3 * idLength + 2;

/** Retired at a cluster time: a container, or (`writeId` 0) an inode with all that it has. */
export interface GarbageId {
  readonly retiredAtMs: number;
  readonly inode: InodeId;
  readonly writeId: WriteId;
}
export const wholeInode = 0 as WriteId;
export function garbageKey(garbage: GarbageId): string {
  return `${garbagePrefix}${id(garbage.retiredAtMs)}/${id(garbage.inode)}/${id(garbage.writeId)}`;
}
/** What a `garbageKey` says, or undefined for any other string. */
export function parseGarbageKey(key: string): GarbageId | undefined {
  if (key.length !== garbageKeyLength || !key.startsWith(garbagePrefix)) return undefined;
  const at = garbagePrefix.length;
  return {
    retiredAtMs: idAt(key, at),
    inode: idAt(key, at + idLength + 1) as InodeId,
    writeId: idAt(key, at + 2 * (idLength + 1)) as WriteId,
  };
}
/** Garbage that was retired at `retiredBeforeMs` (cluster time) or earlier. */
export function garbageRange(retiredBeforeMs: number): KeyRange {
  return { from: garbagePrefix, to: `${garbagePrefix}${id(retiredBeforeMs + 1)}` };
}
