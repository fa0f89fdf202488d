import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type InodeId,
  type MountId,
  rootInodeId,
  rootMountId,
  type UfsOpId,
} from "../../../src/lib/ids.ts";
import { mountInfoOf, mountOf, mountsOf } from "../../../src/master/state/queries.ts";
import { accessAclName, aclOfMode, encodeAcl } from "../../../src/rpc/acl.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import type { MountLayer } from "../../../src/rpc/namespace.ts";
import {
  commitCommand,
  entryOf,
  extentsOver,
  Machine,
  pageOf,
  requestOf,
} from "./machine-fixture.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

const user = { uid: 1000, gid: 1000, groups: [] };

function mountCommand(name: string, uri: string, of: Partial<Of<"mount">> = {}): Of<"mount"> {
  return { kind: "mount", parent: rootInodeId, name, uri, readOnly: false, options: {}, ...of };
}

function update(mount: MountId, of: Partial<Of<"updateMount">> = {}): Of<"updateMount"> {
  const nothing = { readOnly: undefined, shared: undefined, overlap: undefined };
  return { kind: "updateMount", mount, set: {}, unset: [], ...nothing, ...of };
}

describe("the mount table", () => {
  let machine: Machine;
  const mount = (name: string, uri: string, of: Partial<Of<"mount">> = {}) =>
    machine.done(mountCommand(name, uri, of)).id as MountId;
  /** A directory below a mount that its store has to get. */
  const queueOne = (path: string) => {
    machine.done(pageOf(machine.at(path).id, []));
    machine.mkdir(`${path}/d`);
    machine.write(`${path}/d/f`, 5, {
      keepers: [machine.worker("w")],
      session: machine.openSession(),
    });
  };

  beforeEach(() => {
    machine = Machine.make();
  });

  it("refuses what no store could be mounted at, each with what would be right", () => {
    machine.create("/file");
    machine.mkdir("/full");
    machine.mkdir("/full/below");
    const inside = machine.at("/file").id;
    const tried: [Parameters<Machine["refused"]>[0], Of<"mount">, RegExp][] = [
      ["NotDirectory", mountCommand("file", "file:///a"), /"file" is a file/],
      ["NotEmpty", mountCommand("full", "file:///a"), /not empty/],
      ["NotDirectory", { ...mountCommand("m", "file:///a"), parent: inside }, /is a file/],
      ["NotFound", { ...mountCommand("m", "file:///a"), parent: 99 as InodeId }, /no inode 99/],
      ["InvalidArgument", mountCommand("a/b", "file:///a"), /is no name/],
      ["InvalidArgument", mountCommand("m", "nonsense"), /no address of a store, wanted file:/],
      ["InvalidArgument", mountCommand("m", "ftp://host/a"), /no store is known.*"ftp"/],
      ["InvalidArgument", mountCommand("m", "file://host/a"), /relative or names a host/],
      ["InvalidArgument", mountCommand("m", "s3://key:secret@b"), /credentials in it/],
    ];
    for (const [code, command, message] of tried) {
      assert.match(machine.refused(code, command), message);
    }
    mount("m", "file:///a");
    assert.match(machine.refused("Busy", mountCommand("m", "file:///b")), /a mount point already/);
  });

  it("covers an empty directory, gives it back, and nests", () => {
    const empty = machine.mkdir("/empty");
    mount("empty", "file:///a");
    const outer = machine.at("/empty");
    machine.done(pageOf(outer.id, [entryOf("x")]));
    const inner = { ...mountCommand("in", "file:///b"), parent: outer.id };
    machine.done(inner);
    const unmountOuter = { kind: "unmount" as const, parent: rootInodeId, name: "empty" };
    assert.match(machine.refused("Busy", unmountOuter), /"file:\/\/\/b" is mounted below/);
    machine.done({ kind: "unmount", parent: outer.id, name: "in" });
    machine.done(unmountOuter);
    assert.equal(machine.at("/empty").id, empty.inode);
  });

  it("makes no name below a read-only mount, and covers a directory that is there", () => {
    mount("ro", "file:///a", { readOnly: true });
    const parent = machine.at("/ro").id;
    machine.done(pageOf(parent, [entryOf("d", { kind: "directory" })]));
    const below = { ...mountCommand("new", "file:///b"), parent };
    assert.match(machine.refused("ReadOnly", below), /"file:\/\/\/a" is read-only/);
    machine.done(pageOf(machine.at("/ro/d").id, []));
    machine.done({ ...below, name: "d" });
    assert.equal(machine.at("/ro/d").mountPoint, true);
  });

  it("leaves mounting and changing of mounts to the superuser", () => {
    const id = mount("m", "file:///a");
    const command = update(id, { readOnly: true });
    const { results } = machine.apply(requestOf([command], { caller: user }));
    assert.equal((results[0]![0] as { code?: string }).code, "NotPermitted");
    assert.equal(mountOf(machine.state, id)!.readOnly, false);
  });

  describe("stores that overlap", () => {
    const pairs: [string, string, boolean][] = [
      ["file:///a", "file:///a", true],
      ["file:///a", "file:///a/", true],
      ["file:///a", "file:///a//b", true],
      ["file:///a/./b", "file:///a/x/../b/c", true],
      ["file:///a%62", "file:///ab", true],
      ["file:///a/b", "file:///a", true],
      ["file:///a", "file:///ab", false],
      ["s3://bucket", "s3://bucket/p", true],
      ["s3://bucket/p", "s3://bucket/p/q/", true],
      ["s3://bucket/p", "s3://bucket/pq", false],
      ["s3://bucket/p", "s3://other/p", false],
      ["s3://bucket", "file:///bucket", false],
    ];
    for (const [first, second, overlaps] of pairs) {
      it(`${overlaps ? "refuses" : "takes"} ${second} beside ${first}`, () => {
        mount("one", first);
        const other = mountCommand("two", second);
        if (overlaps) assert.match(machine.refused("Busy", other), /mounted at "\/one": .*wanted/);
        else machine.done(other);
      });
    }

    it("takes one bucket name of two endpoints for two buckets, and two spellings of one for one", () => {
      mount("one", "s3://b", { options: { endpoint: "http://Host:1/" } });
      machine.done(mountCommand("two", "s3://b", { options: { endpoint: "http://host:2" } }));
      const same = mountCommand("three", "s3://b", { options: { endpoint: "http://host:1" } });
      machine.refused("Busy", same);
    });

    it("takes them when both are read-only, or when the caller says that they may", () => {
      mount("one", "file:///a", { readOnly: true });
      mount("two", "file:///a/b", { readOnly: true });
      machine.refused("Busy", mountCommand("three", "file:///a/b"));
      mount("three", "file:///a/b", { overlap: true });
    });

    it("refuses to make one of two read-only ones writable, or to lead it to the other's place", () => {
      const one = mount("one", "file:///a", { readOnly: true });
      mount("two", "file:///a", { readOnly: true });
      machine.refused("Busy", update(one, { readOnly: false }));
      machine.done(update(one, { readOnly: false, overlap: true }));
      mount("x", "s3://b", { options: { endpoint: "http://x" } });
      const y = mount("y", "s3://b", { options: { endpoint: "http://y" } });
      machine.refused("Busy", update(y, { set: { endpoint: "http://x" } }));
    });

    it("lets one become read-only beside another that may be written, and not writable again", () => {
      const one = mount("one", "file:///a");
      mount("two", "file:///a", { overlap: true });
      machine.done(update(one, { readOnly: true }));
      machine.refused("Busy", update(one, { readOnly: false }));
    });

    it("looks at the root's store as well", () => {
      assert.match(machine.refused("Busy", mountCommand("m", "file:///root/sub")), /at "\/"/);
    });
  });

  describe("a mount that is not shared", () => {
    const modeOf = (path: string) => machine.at(path).mode;

    it("lets in its owner alone, whatever the modes above, until it is shared", () => {
      const id = mount("m", "file:///a", { shared: false, owner: { uid: 7, gid: 8 } });
      const { mode, uid, gid } = machine.at("/m");
      assert.deepEqual([mode, uid, gid], [0o700, 7, 8]);
      assert.equal(mountInfoOf(machine.state, mountOf(machine.state, id)!).shared, false);
      machine.done(update(id, { shared: true }));
      assert.equal(modeOf("/m"), 0o755);
      machine.done(update(id, { shared: false }));
      machine.done(update(id, { shared: false }));
      assert.equal(modeOf("/m"), 0o700);
    });

    it("takes no mode for others", () => {
      const id = mount("m", "file:///a", { shared: false });
      const chmod = (mode: number) => ({
        ...{ kind: "setAttributes" as const, inode: machine.at("/m").id, mode },
        ...{ uid: undefined, gid: undefined, atime: undefined, mtime: undefined },
      });
      assert.match(machine.refused("NotPermitted", chmod(0o710)), /not shared/);
      const list = {
        ...{ kind: "setXattr" as const, inode: machine.at("/m").id, name: accessAclName },
        ...{ value: encodeAcl(aclOfMode(0o750)), how: "set" as const },
      };
      assert.match(machine.refused("NotPermitted", list), /not shared/);
      machine.done(chmod(0o500));
      machine.done(update(id, { shared: true }));
      machine.done(chmod(0o777));
    });
  });

  describe("of several stores", () => {
    const layer = (name: string, uri: string, of: Partial<MountLayer> = {}): MountLayer => ({
      ...{ name, uri, readOnly: false, options: {} },
      ...of,
    });
    const unionOf = (layers: MountLayer[], of: Partial<Of<"mount">> = {}) =>
      mountCommand("u", "", { layers, writeLayer: "hot", ...of });
    const hot = layer("hot", "file:///hot");
    const cold = layer("cold", "s3://b", { options: { secretKey: "hush", region: "r" } });
    const change = (name: string, of: object = {}) => ({
      ...{ name, uri: undefined, readOnly: undefined, set: {}, unset: [] },
      ...of,
    });

    it("is a row with its layers in order, of which nobody sees the credentials", () => {
      const id = machine.done(unionOf([hot, cold])).id as MountId;
      const of = mountOf(machine.state, id)!;
      assert.equal(of.uri, "union://hot+cold");
      assert.deepEqual(of.layers, [hot, cold]);
      const info = mountInfoOf(machine.state, of);
      assert.equal(info.writeLayer, "hot");
      assert.deepEqual(info.layers, [hot, { ...cold, options: { region: "r" } }]);
    });

    it("is refused with what is wrong with a layer", () => {
      const tried: [MountLayer[], Partial<Of<"mount">>, RegExp][] = [
        [[hot], {}, /1 layers, wanted 2 to 16/],
        [[hot, layer("Cold", "s3://b")], {}, /"Cold" is no name of a layer/],
        [[hot, layer("hot", "s3://b")], {}, /two layers "hot"/],
        [[hot, layer("cold", "ftp://b")], {}, /of layer "cold": no store is known/],
        [
          [hot, cold],
          { writeLayer: "warm" },
          /no layer "warm" to write to, wanted one of hot, cold/,
        ],
        [[{ ...hot, readOnly: true }, cold], {}, /"hot" is to be written and is read-only/],
        [[hot, cold], { options: { a: "b" } }, /options belong to its layers/],
      ];
      for (const [layers, of, message] of tried) {
        assert.match(machine.refused("InvalidArgument", unionOf(layers, of)), message);
      }
      machine.done(mountCommand("u", "", { layers: [hot, cold], readOnly: true }));
    });

    it("has no store that overlaps with another layer or mount", () => {
      mount("m", "s3://b/p");
      assert.match(machine.refused("Busy", unionOf([hot, cold])), /"s3:\/\/b" has in it/);
      const inside = layer("cold", "file:///hot/below");
      assert.match(machine.refused("Busy", unionOf([hot, inside])), /of another layer/);
      machine.done(unionOf([hot, layer("cold", "file:///cold")]));
      machine.refused("Busy", mountCommand("n", "file:///cold/x"));
      mount("n", "file:///cold/x", { overlap: true });
    });

    it("gets layers, loses them, and has them in another order, keeping what is not named", () => {
      const id = machine.done(unionOf([hot, cold])).id as MountId;
      const layers = () => mountOf(machine.state, id)!.layers!;
      const more = [
        change("cold", { set: { region: "s" } }),
        change("hot"),
        change("archive", { uri: "file:///archive", readOnly: true }),
      ];
      machine.done(update(id, { layers: more }));
      assert.deepEqual(layers(), [
        { ...cold, options: { secretKey: "hush", region: "s" } },
        hot,
        layer("archive", "file:///archive", { readOnly: true }),
      ]);
      assert.equal(mountOf(machine.state, id)!.uri, "union://cold+hot+archive");
      const refusedWith = (wanted: ReturnType<typeof change>[]) =>
        machine.refused("InvalidArgument", update(id, { layers: wanted }));
      assert.match(refusedWith([change("cold"), change("archive")]), /no layer "hot" to write to/);
      assert.match(refusedWith([change("hot"), change("new")]), /of layer "new": it is no address/);
      mount("m", "file:///taken");
      const taken = change("taken", { uri: "file:///taken" });
      machine.refused("Busy", update(id, { layers: [change("hot"), change("cold"), taken] }));
      machine.done(update(id, { layers: [change("hot"), change("cold")] }));
      assert.deepEqual(
        layers().map(({ name }) => name),
        ["hot", "cold"],
      );
      const one = mount("one", "file:///one");
      machine.refused("InvalidArgument", update(one, { layers: [change("hot"), change("cold")] }));
    });
  });

  it("changes and takes away options, and shows no credential", () => {
    const options = { endpoint: "http://x", accessKey: "key", secretKey: "hush" };
    const id = mount("m", "s3://b", { options });
    machine.done(update(id, { set: { secretKey: "new", region: "r" }, unset: ["accessKey"] }));
    const changed = mountOf(machine.state, id)!;
    assert.deepEqual(changed.options, { endpoint: "http://x", secretKey: "new", region: "r" });
    const info = mountInfoOf(machine.state, changed);
    assert.deepEqual(info.options, { endpoint: "http://x", region: "r" });
    machine.done(update(rootMountId, { set: { region: "s" } }));
    assert.equal(mountOf(machine.state, rootMountId)!.options["region"], "s");
    machine.refused("NotFound", update(77 as MountId));
  });

  it("refuses read-only while changes wait for the store, and takes it when they are there", () => {
    const id = mount("m", "file:///a");
    queueOne("/m");
    assert.match(machine.refused("Busy", update(id, { readOnly: true })), /not in the store yet/);
    machine.done(update(id, { set: { any: "thing" } }));
    assert.ok(machine.pending().length > 0, "what waits goes on waiting");
    machine.settle();
    machine.done(update(id, { readOnly: true }));
    const parent = machine.at("/m").id;
    const create = { kind: "deleteTree" as const, parent, name: "d" };
    assert.match(machine.refused("ReadOnly", create), /read-only/);
    machine.done(update(id, { readOnly: false }));
    machine.done(create);
  });

  describe("an unmount", () => {
    const away: Of<"unmount"> = { kind: "unmount", parent: rootInodeId, name: "m" };
    const queued = (id: MountId) =>
      machine
        .pending()
        .filter(({ mountId }) => mountId === id)
        .map((op) => op.id);
    /** A file that no store gets by itself. */
    const cacheOnly = (path: string, session = machine.openSession()) => {
      const keepers = [machine.worker("w")];
      machine.write(path, 7, { keepers, session, writeType: "MUST_CACHE" });
    };

    it("is refused while content below is in no store, with the path, the bytes and the cure", () => {
      mount("m", "file:///a");
      machine.done(pageOf(machine.at("/m").id, []));
      machine.mkdir("/m/d", { writeType: "MUST_CACHE" });
      cacheOnly("/m/d/f");
      assert.match(
        machine.refused("Busy", away),
        /7 bytes of files below "\/m" are in no store, wanted none \(fs persist \/m\), .*--force/,
      );
      machine.done({ kind: "unlink", parent: machine.at("/m/d").id, name: "f", held: false });
      machine.done(away);
      assert.ok(!machine.exists("/m"));
    });

    it("knows of content that the same entry wrote", () => {
      mount("m", "file:///a");
      machine.done(pageOf(machine.at("/m").id, []));
      const session = machine.openSession();
      const { inode } = machine.create("/m/f", { writeType: "MUST_CACHE" });
      const { writeId } = machine.done({ kind: "lease", inode }, session);
      const keepers = [machine.worker("w")];
      const extents = extentsOver(writeId!, 0, 3);
      const written = commitCommand({ inode, writeId: writeId!, size: 3, extents, keepers });
      const { results } = machine.apply(
        requestOf([written], { session, sequence: 1, acknowledgedBelow: 1 }),
        requestOf([away]),
      );
      assert.deepEqual(
        results.flat().map(({ ok }) => ok),
        [true, false],
      );
    });

    it("gives up what is queued and what is in no store only by force, and then leaves nothing of it", () => {
      const id = mount("m", "file:///a");
      const other = mount("other", "file:///b");
      queueOne("/m");
      queueOne("/other");
      cacheOnly("/m/d/only-here");
      assert.match(machine.refused("Busy", away), /changes are not in the store yet.*--force/);
      const [first, ...rest] = queued(id);
      assert(rest.length > 0);
      const part = machine.done({ ...away, force: [first!, first!, ...queued(other)] });
      assert.equal(part.id, rest.length);
      assert.ok(machine.exists("/m/d/f"));
      assert.equal(mountOf(machine.state, other)!.pendingOps, queued(other).length);
      machine.done({ ...away, force: rest });
      assert.ok(!machine.exists("/m"));
      assert.deepEqual(queued(id), []);
      assert(queued(other).length > 0);
    });

    it("is told to who was still writing below: the next commit fails", () => {
      mount("m", "file:///a");
      machine.done(pageOf(machine.at("/m").id, [entryOf("x")]));
      const session = machine.openSession();
      const inode = machine.at("/m/x").id;
      const { writeId } = machine.done({ kind: "lease", inode }, session);
      machine.done(away);
      const keepers = [machine.worker("w")];
      const late = commitCommand({ inode, writeId: writeId!, size: 3, keepers });
      assert.match(machine.refused("NotFound", late, session), /its mount is gone/);
    });

    it("is forced for the superuser alone, past no other mount, and a thousand changes at once", () => {
      mount("m", "file:///a");
      machine.done(pageOf(machine.at("/m").id, []));
      const force = Array.from({ length: 1001 }, (_, i) => i as UfsOpId);
      assert.match(machine.refused("InvalidArgument", { ...away, force }), /1001 changes at once/);
      const { results } = machine.apply(requestOf([{ ...away, force: [] }], { caller: user }));
      assert.equal((results[0]![0] as { code?: string }).code, "NotPermitted");
      machine.done({ ...mountCommand("in", "file:///b"), parent: machine.at("/m").id });
      assert.match(machine.refused("Busy", { ...away, force: [] }), /is mounted below/);
    });
  });

  it("agrees with a plain table through any mounts, updates and unmounts", () => {
    const stores = ["file:///a", "file:///a/b", "file:///c", "s3://b", "s3://b/p"];
    const name = fc.constantFrom("m1", "m2", "m3");
    const flag = fc.option(fc.boolean(), { nil: undefined });
    const step = fc.oneof(
      fc.record({
        ...{ kind: fc.constant("mount" as const), name, uri: fc.constantFrom(...stores) },
        ...{ readOnly: fc.boolean(), shared: flag, overlap: flag },
      }),
      fc.record({ kind: fc.constant("unmount" as const), name }),
      fc.record({
        ...{ kind: fc.constant("update" as const), name, readOnly: flag, shared: flag },
        ...{ overlap: flag, value: fc.option(fc.constantFrom("1", "2"), { nil: undefined }) },
      }),
    );
    const overlap = (a: string, b: string) =>
      `${a}/`.startsWith(`${b}/`) || `${b}/`.startsWith(`${a}/`);
    fc.assert(
      fc.property(fc.array(step, { maxLength: 25 }), (steps) => {
        machine = Machine.make();
        const table = new Map<
          string,
          {
            id: MountId;
            uri: string;
            readOnly: boolean;
            shared: boolean;
            option?: string | undefined;
          }
        >();
        const clashes = (uri: string, readOnly: boolean, but?: string) =>
          [...table].some(
            ([at, other]) => at !== but && overlap(uri, other.uri) && !(readOnly && other.readOnly),
          );
        for (const each of steps) {
          const known = table.get(each.name);
          if (each.kind === "mount") {
            const { uri, readOnly, shared, overlap: may } = each;
            const result = machine.run(
              mountCommand(each.name, uri, {
                readOnly,
                ...(shared === undefined ? {} : { shared }),
                ...(may === undefined ? {} : { overlap: may }),
              }),
            );
            const wanted = known === undefined && (may === true || !clashes(uri, readOnly));
            assert.equal(result.ok, wanted, JSON.stringify(each));
            if (result.ok) {
              const id = result.id as MountId;
              table.set(each.name, { id, uri, readOnly, shared: shared ?? true });
            }
          } else if (each.kind === "unmount") {
            const result = machine.run({ kind: "unmount", parent: rootInodeId, name: each.name });
            assert.equal(result.ok, known !== undefined);
            table.delete(each.name);
          } else if (known !== undefined) {
            const { readOnly, shared, overlap: may, value } = each;
            const set: Record<string, string> = value === undefined ? {} : { key: value };
            const result = machine.run(update(known.id, { readOnly, shared, overlap: may, set }));
            const opens = known.readOnly && readOnly === false;
            const wanted = may === true || !opens || !clashes(known.uri, false, each.name);
            assert.equal(result.ok, wanted, JSON.stringify(each));
            if (!wanted) continue;
            known.readOnly = readOnly ?? known.readOnly;
            known.shared = shared ?? known.shared;
            known.option = value ?? known.option;
          }
        }
        const shown = mountsOf(machine.state)
          .slice(1)
          .map((of) => [
            mountInfoOf(machine.state, of).path,
            ...[of.uri, of.readOnly, of.sharedMode === undefined, of.options["key"]],
          ]);
        const wanted = [...table].map(([at, of]) => [
          `/${at}`,
          ...[of.uri, of.readOnly, of.shared, of.option],
        ]);
        assert.deepEqual(new Set(shown.map(String)), new Set(wanted.map(String)));
      }),
    );
  });
});
