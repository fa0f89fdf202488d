import assert from "node:assert/strict";
import type { InodeId, TreeOpId } from "../../../src/lib/ids.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { TreeOps } from "../../../src/master/services/tree-ops.ts";
import { treeOpOf } from "../../../src/master/state/queries.ts";
import { eventually } from "../../lib/eventually.ts";
import { LeaderFixture } from "./leader-fixture.ts";

describe("operations on trees", () => {
  let fixture: LeaderFixture;
  let loaded: InodeId[];
  let load: (directory: InodeId) => Promise<void>;

  beforeEach(() => {
    fixture = new LeaderFixture();
    loaded = [];
    load = async (directory) => void loaded.push(directory);
  });
  afterEach(() => fixture.end());

  const reign = (of = fixture) => {
    const { machine, propose, clock } = of;
    const service = new TreeOps({
      reader: machine.state,
      propose,
      load: (directory) => load(directory),
      reign: of.reign,
      clock,
      logger: silentLogger,
    });
    machine.onApplied = ({ events }) => service.applied(events);
  };

  const start = (path: string) => {
    const change = { mode: undefined, uid: 9, gid: undefined };
    const { machine } = fixture;
    return machine.done({ kind: "startTreeOp", inode: machine.at(path).id, change }).id as TreeOpId;
  };
  const isOver = (id: TreeOpId) =>
    eventually("the end", () => treeOpOf(fixture.machine.state, id)?.state === "done");

  it("go on by themselves, several side by side, also over directories of many pages", async () => {
    const { machine } = fixture;
    machine.isChecked = false;
    machine.mkdir("/wide");
    machine.mkdir("/deep");
    for (let i = 0; i < 1000; i++) machine.create(`/wide/${i}`);
    let path = "/deep";
    for (let i = 0; i < 50; i++) machine.mkdir((path += "/d"));
    reign();
    const ids = [start("/wide"), start("/deep")];
    for (const id of ids) await isOver(id);
    assert.deepEqual(
      ids.map((id) => treeOpOf(machine.state, id)!.done),
      [1001, 51],
    );
    assert.equal(machine.at(path).uid, 9);
  });

  it("of an earlier leader are finished by the next one, each inode once", async () => {
    const { machine } = fixture;
    machine.mkdir("/t");
    machine.isChecked = false;
    for (let i = 0; i < 300; i++) machine.create(`/t/${i}`);
    machine.isChecked = true;
    const id = start("/t");
    // The leader of before made one step.
    const [{ directory, after } = assert.fail()] = machine.openTreeDirectories();
    machine.done({
      kind: "stepTreeOp",
      ...{ treeOp: id, directory, after, error: undefined },
      ...{ names: ["0", "1", "10"], last: false },
    });
    reign();
    await isOver(id);
    assert.equal(treeOpOf(machine.state, id)?.done, 301);
  });

  it("load what is not known yet, and pass over what cannot be loaded", async () => {
    const { machine } = fixture;
    machine.mkdir("/t");
    const unloaded = machine.mkdir("/t/store");
    machine.unload(unloaded.inode);
    load = (directory) => {
      loaded.push(directory);
      return Promise.reject(new Error("the store is away"));
    };
    reign();
    const id = start("/t");
    await isOver(id);
    assert.deepEqual(loaded, [unloaded.inode]);
    const { done, failed, failures } = treeOpOf(machine.state, id)!;
    assert.deepEqual({ done, failed }, { done: 2, failed: 1 });
    assert.match(failures[0]!.detail, /the store is away/);
  });
});
