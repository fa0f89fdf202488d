/** One client in the name of several callers, against a master that checks them. */
import assert from "node:assert/strict";
import { callerToMasters, processCaller } from "../../src/client/caller.ts";
import { InodeClient } from "../../src/client/inode-client.ts";
import { MetadataCache } from "../../src/client/metadata-cache.ts";
import { Session } from "../../src/client/session.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { type Config, loadConfig } from "../../src/lib/config.ts";
import { type ErrorCode, hasCode } from "../../src/lib/errors.ts";
import { type InodeId, rootInodeId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { accessAclName, type Acl, encodeAcl } from "../../src/rpc/acl.ts";
import { MasterConnection } from "../../src/rpc/master-connection.ts";
import type { Caller } from "../../src/rpc/namespace.ts";
import { MemoryBlocks } from "../lib/memory-blocks.ts";
import { blockSizeBytes } from "../master/state/machine-fixture.ts";
import { StateMaster } from "./state-master.ts";

const root: Caller = { uid: 0, gid: 0, groups: [] };
const ann: Caller = { uid: 1, gid: 10, groups: [] };
const bob: Caller = { uid: 2, gid: 20, groups: [] };
const toRead = { read: true, write: false };
const toWrite = { read: false, write: true };

async function refused(code: ErrorCode, called: Promise<unknown>): Promise<void> {
  await assert.rejects(called, (thrown) => hasCode(thrown, code), `wanted ${code}`);
}

function configOf(flags: Record<string, unknown> = {}): Config {
  return loadConfig({ flags });
}

describe("a client of several callers", () => {
  let master: StateMaster;
  let connection: MasterConnection;
  let session: Session;
  let client: InodeClient;

  async function start(flags: Record<string, unknown> = {}): Promise<void> {
    const config = configOf({ "client.writeType": "MUST_CACHE", ...flags });
    master = await StateMaster.start(config.security);
    const common = { clock: systemClock, logger: silentLogger };
    connection = new MasterConnection({
      ...common,
      masters: [{ host: "127.0.0.1", port: master.port }],
    });
    const masters = connection.as(root);
    session = new Session({ ...common, masters, clientName: "test", operationTimeoutMs: 5000 });
    client = new InodeClient({
      ...common,
      masters,
      session,
      cache: new MetadataCache(systemClock),
      blocks: new MemoryBlocks(blockSizeBytes),
      config,
      caller: root,
    });
  }

  beforeEach(() => start());
  afterEach(stop);

  async function stop(): Promise<void> {
    await client.close();
    await session.close();
    connection.close();
    await master.stop();
  }

  const asked = (method: string) => master.calls.filter((each) => each === method).length;

  /** A directory of ann's, with a file in it that all may read. */
  async function makeDirectory(mode: number): Promise<{ directory: InodeId; file: InodeId }> {
    const { inode: directory } = await client.mkdir(rootInodeId, "d", { mode, uid: 1, gid: 10 });
    const own = { mode: 0o644, uid: 1, gid: 10 };
    const { inode: file } = await client.makeNode(directory, "f", { ...own, kind: "file" });
    return { directory, file };
  }

  it("tells no caller a cached name of a directory that he may not search", async () => {
    const { directory, file } = await makeDirectory(0o700);
    const [forAnn, forBob] = [client.as(ann), client.as(bob)];
    assert.equal((await forAnn.lookup(directory, "f")).inode, file);
    await refused("NotFound", forAnn.lookup(directory, "missing"));
    await refused("PermissionDenied", forBob.lookup(directory, "f"));
    await refused("PermissionDenied", forBob.lookup(directory, "missing"));
    assert.equal((await client.lookup(directory, "f")).inode, file);
  });

  it("answers from its cache who may search, whoever asked before", async () => {
    const { directory } = await makeDirectory(0o711);
    const [forAnn, forBob] = [client.as(ann), client.as(bob)];
    await forAnn.lookup(directory, "f");
    const before = asked("lookup");
    await forBob.lookup(directory, "f");
    await client.lookup(directory, "f");
    assert.equal(asked("lookup"), before);
  });

  it("shuts a directory to others with the answer to the change of its mode", async () => {
    const { directory } = await makeDirectory(0o755);
    const [forAnn, forBob] = [client.as(ann), client.as(bob)];
    await forBob.lookup(directory, "f");
    await forAnn.setAttributes(directory, { mode: 0o700 });
    await refused("PermissionDenied", forBob.lookup(directory, "f"));
    await forAnn.setAttributes(directory, { mode: 0o701 });
    await forBob.lookup(directory, "f");
  });

  it("asks the masters where a list decides, which may say more or less than the mode", async () => {
    const { directory } = await makeDirectory(0o700);
    const acl: Acl = [
      { tag: "userObj", permissions: 7 },
      { tag: "user", id: bob.uid, permissions: 0 },
      { tag: "groupObj", permissions: 0 },
      { tag: "mask", permissions: 7 },
      { tag: "other", permissions: 1 },
    ];
    const value = encodeAcl(acl);
    master.machine.done({
      kind: "setXattr",
      inode: directory,
      name: accessAclName,
      value,
      how: "set",
    });
    await client.setAttributes(directory, { mtime: { sec: 1, nsec: 0 } });
    await client.lookup(directory, "f");
    await refused("PermissionDenied", client.as(bob).lookup(directory, "f"));
    await client.as({ ...bob, uid: 3 }).lookup(directory, "f");
  });

  it("asks the masters who a caller is where they do not go by his own word", async () => {
    await stop();
    await start({ "security.groupMapping": "static", "security.staticGroups": { "2": [10] } });
    const { directory } = await makeDirectory(0o710);
    await client.lookup(directory, "f");
    await client.as(bob).lookup(directory, "f");
    const liar: Caller = { uid: 3, gid: 10, groups: [10] };
    await refused("PermissionDenied", client.as(liar).lookup(directory, "f"));
  });

  it("makes what a caller makes his own, and sends no two callers' commands in one request", async () => {
    await client.setAttributes(rootInodeId, { mode: 0o777 });
    const own = (of: Caller) => ({ mode: 0o755, uid: of.uid, gid: of.gid });
    const made = await Promise.all([
      client.as(ann).mkdir(rootInodeId, "ann", own(ann)),
      client.as(bob).mkdir(rootInodeId, "bob", own(bob)),
      client.mkdir(rootInodeId, "root", own(ann)),
    ]);
    assert.deepEqual(
      made.map(({ uid }) => uid),
      [1, 2, 1],
    );
    await refused("NotPermitted", client.as(bob).mkdir(rootInodeId, "x", own(ann)));
    const sent = master.requests.filter(({ commands }) => commands[0]?.kind === "create");
    assert.deepEqual(sent.map(({ caller }) => caller?.uid).sort(), [1, 2, 2, undefined]);
  });

  it("opens a file only to who may read or write it, whatever is cached or open", async () => {
    const { file } = await makeDirectory(0o755);
    const [forAnn, forBob] = [client.as(ann), client.as(bob)];
    await (await forBob.open(file, toRead)).close();
    await refused("PermissionDenied", forBob.open(file, toWrite));
    await refused("PermissionDenied", forBob.open(file, { ...toRead, truncate: true }));
    await forAnn.setAttributes(file, { mode: 0o200 });
    await refused("PermissionDenied", forBob.open(file, toRead));
    await refused("PermissionDenied", forAnn.open(file, toRead));
    await refused("PermissionDenied", forAnn.open(file, { read: true, write: true }));
    const writing = await forAnn.open(file, toWrite);
    await writing.write(0, Buffer.from("x"));
    await refused("PermissionDenied", forBob.open(file, toRead));
    await refused("PermissionDenied", forBob.truncate(file, 0));
    await (await client.open(file, { read: true, write: true })).close();
    await writing.close();
  });

  it("lets who has opened a file to write go on when it has become read-only", async () => {
    await client.setAttributes(rootInodeId, { mode: 0o777 });
    const forAnn = client.as(ann);
    const own = { mode: 0o444, uid: 1, gid: 10, exclusive: true };
    const handle = await forAnn.create(rootInodeId, "object", own);
    await handle.write(0, Buffer.from("one"));
    await handle.flush();
    await handle.write(3, Buffer.from("two"));
    await handle.flush();
    await handle.truncate(2);
    await handle.close();
    assert.equal((await forAnn.getStatus(handle.status.inode)).size, 2);
    await refused("PermissionDenied", forAnn.truncate(handle.status.inode, 0));
    await refused("PermissionDenied", forAnn.open(handle.status.inode, toWrite));
    await refused(
      "PermissionDenied",
      forAnn.create(rootInodeId, "object", { ...own, exclusive: false }),
    );
  });
});

describe("a caller, to a client", () => {
  it("is the user of the process", () => {
    const { uid, gid, groups } = processCaller();
    assert.deepEqual([uid, gid], [process.geteuid!(), process.getegid!()]);
    assert.ok(!groups.includes(gid));
  });

  it("is the superuser only where the masters say so by what is known here", () => {
    const security = (flags: Record<string, unknown>) => configOf(flags).security;
    assert.equal(callerToMasters(undefined, security({})), undefined);
    assert.equal(callerToMasters(root, security({})), undefined);
    assert.equal(callerToMasters(ann, security({})), ann);
    assert.equal(callerToMasters(ann, security({ "security.superusers": [1] })), undefined);
    assert.equal(callerToMasters(ann, security({ "security.supergroup": 10 })), undefined);
    assert.equal(callerToMasters(ann, security({ "security.permissionChecks": false })), undefined);
    assert.equal(callerToMasters(root, security({ "security.squash": "all" })), "unknown");
    assert.equal(callerToMasters(ann, security({ "security.groupMapping": "system" })), "unknown");
  });
});
