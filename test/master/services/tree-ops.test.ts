import assert from "node:assert/strict";
import type { InodeId, TreeOpId } from "../../../src/lib/ids.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { PolicySchedule } from "../../../src/master/services/policy-schedule.ts";
import { TreeOps } from "../../../src/master/services/tree-ops.ts";
import { dataPoliciesOf, treeOpOf } from "../../../src/master/state/queries.ts";
import type { Migration } from "../../../src/rpc/namespace.ts";
import { eventually } from "../../lib/eventually.ts";
import { day, migrationOf, union } from "../state/union-fixture.ts";
import { LeaderFixture, ObservedMachine } from "./leader-fixture.ts";
import { turn } from "./manual-clock.ts";

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
      ...{ names: ["0", "1", "10"], upTo: "10", scanned: 3, last: false },
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

describe("runs of data policies", () => {
  let fixture: LeaderFixture;

  beforeEach(() => {
    const machine = ObservedMachine.start();
    union(machine);
    fixture = new LeaderFixture(machine);
  });
  afterEach(() => fixture.end());

  const set = (of: Partial<Migration>, everyMs?: number) => {
    const { machine } = fixture;
    const inode = machine.at("/u").id;
    const migration = migrationOf(of);
    machine.done({ kind: "setDataPolicy", name: "cool", inode, migration, everyMs });
  };
  const policy = () => dataPoliciesOf(fixture.machine.state)[0]!;

  it("find files by their path, their age and their size, and nothing else", async () => {
    const { machine, propose, clock, reign } = fixture;
    const service = new TreeOps({
      reader: machine.state,
      propose,
      load: () => Promise.resolve(),
      ...{ reign, clock, logger: silentLogger },
    });
    machine.onApplied = ({ events }) => service.applied(events);
    const found = async (of: Partial<Migration>) => {
      set(of);
      machine.done({ kind: "runDataPolicy", name: "cool", isTrial: true });
      await eventually("the end of the trial", () => policy().running === undefined);
      return policy().runs.at(-1)!.samples;
    };
    assert.deepEqual(await found({}), ["/u/new", "/u/old", "/u/older", "/u/sub/deep"]);
    assert.deepEqual(await found({ pattern: "old*" }), ["/u/old", "/u/older"]);
    assert.deepEqual(await found({ pattern: "sub/**" }), ["/u/sub/deep"]);
    assert.deepEqual(await found({ pattern: "/u/**" }), []);
    assert.deepEqual(await found({ olderThanMs: 45 * day }), ["/u/older", "/u/sub/deep"]);
    assert.deepEqual(await found({ atLeastBytes: 1000 }), ["/u/old"]);
    assert.deepEqual(await found({ from: "cold", to: "hot" }), ["/u/there"]);
  });

  it("begin by themselves when their time has come, and only then", async () => {
    const { machine, propose, clock, reign } = fixture;
    set({}, day);
    new PolicySchedule({
      reader: machine.state,
      ...{ propose, reign, clock, logger: silentLogger },
    });
    const passes = async (ms: number) => {
      clock.advance(ms);
      await turn();
    };
    await passes(day / 2);
    for (let i = 0; i < 4; i++) await passes(5000);
    assert.equal(policy().running, undefined);
    clock.advance(day / 2);
    await eventually("the run", async () => {
      await passes(5000);
      return policy().running !== undefined;
    });
  });
});
