/** What calls answer to whom: the masters' handlers on a real state machine, called as users. */
import assert from "node:assert/strict";
import { type ErrorCode, hasCode } from "../../../src/lib/errors.ts";
import { type InodeId, rootInodeId } from "../../../src/lib/ids.ts";
import type { MasterParts } from "../../../src/master/services/parts.ts";
import { serveBackup } from "../../../src/master/services/serve-backup.ts";
import { serveCluster } from "../../../src/master/services/serve-cluster.ts";
import { serveLineage } from "../../../src/master/services/serve-lineage.ts";
import { serveNamespace } from "../../../src/master/services/serve-namespace.ts";
import { WorkerProofs } from "../../../src/master/services/worker-proofs.ts";
import { permission } from "../../../src/rpc/access.ts";
import { accessAclName, type Acl, encodeAcl } from "../../../src/rpc/acl.ts";
import { masterApi } from "../../../src/rpc/master-api.ts";
import type { Method } from "../../../src/rpc/method.ts";
import type { Caller } from "../../../src/rpc/namespace.ts";
import type { RpcServer } from "../../../src/rpc/server.ts";
import { Machine } from "../state/machine-fixture.ts";

const ann: Caller = { uid: 1, gid: 10, groups: [50] };
const bob: Caller = { uid: 2, gid: 20, groups: [50] };
const eve: Caller = { uid: 3, gid: 30, groups: [] };
const stale = { consistency: "stale" } as const;

type Handler = (request: unknown, call: unknown) => unknown;

/** The handlers of a leader on `machine`; what goes to workers is answered with nothing. */
class Served {
  readonly machine = Machine.make();
  readonly #handlers = new Map<string, Handler>();
  readonly #call = { signal: new AbortController().signal };

  constructor() {
    const { state } = this.machine;
    const layoutOf = (inode: InodeId) => Promise.resolve({ status: { inode } });
    const parts = {
      store: state,
      config: { master: {} },
      feed: { lastTold: 0 },
      proofs: new WorkerProofs(undefined),
      leadership: { reign: {}, status: { role: "leader" }, whenReigning: () => Promise.resolve() },
      raft: { readIndex: () => Promise.resolve(0) },
      machine: { appliedIndex: 0, waitApplied: () => Promise.resolve() },
      locations: { containersOf: () => [] },
      leader: () =>
        Promise.resolve({
          layouts: { layoutOf, isLost: () => false },
          recovery: {
            recover: () => Promise.resolve({ jobs: 0 }),
            run: () => Promise.resolve(),
          },
        }),
    } as unknown as MasterParts;
    const keep = ({ name }: { name: string }, handler: Handler) =>
      this.#handlers.set(name, handler);
    const server = { handle: keep, handleStream: keep } as unknown as RpcServer;
    for (const serve of [serveNamespace, serveLineage, serveCluster, serveBackup]) {
      serve(server, parts);
    }
  }

  async call<Q, S>({ name }: Method<Q, S>, request: Q): Promise<S> {
    return (await this.#handlers.get(name)!(request, this.#call)) as S;
  }

  async denied<Q, S>(
    method: Method<Q, S>,
    request: Q,
    code: ErrorCode = "PermissionDenied",
  ): Promise<void> {
    const called = async () => this.call(method, request);
    await assert.rejects(called, (thrown) => hasCode(thrown, code), `${method.name} answered`);
  }
}

describe("a read, by a user,", () => {
  let served: Served;
  let machine: Machine;

  beforeEach(() => {
    served = new Served();
    machine = served.machine;
  });

  const dir = (path: string, mode: number) => machine.mkdir(path, { mode, uid: 1, gid: 10 }).inode;
  const file = (path: string, mode: number) =>
    machine.create(path, { mode, uid: 1, gid: 10 }).inode;

  it("of a name needs search of its directory, whether the name is there or not", async () => {
    const closed = dir("/closed", 0o766);
    const open = dir("/open", 0o711);
    const { inode } = machine.create("/open/f", { mode: 0 });
    machine.create("/closed/f");
    for (const name of ["f", "missing", ".", ".."]) {
      await served.denied(masterApi.lookup, { parent: closed, name, ...stale, caller: bob });
    }
    const found = { parent: open, name: "f", ...stale, caller: bob };
    assert.equal((await served.call(masterApi.lookup, found)).status.inode, inode);
    await served.denied(masterApi.lookup, { ...found, name: "missing" }, "NotFound");
    await served.call(masterApi.lookup, { parent: closed, name: "f", ...stale });
    await served.call(masterApi.lookup, { parent: closed, name: "f", ...stale, caller: ann });
  });

  it("of a path needs search of each directory of it, but not of what it leads to", async () => {
    dir("/a", 0o755);
    dir("/a/b", 0o700);
    dir("/a/b/c", 0o755);
    const resolve = (path: string, caller?: Caller) => ({ path, ...stale, caller });
    await served.call(masterApi.resolve, resolve("/a/b", bob));
    await served.denied(masterApi.resolve, resolve("/a/b/c", bob));
    await served.denied(masterApi.resolve, resolve("/a/b/missing/x", bob));
    await served.call(masterApi.resolve, resolve("/a/b/c", ann));
    await served.call(masterApi.resolve, resolve("/a/b/c"));
    machine.done({ ...chmod(rootInodeId, 0o700) });
    await served.call(masterApi.resolve, resolve("/", bob));
    await served.denied(masterApi.resolve, resolve("/a", bob));
  });

  it("of the names in a directory needs read and search of it", async () => {
    const list = (directory: InodeId, caller?: Caller) => ({
      directory,
      after: undefined,
      limit: 10,
      ...stale,
      caller,
    });
    for (const [mode, allowed] of [
      [0o705, true],
      [0o704, false],
      [0o701, false],
    ] as const) {
      const directory = dir(`/${mode.toString(8)}`, mode);
      if (allowed) await served.call(masterApi.list, list(directory, bob));
      else await served.denied(masterApi.list, list(directory, bob));
      await served.call(masterApi.list, list(directory, ann));
      await served.call(masterApi.list, list(directory));
    }
  });

  it("of content needs the right to read, which an owner who has opened the file keeps", async () => {
    const inode = file("/f", 0o040);
    const layout = (
      caller: Caller | undefined,
      of: { length?: number; opened?: boolean } = {},
    ) => ({
      inode,
      offset: 0,
      length: 10,
      ...stale,
      caller,
      ...of,
    });
    await served.denied(masterApi.layout, layout(bob));
    await served.denied(masterApi.layout, layout(bob, { opened: true }));
    await served.denied(masterApi.layout, layout(ann));
    await served.call(masterApi.layout, layout(ann, { opened: true }));
    await served.call(masterApi.layout, layout({ ...eve, groups: [10] }));
    await served.call(masterApi.layout, layout(undefined));
    // How large blocks are is no secret.
    await served.call(masterApi.layout, layout(bob, { length: 0 }));
  });

  it("of a status needs what it asks for, and nothing where it asks for nothing", async () => {
    const inode = file("/f", 0o640);
    const status = (caller: Caller | undefined, access?: number) => ({
      inode,
      ...stale,
      caller,
      access,
    });
    await served.call(masterApi.getStatus, status(bob));
    await served.denied(masterApi.getStatus, status(bob, permission.read));
    await served.call(masterApi.getStatus, status(ann, permission.read | permission.write));
    await served.denied(masterApi.getStatus, status(ann, permission.execute));
    await served.denied(masterApi.getStatus, status(undefined, permission.execute));
    await served.call(masterApi.getStatus, status(undefined, permission.write));
  });

  it("goes by the access control list where there is one", async () => {
    const inode = file("/f", 0o600);
    const acl: Acl = [
      { tag: "userObj", permissions: 6 },
      { tag: "user", id: bob.uid, permissions: 6 },
      { tag: "groupObj", permissions: 0 },
      { tag: "mask", permissions: 4 },
      { tag: "other", permissions: 0 },
    ];
    machine.done({
      kind: "setXattr",
      inode,
      name: accessAclName,
      value: encodeAcl(acl),
      how: "set",
    });
    const status = (caller: Caller, access: number) => ({ inode, ...stale, caller, access });
    await served.call(masterApi.getStatus, status(bob, permission.read));
    await served.denied(masterApi.getStatus, status(bob, permission.write));
    await served.denied(masterApi.getStatus, status(eve, permission.read));
  });

  it("of a path by its inode needs search of all that is above", async () => {
    dir("/a", 0o700);
    const inode = file("/a/f", 0o644);
    await served.denied(masterApi.pathOf, { inode, caller: bob });
    assert.equal((await served.call(masterApi.pathOf, { inode, caller: ann })).path, "/a/f");
    assert.equal((await served.call(masterApi.pathOf, { inode })).path, "/a/f");
  });

  it("does not begin to rebuild or to drop what its caller has no right to", async () => {
    const inode = file("/f", 0o640);
    await served.denied(masterApi.recover, { inode, caller: bob });
    await served.call(masterApi.recover, { inode, caller: ann });
    await served.denied(masterApi.free, { inode, caller: bob });
    const notPersisted = "InvalidArgument";
    await served.denied(masterApi.free, { inode, caller: ann }, notPersisted);
  });

  it("of operations on trees tells each user his own, and the superuser all", async () => {
    const inode = dir("/a", 0o755);
    const change = { mode: undefined, uid: undefined, gid: 50 };
    const start = { kind: "startTreeOp", inode, change } as const;
    assert.ok(machine.runAs(ann, start).ok);
    machine.done(start);
    const told = async (caller?: Caller) =>
      (await served.call(masterApi.treeOps, { caller })).treeOps.map((each) => each.caller?.uid);
    assert.deepEqual(await told(ann), [ann.uid]);
    assert.deepEqual(await told(bob), []);
    assert.deepEqual(await told(), [ann.uid, undefined]);
  });

  it("of jobs, of a whole backup, and changes of the masters are the superuser's", async () => {
    const by = { caller: ann };
    const lineage = 1 as never;
    const place = { name: "m", host: "h", raftPort: 1, rpcPort: 2, ...by };
    const no = "NotPermitted";
    await served.denied(masterApi.lineageOf, { lineage, ...by }, no);
    await served.denied(masterApi.lineages, { after: undefined, limit: 1, ...by }, no);
    await served.denied(masterApi.runLineage, { lineage, ...by }, no);
    await served.denied(masterApi.addMember, { ...place, promote: true }, no);
    await served.denied(masterApi.removeMember, { name: "m", ...by }, no);
    await served.denied(masterApi.promoteMember, { name: "m", ...by }, no);
    await served.denied(masterApi.replaceMember, place, no);
    await served.denied(masterApi.transferLeadership, { to: undefined, ...by }, no);
    await served.denied(masterApi.backup as never, by, no);
    await served.denied(masterApi.lineageOf, { lineage }, "NotFound");
  });
});

function chmod(inode: InodeId, mode: number) {
  const none = undefined;
  return {
    kind: "setAttributes" as const,
    inode,
    mode,
    uid: none,
    gid: none,
    atime: none,
    mtime: none,
  };
}
