import assert from "node:assert/strict";
import { loadConfig, type SecurityConfig } from "../../../src/lib/config.ts";
import { hasCode } from "../../../src/lib/errors.ts";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { Identities } from "../../../src/master/services/identities.ts";
import type { UserFiles } from "../../../src/lib/user-files.ts";
import { type Caller, maxGroups } from "../../../src/rpc/namespace.ts";
import { eventually } from "../../lib/eventually.ts";
import { createCommand, requestOf } from "../state/machine-fixture.ts";
import { ManualClock } from "./manual-clock.ts";

const root: Caller = { uid: 0, gid: 0, groups: [] };
const ann: Caller = { uid: 1000, gid: 1000, groups: [27, 100] };
const nobody: Caller = { uid: 65_534, gid: 65_534, groups: [] };

function securityOf(flags: Record<string, unknown>): SecurityConfig {
  const entries = Object.entries(flags).map(([key, value]) => [`security.${key}`, value]);
  return loadConfig({ flags: Object.fromEntries(entries) as Record<string, unknown> }).security;
}

async function identitiesOf(
  flags: Record<string, unknown>,
  of: { ownUid?: number; clock?: ManualClock; files?: () => Promise<UserFiles> } = {},
): Promise<Identities> {
  return await Identities.open({
    security: securityOf(flags),
    ownUid: of.ownUid ?? 500,
    clock: of.clock ?? new ManualClock(),
    logger: silentLogger,
    ...(of.files === undefined ? {} : { readUserFiles: of.files }),
  });
}

describe("identities", () => {
  it("take nobody for the superuser but who is: by uid, by group, and whose master it is", async () => {
    const plain = await identitiesOf({});
    assert.equal(plain.of(undefined), undefined);
    assert.equal(plain.of(root), undefined);
    assert.equal(plain.of({ ...ann, uid: 500 }), undefined);
    assert.deepEqual(plain.of(ann), ann);
    const named = await identitiesOf({ superusers: [1000] });
    assert.equal(named.of(ann), undefined);
    assert.deepEqual(named.of(root), root);
    for (const gid of [27, 1000]) {
      assert.equal((await identitiesOf({ supergroup: gid })).of(ann), undefined);
    }
    assert.deepEqual((await identitiesOf({ supergroup: 28 })).of(ann), ann);
  });

  it("take everybody for the superuser where permissions are not checked", async () => {
    assert.equal((await identitiesOf({ permissionChecks: false })).of(ann), undefined);
  });

  it("refuse what is no uid or gid, and more groups than there can be", async () => {
    const identities = await identitiesOf({});
    const wrong: Caller[] = [
      { ...ann, uid: 2 ** 32 - 1 },
      { ...ann, gid: 2 ** 32 },
      { ...ann, groups: [1, 2 ** 40] },
      { ...ann, groups: new Array<number>(maxGroups + 1).fill(1) },
    ];
    for (const caller of wrong) {
      assert.throws(
        () => identities.of(caller),
        (thrown) => hasCode(thrown, "InvalidArgument"),
      );
    }
    const most = { ...ann, groups: new Array<number>(maxGroups).fill(1) };
    assert.equal(identities.of(most), most);
  });

  it("squash uid 0, or all but the superuser, to nobody", async () => {
    const noRoot = await identitiesOf({ squash: "root", superusers: [0, 1001] }, { ownUid: 0 });
    assert.deepEqual(noRoot.of({ ...root, groups: [27] }), nobody);
    assert.deepEqual(noRoot.of(ann), ann);
    assert.equal(noRoot.of({ ...ann, uid: 1001 }), undefined);
    const all = await identitiesOf({ squash: "all", supergroup: 27, anonymousUid: 7 });
    assert.deepEqual(all.of({ ...ann, groups: [] }), { ...nobody, uid: 7 });
    assert.equal(all.of(ann), undefined);
    assert.equal(all.of(root), undefined);
  });

  it("go by a table of groups, and give who is not in it none", async () => {
    const identities = await identitiesOf({
      groupMapping: "static",
      staticGroups: { "1000": [5, 6, 7] },
      supergroup: 8,
    });
    assert.deepEqual(identities.of(ann), { uid: 1000, gid: 5, groups: [6, 7] });
    const stranger = { uid: 1001, gid: 8, groups: [8] };
    assert.deepEqual(identities.of(stranger), { uid: 1001, gid: 65_534, groups: [] });
  });

  it("go by the machine's groups, and read them again when they are old", async () => {
    const clock = new ManualClock();
    let reads = 0;
    let files: UserFiles = {
      passwd: "root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:\nodd\nalias:x:1000:4::/:\n",
      group: "root:x:0:\nann:x:1000:ann\nsudo:x:27:bob,ann\nann2:x:100:annabel\nbad:x:y:ann\n",
    };
    const read = () => {
      reads++;
      return Promise.resolve(files);
    };
    const flags = { groupMapping: "system", groupCacheMs: 1000 };
    const identities = await identitiesOf(flags, { clock, files: read });
    const asked = { uid: 1000, gid: 0, groups: [0] };
    assert.deepEqual(identities.of(asked), { uid: 1000, gid: 1000, groups: [27] });
    assert.deepEqual(identities.of({ ...asked, uid: 7 }), { ...nobody, uid: 7 });
    files = { ...files, group: "sudo:x:27:\nwheel:x:10:ann\n" };
    assert.deepEqual(identities.of(asked)!.groups, [27]);
    assert.equal(reads, 1);
    clock.advance(1000);
    assert.deepEqual(identities.of(asked)!.groups, [27], "a question does not wait for files");
    await eventually("the new groups count", () => identities.of(asked)!.groups[0] === 10);
    assert.equal(reads, 2);
  });

  it("stay as they were while the machine's files cannot be read", async () => {
    const clock = new ManualClock();
    let fails = false;
    const read = () =>
      fails
        ? Promise.reject(new Error("gone"))
        : Promise.resolve({ passwd: "a:x:1000:4::/:", group: "" });
    const identities = await identitiesOf({ groupMapping: "system" }, { clock, files: read });
    fails = true;
    clock.advance(60_000);
    identities.of(ann);
    await Promise.resolve();
    assert.deepEqual(identities.of(ann), { uid: 1000, gid: 4, groups: [] });
    await assert.rejects(identitiesOf({ groupMapping: "system" }, { files: read }));
  });

  it("know the users of this machine", async () => {
    const identities = await identitiesOf({ groupMapping: "system", superusers: [] });
    assert.deepEqual(identities.of({ ...ann, uid: 0 }), { uid: 0, gid: 0, groups: [] });
  });

  it("make what a caller makes for himself belong to who he is here, and nothing else", async () => {
    const identities = await identitiesOf({ squash: "root", superusers: [1] });
    const own = createCommand(rootInodeId, "own", { uid: 0, gid: 0 });
    const other = createCommand(rootInodeId, "other", { uid: 4, gid: 5 });
    const unlink = { kind: "unlink", parent: rootInodeId, name: "x", held: false } as const;
    const request = identities.identified(
      requestOf([own, other, unlink], { caller: { ...root, groups: [] } }),
    );
    assert.deepEqual(request.caller, nobody);
    assert.deepEqual(request.commands, [
      { ...own, uid: nobody.uid, gid: nobody.gid },
      other,
      unlink,
    ]);
    const kept = requestOf([own], { caller: ann });
    assert.equal(identities.identified(kept), kept);
    assert.equal(
      identities.identified(requestOf([own], { caller: { ...ann, uid: 1 } })).caller,
      undefined,
    );
    const read = { inode: rootInodeId, caller: root };
    assert.deepEqual(identities.identified(read), { inode: rootInodeId, caller: nobody });
    const nameless = { inode: rootInodeId };
    assert.equal(identities.identified(nameless), nameless);
  });
});
