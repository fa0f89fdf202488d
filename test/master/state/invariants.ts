/** What always holds in the state, whatever was applied: checked over all keys. */
import assert from "node:assert/strict";
import { type InodeId, rootInodeId, type WriteId } from "../../../src/lib/ids.ts";
import { decode } from "../../../src/lib/schema.ts";
import { decodeExtent } from "../../../src/master/state/extent-rows.ts";
import {
  allExtents,
  clearingKey,
  clearingOfKey,
  arrivalKey,
  compactKey,
  containerKey,
  containerRange,
  treeKey,
  edgeKey,
  extentRange,
  garbageKey,
  inodeAtEnd,
  keptKey,
  leaseKey,
  nameOfEdge,
  nameOfXattr,
  parentKey,
  readingKey,
  recallKey,
  retainedKey,
  tombKey,
  syncIntervalsKey,
  ufsOpRange,
  wholeInode,
  writeIdOfContainer,
  xattrRange,
} from "../../../src/master/state/keys.ts";
import { checkRows } from "../../../src/master/fsck/run-check.ts";
import * as model from "../../../src/master/state/model.ts";
import {
  aclOf,
  defaultAclOf,
  firstLinkOf,
  inodeCount,
  inodeOf,
  linksOf,
  mountsOf,
} from "../../../src/master/state/queries.ts";
import {
  accessAclName,
  aclFault,
  aclOfMode,
  defaultAclName,
  isEquivalentToMode,
  modeOfAcl,
} from "../../../src/rpc/acl.ts";
import { maxXattrBytes, maxXattrs, xattrBytesOf } from "../../../src/rpc/xattr.ts";
import { accumulate, noUsage, type Sum, weightOf } from "../../../src/master/state/usage.ts";
import { bitsOf, countsOf, type PolicyCounts } from "../../../src/master/state/path-policies.ts";
import { pathPolicy } from "../../../src/rpc/path-policy.ts";
import { ownPolicy } from "../../../src/master/state/path-policies.ts";
import type { InspectableState } from "./inspectable-state.ts";

export function checkInvariants(state: InspectableState): void {
  const inodes = state.entries("inode/").map(([key, value]) => decode(model.inode, value, key));
  assert.equal(inodeCount(state), inodes.length, "the count of inodes is wrong");
  checkNames(state, inodes);
  checkUsage(state, inodes);
  checkPolicies(state, inodes);
  for (const inode of inodes) checkInode(state, inode);
  checkXattrs(state, inodes);
  checkOwners(state, inodes);
  checkArrivals(state);
  checkSyncing(state, inodes);
  const ops = new Map<number, model.UfsOp>();
  for (const mount of mountsOf(state)) {
    const queued = state.entries(ufsOpRange(mount.id).from);
    assert.equal(queued.length, mount.pendingOps, "pendingOps is wrong");
    const root = inodeOf(state, mount.root);
    assert.ok(root?.mountPoint === true && root.mountId === mount.id, "a mount without its root");
    if (mount.sharedMode !== undefined) {
      assert.equal(root.mode & 0o077, 0, "others may enter a mount that is not shared");
    }
    for (const [key, value] of queued) {
      const op = decode(model.ufsOp, value, key);
      ops.set(op.id, op);
    }
  }
  checkEffects(state, inodes, ops);
  checkAsFsckDoes(state);
}

/** What stores are to do, and what waits for it. */
function checkEffects(
  state: InspectableState,
  inodes: readonly model.Inode[],
  ops: ReadonlyMap<number, model.UfsOp>,
): void {
  for (const [key, value] of state.entries("tomb/")) {
    const tomb = ops.get(decode(model.storedId, value, key))?.tomb;
    assert.ok(tomb && tombKey(tomb.directory, tomb.name) === key, "a tomb of no operation");
  }
  for (const inode of inodes) {
    if (inode.aside === true) assert.equal(inode.nlink, 0, "a file with a name lies aside");
    if (inode.removeOp !== undefined) {
      assert.equal(inode.nlink, 0, "the object of a file with a name is removed");
      const action = ops.get(inode.removeOp)?.action;
      const removed = action?.kind === "rename" ? action.replaces : undefined;
      const taken = action?.kind === "delete" ? action.inode : removed;
      assert.equal(taken, inode.id, "nothing removes the object of a file without a name");
    }
    const latest = inode.persistOp === undefined ? undefined : ops.get(inode.persistOp);
    if (inode.persistOp !== undefined && inode.nlink > 0) {
      assert.ok(latest, "nothing persists what is to be persisted");
    }
    if (latest?.failed !== undefined && inode.nlink > 0 && inode.kind === "file") {
      assert.notEqual(inode.persistence, "persisted", "what was given up counts as persisted");
    }
  }
}

/** What the checker for people would say, of the same state. */
function checkAsFsckDoes(state: InspectableState): void {
  const found = checkRows(state.all(), { index: state.appliedIndex + 1, buckets: 16 });
  const damage = found.filter(({ check }) => check !== "lost");
  assert.deepEqual(damage, [], "the checker has findings");
}

/** Names that side effects bring into stores are told as long as these are pending, and no longer. */
function checkArrivals(state: InspectableState): void {
  const ops = mountsOf(state)
    .flatMap((mount) => state.entries(ufsOpRange(mount.id).from))
    .map(([key, value]) => decode(model.ufsOp, value, key));
  const last = new Map<string, number>();
  for (const { id, arrival } of ops) {
    if (arrival !== undefined) last.set(arrivalKey(arrival.directory, arrival.name), id);
  }
  const rows = state.entries("arrival/");
  for (const [key, value] of rows) {
    assert.equal(decode(model.storedId, value, key), last.get(key), "an arrival of nobody");
  }
  assert.equal(rows.length, last.size, "a pending side effect has no arrival");
}

function checkSyncing(state: InspectableState, inodes: readonly model.Inode[]): void {
  for (const of of inodes) {
    if (of.kind !== "directory") assert.equal(of.syncedAtMs, undefined);
    const interval = ownPolicy(state, of)?.syncIntervalMs;
    if (interval !== undefined) assert.ok(state.get(syncIntervalsKey), "nobody would look");
  }
}

function checkNames(state: InspectableState, inodes: readonly model.Inode[]): void {
  const children = new Map<InodeId, number>();
  const directories = new Map<InodeId, number>();
  let edges = 0;
  for (const [key, value] of state.entries("edge/")) {
    const { child, kind } = decode(model.edge, value, key);
    const name = nameOfEdge(key);
    const link = linksOf(state, child).find(
      (each) => edgeKey(each.parent, each.name) === key && each.name === name,
    );
    assert.ok(link, `inode ${String(child)} does not know its name "${name}"`);
    assert.equal(inodeOf(state, child)?.kind, kind);
    children.set(link.parent, (children.get(link.parent) ?? 0) + 1);
    if (kind === "directory") {
      directories.set(link.parent, (directories.get(link.parent) ?? 0) + 1);
    }
    edges++;
  }
  let links = 0;
  for (const inode of inodes) {
    const own = linksOf(state, inode.id).length;
    links += own;
    if (inode.link !== undefined) {
      assert.equal(state.get(parentKey(inode.id)), undefined, "links are in two places");
    }
    if (inode.kind === "directory") {
      assert.equal(inode.childCount, children.get(inode.id) ?? 0, "childCount is wrong");
      const isGone = own === 0 && inode.id !== rootInodeId && inode.id !== model.trashInodeId;
      const isHidden = mountsOf(state).some(({ covered }) => covered === inode.id);
      const wanted = isGone && !isHidden ? 0 : 2 + (directories.get(inode.id) ?? 0);
      assert.equal(inode.nlink, wanted, "nlink is wrong");
    } else {
      assert.equal(inode.nlink, own, "nlink is wrong");
    }
  }
  assert.equal(edges, links, "names and links differ");
  const known = new Set(inodes.map((inode) => parentKey(inode.id)));
  for (const [key] of state.entries("parent/")) assert.ok(known.has(key), "links of nobody");
}

/** Totals of directories against a count of all inodes. */
function checkUsage(state: InspectableState, inodes: readonly model.Inode[]): void {
  const tree = state.read(model.tree, treeKey);
  const counted = ({ id }: model.Inode) =>
    tree !== undefined && (id < tree.countedBelow || id >= tree.countedFrom);
  const totals = new Map<InodeId, Sum>();
  for (const inode of inodes.filter(counted)) {
    let at = firstLinkOf(state, inode.id)?.parent;
    while (at !== undefined) {
      const total = totals.get(at) ?? { ...noUsage };
      totals.set(at, total);
      accumulate(total, weightOf(inode), 1);
      at = firstLinkOf(state, at)?.parent;
    }
  }
  for (const { id, usage } of inodes) {
    assert.deepEqual(usage, totals.get(id), `the usage of inode ${String(id)} is wrong`);
  }
}

/** Policies belong to inodes that know of them, and are counted. */
function checkPolicies(state: InspectableState, inodes: readonly model.Inode[]): void {
  const tree = state.read(model.tree, treeKey);
  const counts = { ...countsOf(undefined) };
  for (const [key, value] of state.entries("policy/")) {
    const policy = decode(pathPolicy, value, key);
    const of = inodeOf(state, inodeAtEnd(key));
    assert.ok(of, "a policy of nobody");
    assert.equal(of.policies, bitsOf(policy), "an inode does not know its policy");
    for (const name of Object.keys(counts) as (keyof PolicyCounts)[]) {
      counts[name] += countsOf(policy)[name];
    }
  }
  const known = inodes.filter(({ policies }) => policies !== undefined).length;
  assert.equal(known, state.entries("policy/").length, "a policy is missing");
  const said = Object.keys(counts).map((name) => [name, tree?.[name as keyof PolicyCounts] ?? 0]);
  assert.deepEqual(Object.fromEntries(said), counts, "policies are counted wrongly");
}

function checkInode(state: InspectableState, inode: model.Inode): void {
  const present = state.entries(extentRange(inode).from.slice(0, -8)).map(decodeExtent);
  assert.equal(inode.extentCount, present.length, "extentCount is wrong");
  const tailFrom = inode.cleared?.tailFrom ?? Number.MAX_SAFE_INTEGER;
  const extents = present.filter(({ fileOffset }) => fileOffset < tailFrom);
  if (inode.form === "source") {
    assert.equal(present.length, 0);
    assert.equal(inode.source?.size, inode.size);
  }
  const references = new Map<number, number>();
  for (const range of allExtents(inode.id)) {
    for (const { writeId } of state.entries(range.from).map(decodeExtent)) {
      references.set(writeId, (references.get(writeId) ?? 0) + 1);
    }
  }
  checkClearing(state, inode);
  checkCompaction(state, inode);
  const shown = inode.form === "extents" ? inode.source?.shown : undefined;
  if (shown !== undefined) {
    assert.ok(shown > 0 && shown <= inode.size && shown <= inode.source!.size);
    assert.ok(!references.has(inode.source!.writeId), "the source shows and is named");
  }
  let end = 0;
  for (const extent of extents) {
    assert.ok(extent.fileOffset >= end, "extents overlap");
    end = extent.fileOffset + extent.length;
    if (extent.writeId === inode.source?.writeId) {
      const place = extent.blockIndex * 100 + extent.offset;
      assert.equal(place, extent.fileOffset, "a part of the source moved");
      assert.ok(end <= inode.source.size, "a part of the source is beyond its end");
    } else {
      const key = containerKey(inode.id, extent.writeId);
      assert.ok(state.get(key), `container ${String(extent.writeId)} has no record`);
    }
  }
  assert.ok(end <= inode.size, "extents end beyond the file");
  for (const [key, value] of state.entries(containerRange(inode.id).from)) {
    const container = decode(model.container, value, key);
    const writeId = writeIdOfContainer(key);
    assert.equal(container.references, references.get(writeId) ?? 0, "references are wrong");
    for (const keeper of container.keepers) {
      assert.ok(state.get(keptKey(keeper, inode.id, writeId)), "a keeper does not know");
    }
    if (container.references === 0 && inode.lease?.writeId !== writeId) {
      assert.ok(hasGarbage(state, inode.id, writeId), "a container leaks");
    }
  }
  if (inode.nlink === 0 && inode.holds === 0 && inode.lease === undefined) {
    assert.ok(hasGarbage(state, inode.id, wholeInode), "an inode leaks");
  }
  if (inode.lease !== undefined) assert.ok(state.get(leaseKey(inode.lease.session, inode.id)));
  const row = state.get(readingKey(inode.id));
  const readers = row === undefined ? [] : decode(model.readings, row, "readings");
  assert.ok(row === undefined || readers.length > 0, "a row of no readings");
  for (const { session, version } of readers) {
    assert.ok(state.get(retainedKey(session, inode.id)), "a version is held, and not the inode");
    assert.ok(version <= inode.version);
  }
  const isRecalled = inode.lease?.recalledAtMs !== undefined;
  assert.equal(state.get(recallKey(inode.id)) !== undefined, isRecalled, "a recall of no lease");
}

/** What is to be taken away in steps is known, by the inode and for the leader, and there is nothing else of the kind. */
function checkClearing(state: InspectableState, { id, cleared }: model.Inode): void {
  const { generation = 0, pending = 0, tailFrom } = cleared ?? {};
  const waiting = new Map<number, number>();
  for (const [key, value] of state.entries(clearingKey(id, 0).slice(0, -8))) {
    const { from } = decode(model.clearing, value, key);
    waiting.set(clearingOfKey(key).generation, from);
    assert.ok(clearingOfKey(key).generation <= generation, "a generation that never was");
  }
  assert.equal(waiting.size, pending, "pending is wrong");
  if (waiting.has(generation)) assert.notEqual(tailFrom, undefined, "what counts is taken away");
  for (let each = 0; each <= generation; each++) {
    const of = { id, cleared: { generation: each } };
    const begin = each === generation ? (tailFrom ?? Number.MAX_SAFE_INTEGER) : 0;
    const gone = state.entries(extentRange(of).from.slice(0, -8)).map(decodeExtent);
    for (const { fileOffset } of gone.filter((extent) => extent.fileOffset >= begin)) {
      assert.ok(fileOffset >= (waiting.get(each) ?? Infinity), "an extent leaks");
    }
    if (each === generation && tailFrom !== undefined) {
      assert.ok(waiting.get(each)! >= tailFrom, "what counts is taken away");
    }
  }
}

/** Who is to be compacted is found by the leader, and what is being put together is still there. */
function checkCompaction(state: InspectableState, of: model.Inode): void {
  const { isWanted = false, running } = of.compaction ?? {};
  assert.equal(state.get(compactKey(of.id)) !== undefined, isWanted, "a row of no compaction");
  if (running === undefined) return;
  assert.ok(isWanted && of.form === "extents", "nothing is to be put together");
  const end = Math.min(of.size, of.cleared?.tailFrom ?? of.size);
  assert.ok(running.from < running.to && running.to <= end, "what is put together is gone");
}

function hasGarbage(state: InspectableState, inode: InodeId, writeId: WriteId): boolean {
  const end = garbageKey({ retiredAtMs: 0, inode, writeId }).slice("garbage/".length + 8);
  return state.entries("garbage/").some(([key]) => key.endsWith(end));
}

/** What inodes say of their attributes is what there is, and lists agree with modes. */
function checkXattrs(state: InspectableState, inodes: readonly model.Inode[]): void {
  let rows = 0;
  for (const inode of inodes) {
    const own = state.entries(xattrRange(inode.id).from);
    rows += own.length;
    const bytes = own.reduce((sum, [key, value]) => {
      return sum + xattrBytesOf(nameOfXattr(key), decode(model.xattrValue, value, key));
    }, 0);
    assert.deepEqual(
      [inode.xattrCount ?? 0, inode.xattrBytes ?? 0],
      [own.length, bytes],
      "the counts of extended attributes are wrong",
    );
    assert.ok(own.length <= maxXattrs && bytes <= maxXattrBytes, "too many extended attributes");
    const names = own.map(([key]) => nameOfXattr(key));
    const bits =
      (names.includes(accessAclName) ? model.accessAclBit : 0) |
      (names.includes(defaultAclName) ? model.defaultAclBit : 0);
    assert.equal(inode.acl ?? 0, bits, "the bits of the lists are wrong");
    const acl = aclOf(state, inode);
    if (acl !== undefined) {
      assert.equal(modeOfAcl(acl, inode.mode), inode.mode, "mode and list differ");
      assert.ok(!isEquivalentToMode(acl), "a list says no more than the mode");
    }
    assert.ok(bits !== 0 || inode.acl === undefined, "an inode without lists differs from others");
    assert.equal(aclFault(defaultAclOf(state, inode) ?? aclOfMode(0)), undefined);
  }
  assert.equal(state.entries("xattr/").length, rows, "extended attributes of nobody");
}

/** Keys that belong to inodes lead to inodes that know of them. */
function checkOwners(state: InspectableState, inodes: readonly model.Inode[]): void {
  const byId = new Map(inodes.map((inode) => [inode.id, inode]));
  for (const [key] of state.entries("lease/")) {
    const lease = byId.get(inodeAtEnd(key))?.lease;
    assert.ok(lease && leaseKey(lease.session, inodeAtEnd(key)) === key, "a lease of nobody");
  }
  const holds = new Map<InodeId, number>();
  for (const [key] of state.entries("retained/")) {
    const id = inodeAtEnd(key);
    holds.set(id, (holds.get(id) ?? 0) + 1);
    assert.ok(byId.has(id) && key.length === retainedKey(1 as never, id).length);
  }
  for (const inode of inodes)
    assert.equal(inode.holds, holds.get(inode.id) ?? 0, "holds are wrong");
  for (const prefix of [
    "extent/",
    "extents/",
    "clearing/",
    "compact/",
    "container/",
    "recall/",
    "reading/",
  ]) {
    for (const [key] of state.entries(prefix)) {
      const id = Buffer.from(key, "latin1").readBigUInt64BE(prefix.length);
      assert.ok(byId.has(Number(id) as InodeId), `"${prefix}" of nobody`);
    }
  }
  const kept = state.entries("kept/").length;
  const keepers = state
    .entries("container/")
    .reduce((sum, [key, value]) => sum + decode(model.container, value, key).keepers.length, 0);
  assert.equal(kept, keepers, "kept keys and keepers differ");
}
