import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type InodeId, type MountId, rootInodeId, type UfsOpId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { Layouts } from "../../src/master/services/layouts.ts";
import type { FileLayout } from "../../src/rpc/namespace.ts";
import type { UfsAction } from "../../src/rpc/tasks.ts";
import { openUfs } from "../../src/ufs/open.ts";
import type { UnderFileSystem } from "../../src/ufs/types.ts";
import { TaskExecutor } from "../../src/worker/task-executor.ts";
import { LeaderFixture } from "../master/services/leader-fixture.ts";
import { commitCommand, entryOf, extentsOver, pageOf } from "../master/state/machine-fixture.ts";

const never = new AbortController().signal;

describe("a persist that was done and never reported", () => {
  let directory: string;
  let store: UnderFileSystem;
  let fixture: LeaderFixture;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-persist-"));
    store = await openUfs({ uri: pathToFileURL(directory).href, readOnly: false, options: {} });
    fixture = new LeaderFixture();
  });
  afterEach(async () => {
    fixture.end();
    await store.close();
    await rm(directory, { recursive: true, force: true });
  });

  it("can be repeated, and followed by one of a later version, from ranges of the object that it replaced", async () => {
    const { machine, locations } = fixture;
    const worker = machine.worker("w");
    const session = machine.openSession();
    const mounted = machine.done({
      kind: "mount",
      parent: rootInodeId,
      name: "m",
      uri: store.uri,
      readOnly: false,
      options: {},
    });
    const mountId = mounted.id as number as MountId;
    await writeFile(join(directory, "f"), "a".repeat(250));
    const { fingerprint } = (await store.stat("f"))!;
    machine.done(pageOf(mounted.status!.inode, [entryOf("f", { size: 250, fingerprint })]));
    const { id: inode } = machine.at("/m/f");
    const layouts = new Layouts({
      reader: machine.state,
      locations,
      pendingRenames: () => [],
      silentMs: () => 0,
    });
    const layoutOf = (of: InodeId) => layouts.layoutOf(of);
    const overwrite = (from: number, to: number) => {
      const writeId = machine.done({ kind: "lease", inode }, session).writeId!;
      const extents = extentsOver(writeId, from, to);
      const { version: baseVersion } = machine.at("/m/f");
      const commit = { inode, writeId, baseVersion, size: 250, extents, keepers: [worker] };
      machine.done(commitCommand({ ...commit, release: true }), session);
    };

    /** What the store's object has, and "b" where the worker has newer bytes. */
    async function* readFileOf(layout: FileLayout, signal: AbortSignal) {
      for (const { block, length, fileOffset } of layout.segments) {
        const { ufs } = layout;
        if (ufs === undefined || block?.writeId !== ufs.writeId) yield Buffer.alloc(length, "b");
        else {
          const range = { offset: fileOffset, length, fingerprint: ufs.fingerprint, signal };
          yield* store.read(ufs.path, range);
        }
      }
    }
    const executor = new TaskExecutor({
      mounts: {
        use: () => store,
        useOnce: () => assert.fail("it is mounted"),
      },
      readFile: readFileOf,
      jobs: false,
      jobSlots: 0,
      logger: silentLogger,
    } as unknown as ConstructorParameters<typeof TaskExecutor>[0]);
    const execute = async (action: UfsAction) => {
      const mount = { id: mountId, uri: store.uri, readOnly: false, options: {} };
      const op = 1 as UfsOpId;
      const result = await executor.execute(
        { kind: "ufsOp", taskId: 1, op, mount, action },
        { signal: never, permit: () => undefined, outlives: () => undefined },
      );
      assert.equal(result.kind, "ufsDone", JSON.stringify(result));
    };
    const persist = async () => {
      const attributes = { mode: 0o644, uid: 0, gid: 0, mtime: { sec: 1, nsec: 0 } };
      await execute({ kind: "persist", path: "f", layout: await layoutOf(inode), ...attributes });
    };

    overwrite(0, 50);
    await persist();
    await persist();
    overwrite(100, 130);
    await persist();
    const content = await readFile(join(directory, "f"), "utf8");
    const [b, a] = [(n: number) => "b".repeat(n), (n: number) => "a".repeat(n)];
    assert.equal(content, b(50) + a(50) + b(30) + a(120));
    assert.equal((await readdir(directory)).length, 2, "what was replaced is kept once");
    await execute({ kind: "forgetReplaced", path: "f", fingerprint });
    assert.deepEqual(await readdir(directory), ["f"]);
  });
});
