/** Each kind of damage is planted into a state that has something of everything, and the checker has to name it. */
import assert from "node:assert/strict";
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
} from "../../../src/lib/ids.ts";
import { rootInodeId, rootMountId } from "../../../src/lib/ids.ts";
import { decode, encode, type Schema } from "../../../src/lib/schema.ts";
import type { Found } from "../../../src/master/fsck/finding.ts";
import { checkRows } from "../../../src/master/fsck/run-check.ts";
import * as keys from "../../../src/master/state/keys.ts";
import * as model from "../../../src/master/state/model.ts";
import { type Acl, accessAclName, encodeAcl } from "../../../src/rpc/acl.ts";
import type { CheckName } from "../../../src/rpc/fsck-items.ts";
import { noPolicy } from "../../../src/rpc/path-policy.ts";
import { noUsage } from "../../../src/master/state/usage.ts";
import { Machine } from "../state/machine-fixture.ts";

type Rows = Map<string, Uint8Array>;

/** A state with something of everything. */
interface Whole {
  readonly rows: Rows;
  readonly index: number;
  readonly file: InodeId;
  readonly writeId: WriteId;
  readonly linked: InodeId;
  readonly leased: InodeId;
  readonly held: InodeId;
  readonly removed: InodeId;
  readonly directory: InodeId;
  readonly below: InodeId;
  readonly covered: InodeId;
  readonly mount: MountId;
  readonly session: SessionId;
  readonly worker: WorkerId;
  readonly lineage: LineageId;
  readonly output: InodeId;
  readonly deletion: UfsOpId;
  readonly treeOp: TreeOpId;
}

const sharedList: Acl = [
  { tag: "userObj", permissions: 7 },
  { tag: "user", id: 9, permissions: 5 },
  { tag: "groupObj", permissions: 5 },
  { tag: "mask", permissions: 5 },
  { tag: "other", permissions: 5 },
];

function makeWhole(): Whole {
  const machine = Machine.make();
  const first = machine.worker("first");
  const second = machine.worker("second");
  const session = machine.openSession();
  const directory = machine.mkdir("/a").inode;
  const below = machine.mkdir("/a/b").inode;
  const of = { session, keepers: [first, second], writeType: "MUST_CACHE" } as const;
  const { inode: file, writeId } = machine.write("/a/file", 250, of);
  const linked = machine.create("/a/one").inode;
  machine.done({ kind: "link", inode: linked, parent: below, name: "two" });
  const { inode: leased } = machine.write("/leased", 120, of);
  machine.done({ kind: "lease", inode: leased }, session);
  const { inode: held } = machine.write("/held", 10, of);
  const unlink = { kind: "unlink", parent: rootInodeId } as const;
  machine.done({ ...unlink, name: "held", held: true }, session);
  const { inode: removed } = machine.write("/removed", 10, of);
  machine.done({ ...unlink, name: "removed", held: false }, session);
  machine.write("/stored", 10, { ...of, writeType: "CACHE_THROUGH" });
  machine.settle();
  machine.done({ ...unlink, name: "stored", held: false }, session);
  machine.write("/queued", 10, { ...of, writeType: "CACHE_THROUGH" });
  const covered = machine.mkdir("/mnt").inode;
  const mounted = machine.done({
    kind: "mount",
    parent: rootInodeId,
    name: "mnt",
    uri: "file:///other",
    readOnly: false,
    options: {},
  });
  const lineage = machine.done({
    kind: "recordLineage",
    inputs: [],
    outputs: [{ path: "/output", parent: rootInodeId, name: "output" }],
    job: { argv: ["true"], environment: {}, timeoutMs: 1000, captureStdout: false },
    uid: 1,
    gid: 1,
  }).id as LineageId;
  const attribute = (inode: InodeId, name: string, value: Uint8Array) => {
    machine.done({ kind: "setXattr", inode, name, value, how: "set" });
  };
  attribute(file, "user.comment", Buffer.from("text"));
  attribute(directory, accessAclName, encodeAcl(sharedList));
  const quota = { bytes: 10_000, inodes: undefined };
  const policy = { ...noPolicy, quota, keepers: 2 };
  machine.done({ kind: "setPathPolicy", inode: directory, policy });
  const change = { mode: undefined, uid: 7, gid: undefined };
  const treeOp = machine.done({ kind: "startTreeOp", inode: directory, change }).id as TreeOpId;
  machine.mkdir("/tree");
  machine.mkdir("/tree/below");
  machine.done({ kind: "deleteTree", parent: rootInodeId, name: "tree" });
  const deletion = machine.pending().find(({ tomb }) => tomb?.name === "stored")!.id;
  return {
    rows: new Map(machine.state.all()),
    index: machine.state.appliedIndex,
    ...{ file, writeId, linked, leased, held, removed, directory, below, covered, session },
    mount: mounted.id as MountId,
    worker: first,
    lineage,
    output: machine.at("/output").id,
    deletion,
    treeOp,
  };
}

function check({ rows, index }: Pick<Whole, "rows" | "index">, mostGarbage?: number): Found[] {
  const options = { index, buckets: 16, ...(mostGarbage !== undefined && { mostGarbage }) };
  return checkRows([...rows], options);
}

function patch<T>(rows: Rows, schema: Schema<T>, key: string, change: (value: T) => T): void {
  const value = rows.get(key);
  assert.ok(value !== undefined, "the row to be damaged is not there");
  rows.set(key, encode(schema, change(decode(schema, value, key))));
}

function patchInode(rows: Rows, id: InodeId, change: Partial<model.Inode>): void {
  patch(rows, model.inode, keys.inodeKey(id), (of) => ({ ...of, ...change }));
}

interface Damage {
  readonly what: string;
  readonly check: CheckName;
  /** The inode that the finding is about. */
  readonly inode?: (whole: Whole) => InodeId;
  readonly plant: (whole: Whole) => void;
}

const damages: readonly Damage[] = [
  {
    what: "an edge that its inode does not know",
    check: "names",
    inode: ({ file }) => file,
    plant: ({ rows, file, below }) => {
      const value = { child: file, kind: "file" } as const;
      rows.set(keys.edgeKey(below, "stray"), encode(model.edge, value));
      patchInode(rows, below, { childCount: 2 });
    },
  },
  {
    what: "an edge to an inode that is not there",
    check: "names",
    plant: ({ rows, below }) => {
      const value = { child: 999 as InodeId, kind: "file" } as const;
      rows.set(keys.edgeKey(below, "stray"), encode(model.edge, value));
      patchInode(rows, below, { childCount: 2 });
    },
  },
  {
    what: "a name that its directory does not have",
    check: "names",
    inode: ({ file }) => file,
    plant: ({ rows, directory }) => {
      rows.delete(keys.edgeKey(directory, "file"));
      patchInode(rows, directory, { childCount: 2 });
    },
  },
  {
    what: "one of several names that its directory does not have",
    check: "names",
    inode: ({ linked }) => linked,
    plant: ({ rows, below }) => {
      rows.delete(keys.edgeKey(below, "two"));
      patchInode(rows, below, { childCount: 0 });
    },
  },
  {
    what: "an edge that says another kind",
    check: "names",
    inode: ({ file }) => file,
    plant: ({ rows, directory, file }) => {
      const value = { child: file, kind: "symlink" } as const;
      rows.set(keys.edgeKey(directory, "file"), encode(model.edge, value));
    },
  },
  {
    what: "a file on another mount than its directory",
    check: "names",
    inode: ({ file }) => file,
    plant: ({ rows, file, mount }) => patchInode(rows, file, { mountId: mount }),
  },
  {
    what: "names in two places",
    check: "names",
    inode: ({ file }) => file,
    plant: ({ rows, file, directory }) => {
      rows.set(keys.parentKey(file), encode(model.links, [{ parent: directory, name: "file" }]));
    },
  },
  {
    what: "a directory without a name",
    check: "names",
    inode: ({ below }) => below,
    plant: ({ rows, below, directory }) => {
      patchInode(rows, below, { link: undefined });
      rows.delete(keys.edgeKey(directory, "b"));
      patchInode(rows, directory, { childCount: 2, nlink: 2 });
    },
  },
  {
    what: "names below a file",
    check: "names",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => {
      const value = { child: 999 as InodeId, kind: "file" } as const;
      rows.set(keys.edgeKey(file, "stray"), encode(model.edge, value));
    },
  },
  {
    what: "a wrong number of links",
    check: "links",
    inode: ({ linked }) => linked,
    plant: ({ rows, linked }) => patchInode(rows, linked, { nlink: 3 }),
  },
  {
    what: "a wrong number of subdirectories",
    check: "links",
    inode: ({ directory }) => directory,
    plant: ({ rows, directory }) => patchInode(rows, directory, { nlink: 4 }),
  },
  {
    what: "a wrong number of names in a directory",
    check: "links",
    inode: ({ directory }) => directory,
    plant: ({ rows, directory }) => patchInode(rows, directory, { childCount: 7 }),
  },
  {
    what: "directories that lie in each other",
    check: "tree",
    inode: ({ directory }) => directory,
    plant: ({ rows, directory, below }) => {
      rows.delete(keys.edgeKey(rootInodeId, "a"));
      const value = { child: directory, kind: "directory" } as const;
      rows.set(keys.edgeKey(below, "a"), encode(model.edge, value));
      patchInode(rows, directory, { link: { parent: below, name: "a" } });
      patch(rows, model.inode, keys.inodeKey(below), (of) => ({
        ...of,
        nlink: 3,
        childCount: of.childCount + 1,
      }));
      patch(rows, model.inode, keys.inodeKey(rootInodeId), (of) => ({
        ...of,
        nlink: of.nlink - 1,
        childCount: of.childCount - 1,
      }));
    },
  },
  {
    what: "a directory in what is none",
    check: "tree",
    inode: ({ below }) => below,
    plant: ({ rows, below, file }) => {
      patchInode(rows, below, { link: { parent: file, name: "b" } });
    },
  },
  {
    what: "extents that overlap",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => {
      patch(rows, model.storedExtent, keys.extentKey({ id: file }, 100), (of) => ({
        ...of,
        length: 100,
      }));
      const middle = rows.get(keys.extentKey({ id: file }, 200))!;
      rows.delete(keys.extentKey({ id: file }, 200));
      rows.set(keys.extentKey({ id: file }, 199), middle);
    },
  },
  {
    what: "an extent beyond the end of the file",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => patchInode(rows, file, { size: 240 }),
  },
  {
    what: "an extent of no bytes",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => {
      patch(rows, model.storedExtent, keys.extentKey({ id: file }, 200), (of) => ({
        ...of,
        length: 0,
      }));
    },
  },
  {
    what: "an extent that reaches into the next block",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => {
      patch(rows, model.storedExtent, keys.extentKey({ id: file }, 200), (of) => ({
        ...of,
        offset: 60,
      }));
    },
  },
  {
    what: "extents of an earlier generation that nothing takes away",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => {
      patchInode(rows, file, {
        cleared: { generation: 1, tailFrom: undefined, pending: 0 },
        extentCount: 0,
      });
    },
  },
  {
    what: "extents that count and are being taken away",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => {
      rows.set(keys.clearingKey(file, 0), encode(model.clearing, { from: 200 }));
      patchInode(rows, file, { cleared: { generation: 0, tailFrom: undefined, pending: 1 } });
    },
  },
  {
    what: "a missing extent",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => rows.delete(keys.extentKey({ id: file }, 100)),
  },
  {
    what: "a wrong number of extents",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => patchInode(rows, file, { extentCount: 9 }),
  },
  {
    what: "extents without their container",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file, writeId }) => rows.delete(keys.containerKey(file, writeId)),
  },
  {
    what: "a wrong number of references",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file, writeId }) => {
      const key = keys.containerKey(file, writeId);
      patch(rows, model.container, key, (of) => ({ ...of, references: 1 }));
    },
  },
  {
    what: "a container that is shorter than what extents name",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file, writeId }) => {
      const key = keys.containerKey(file, writeId);
      patch(rows, model.container, key, (of) => ({ ...of, size: 100 }));
    },
  },
  {
    what: "a write from the future",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file, writeId }) => {
      const later = (2 ** 40) as WriteId;
      const value = rows.get(keys.containerKey(file, writeId))!;
      rows.set(keys.containerKey(file, later), value);
    },
  },
  {
    what: "extents of a file that is a store's object",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => {
      const source = { writeId: 1 as WriteId, fingerprint: "", size: 250 };
      patchInode(rows, file, { form: "source", source });
    },
  },
  {
    what: "a store's object of another size",
    check: "content",
    inode: ({ linked }) => linked,
    plant: ({ rows, linked }) => {
      const source = { writeId: 1 as WriteId, fingerprint: "", size: 3 };
      patchInode(rows, linked, { form: "source", source });
    },
  },
  {
    what: "an extent that names another part of the store's object",
    check: "content",
    inode: ({ file }) => file,
    plant: ({ rows, file, writeId }) => {
      patchInode(rows, file, { source: { writeId, fingerprint: "", size: 150 } });
    },
  },
  {
    what: "a keeper that does not know its duty",
    check: "keepers",
    inode: ({ file }) => file,
    plant: ({ rows, file, writeId, worker }) => rows.delete(keys.keptKey(worker, file, writeId)),
  },
  {
    what: "a duty of no keeper",
    check: "keepers",
    inode: ({ linked }) => linked,
    plant: ({ rows, linked, worker }) => {
      rows.set(keys.keptKey(worker, linked, 7 as WriteId), model.presence);
    },
  },
  {
    what: "a keeper that was never registered",
    check: "keepers",
    inode: ({ file }) => file,
    plant: ({ rows, file, writeId, worker }) => {
      const key = keys.containerKey(file, writeId);
      const stranger = 77 as WorkerId;
      patch(rows, model.container, key, (of) => ({ ...of, keepers: [worker, stranger] }));
    },
  },
  {
    what: "a lease that its session does not have",
    check: "leases",
    inode: ({ leased }) => leased,
    plant: ({ rows, leased, session }) => rows.delete(keys.leaseKey(session, leased)),
  },
  {
    what: "a lease that its inode does not have",
    check: "leases",
    inode: ({ file }) => file,
    plant: ({ rows, file, session }) => rows.set(keys.leaseKey(session, file), model.presence),
  },
  {
    what: "leases of a session that is not there",
    check: "leases",
    plant: ({ rows, session }) => rows.delete(keys.sessionKey(session)),
  },
  {
    what: "a hold that its session does not have",
    check: "holds",
    inode: ({ linked }) => linked,
    plant: ({ rows, linked }) => patchInode(rows, linked, { holds: 1 }),
  },
  {
    what: "a hold that its inode does not count",
    check: "holds",
    inode: ({ file }) => file,
    plant: ({ rows, file, session }) => {
      rows.set(keys.retainedKey(session, file), model.presence);
    },
  },
  {
    what: "a container that leaks",
    check: "garbage",
    inode: ({ file }) => file,
    plant: ({ rows, file, writeId }) => {
      const value = { references: 0, size: 1, keepers: [] };
      const other = (writeId + 1) as WriteId;
      rows.set(keys.containerKey(file, other), encode(model.container, value));
    },
  },
  {
    what: "an inode that leaks",
    check: "garbage",
    inode: ({ removed }) => removed,
    plant: ({ rows, removed }) => {
      for (const key of [...rows.keys()]) {
        const garbage = keys.parseGarbageKey(key);
        if (garbage?.inode === removed && garbage.writeId === keys.wholeInode) rows.delete(key);
      }
    },
  },
  {
    what: "a mount that counts its operations wrongly",
    check: "effects",
    plant: ({ rows }) => {
      const key = keys.mountKey(rootMountId);
      patch(rows, model.mount, key, (of) => ({ ...of, pendingOps: of.pendingOps + 1 }));
    },
  },
  {
    what: "a name that an operation does not hide",
    check: "effects",
    inode: () => rootInodeId,
    plant: ({ rows }) => rows.delete(keys.tombKey(rootInodeId, "stored")),
  },
  {
    what: "a name that stays hidden",
    check: "effects",
    inode: ({ below }) => below,
    plant: ({ rows, below, deletion }) => {
      rows.set(keys.tombKey(below, "gone"), encode(model.storedId, deletion));
    },
  },
  {
    what: "an inode that waits for what is not queued",
    check: "effects",
    inode: ({ linked }) => linked,
    plant: ({ rows, linked }) => patchInode(rows, linked, { persistOp: 500 as UfsOpId }),
  },
  {
    what: "a mount that the list of mounts does not have",
    check: "mounts",
    plant: ({ rows }) => rows.set(keys.mountIdsKey, encode(model.mountIds, [rootMountId])),
  },
  {
    what: "a directory that believes to be a mount's root",
    check: "mounts",
    inode: ({ below }) => below,
    plant: ({ rows, below }) => patchInode(rows, below, { mountPoint: true }),
  },
  {
    what: "a mount's root that does not know it",
    check: "mounts",
    plant: ({ rows, mount }) => {
      const { root } = decode(model.mount, rows.get(keys.mountKey(mount))!, "mount");
      patchInode(rows, root, { mountPoint: false });
    },
  },
  {
    what: "an output of a lineage that is not recorded",
    check: "lineages",
    inode: ({ output }) => output,
    plant: ({ rows, lineage }) => rows.delete(keys.lineageKey(lineage)),
  },
  {
    what: "a wrong number of attributes",
    check: "attributes",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => patchInode(rows, file, { xattrCount: 2 }),
  },
  {
    what: "a wrong number of bytes of attributes",
    check: "attributes",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => {
      rows.set(keys.xattrKey(file, "user.comment"), encode(model.xattrValue, Buffer.from("more")));
      patchInode(rows, file, { xattrBytes: 1 });
    },
  },
  {
    what: "an access control list that its inode does not know",
    check: "attributes",
    inode: ({ directory }) => directory,
    plant: ({ rows, directory }) => patchInode(rows, directory, { acl: undefined }),
  },
  {
    what: "an access control list that differs from the mode",
    check: "attributes",
    inode: ({ directory }) => directory,
    plant: ({ rows, directory }) => patchInode(rows, directory, { mode: 0o700 }),
  },
  {
    what: "an access control list that is none",
    check: "attributes",
    inode: ({ directory }) => directory,
    plant: ({ rows, directory }) => {
      const bad = encode(model.xattrValue, Buffer.from("bad"));
      rows.set(keys.xattrKey(directory, accessAclName), bad);
    },
  },
  {
    what: "a total that is too large",
    check: "usage",
    inode: ({ directory }) => directory,
    plant: ({ rows, directory }) => {
      const usage = { ...noUsage, bytes: 999, files: 2, directories: 1 };
      patchInode(rows, directory, { usage });
    },
  },
  {
    what: "a total that is missing",
    check: "usage",
    inode: () => rootInodeId,
    plant: ({ rows }) => patchInode(rows, rootInodeId, { usage: undefined }),
  },
  {
    what: "a total of what is no directory",
    check: "usage",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => patchInode(rows, file, { usage: { ...noUsage, files: 1 } }),
  },
  {
    what: "a policy that its inode does not know",
    check: "policies",
    inode: ({ directory }) => directory,
    plant: ({ rows, directory }) => patchInode(rows, directory, { policies: undefined }),
  },
  {
    what: "policies that are counted wrongly",
    check: "policies",
    plant: ({ rows }) => patch(rows, model.tree, keys.treeKey, (of) => ({ ...of, quotas: 2 })),
  },
  {
    what: "an operation on a tree that counts its directories wrongly",
    check: "operations",
    plant: ({ rows, treeOp }) => {
      const key = keys.treeOpKey(treeOp);
      patch(rows, model.treeOp, key, (of) => ({ ...of, openDirectories: 3 }));
    },
  },
  {
    what: "directories of an operation on a tree that is gone",
    check: "operations",
    plant: ({ rows, treeOp }) => rows.delete(keys.treeOpKey(treeOp)),
  },
  {
    what: "an operation on a tree that is over and has directories left",
    check: "operations",
    plant: ({ rows, treeOp }) => {
      const done = (of: model.TreeOp): model.TreeOp => ({ ...of, state: "done" });
      patch(rows, model.treeOp, keys.treeOpKey(treeOp), done);
    },
  },
  {
    what: "an operation on a tree that counts files on their way which are not",
    check: "operations",
    plant: ({ rows, treeOp }) => {
      const key = keys.treeOpKey(treeOp);
      patch(rows, model.treeOp, key, (of) => ({ ...of, pendingFiles: 1 }));
    },
  },
  {
    what: "an operation on a tree that the list of them does not have",
    check: "operations",
    plant: ({ rows }) => rows.set(keys.treeOpIdsKey, encode(model.treeOpIds, [])),
  },
  {
    what: "a data policy that is listed and not there",
    check: "operations",
    plant: ({ rows }) => {
      rows.set(keys.dataPolicyIdsKey, encode(model.dataPolicyIds, [7 as DataPolicyId]));
    },
  },
  {
    what: "a wrong number of inodes",
    check: "counters",
    plant: ({ rows }) => rows.set(keys.inodeCountKey, encode(model.count, 3)),
  },
  {
    what: "an id that would be given out again",
    check: "counters",
    plant: ({ rows }) => rows.set(keys.counterKey("Inode"), encode(model.storedId, 5)),
  },
  {
    what: "a worker without a row",
    check: "counters",
    plant: ({ rows }) => rows.set(keys.counterKey("Worker"), encode(model.storedId, 9)),
  },
  {
    what: "a worker whose name leads to another one",
    check: "counters",
    plant: ({ rows }) => rows.set(keys.workerUuidKey("first"), encode(model.storedId, 2)),
  },
  {
    what: "rows of an inode that is not there",
    check: "row",
    inode: ({ file }) => file,
    plant: ({ rows, file }) => rows.delete(keys.inodeKey(file)),
  },
  {
    what: "an inode under another's key",
    check: "row",
    inode: ({ file }) => file,
    plant: ({ rows, file, linked }) => {
      rows.set(keys.inodeKey(file), rows.get(keys.inodeKey(linked))!);
    },
  },
  {
    what: "a row that cannot be read",
    check: "row",
    plant: ({ rows, file }) => rows.set(keys.inodeKey(file), Buffer.from("rot")),
  },
  {
    what: "a row of an unknown kind",
    check: "row",
    plant: ({ rows }) => rows.set("odd/key", model.presence),
  },
  {
    what: "bytes that no live worker has",
    check: "lost",
    inode: ({ file }) => file,
    plant: ({ rows }) => {
      for (const id of [1, 2] as WorkerId[]) {
        const lost = (of: model.Worker): model.Worker => ({ ...of, state: "lost" });
        patch(rows, model.worker, keys.workerKey(id), lost);
      }
    },
  },
];

describe("The checker", () => {
  it("finds nothing in a whole state, and has seen all of it", () => {
    const whole = makeWhole();
    assert.deepEqual(check(whole), []);
    const seen = new Set([...whole.rows.keys()].map((key) => key.slice(0, key.indexOf("/") + 1)));
    for (const word of ["lease/", "retained/", "garbage/", "tomb/", "ufsop/", "parent/", "kept/"]) {
      assert.ok(seen.has(word), `the state has no ${word} row`);
    }
  });

  for (const damage of damages) {
    it(`finds ${damage.what}`, () => {
      const whole = makeWhole();
      damage.plant(whole);
      const found = check(whole);
      const wanted = damage.inode?.(whole);
      const named = found.some(
        (each) => each.check === damage.check && (wanted === undefined || each.inode === wanted),
      );
      assert.ok(named, `wanted ${damage.check} of ${String(wanted)}: ${JSON.stringify(found)}`);
    });
  }

  it("finds any row that is gone, but for those that nothing else speaks of", () => {
    const whole = makeWhole();
    /** Answers, times and members stand for themselves; garbage is often of what is in use. */
    const alone = /^(answers|result)\/|^meta\/(clock|ttlClock|configuration|level)$/;
    for (const key of whole.rows.keys()) {
      if (alone.test(key) || keys.parseGarbageKey(key) !== undefined) continue;
      const rows = new Map(whole.rows);
      rows.delete(key);
      assert.notDeepEqual(check({ ...whole, rows }), [], `${JSON.stringify(key)} is not missed`);
    }
  });

  it("looks for garbage in parts, when it is more than it may hold", () => {
    const whole = makeWhole();
    const garbage = [...whole.rows.keys()].filter((key) => keys.parseGarbageKey(key)).length;
    assert.ok(garbage >= 2);
    assert.deepEqual(check(whole, 1), []);
    const { removed } = whole;
    for (const key of [...whole.rows.keys()]) {
      if (keys.parseGarbageKey(key)?.inode === removed) whole.rows.delete(key);
    }
    const found = check(whole, 1).filter((each) => each.check === "garbage");
    assert.deepEqual(
      found.map(({ inode }) => inode),
      [removed],
    );
  });
});
