import assert from "node:assert/strict";
import { type Clock, systemClock } from "../../src/lib/clock.ts";
import { hasCode } from "../../src/lib/errors.ts";
import { type Logger, silentLogger } from "../../src/lib/logger.ts";
import { eventually } from "../lib/eventually.ts";
import { freePorts } from "../lib/free-ports.ts";
import { decodeConfiguration } from "../../src/raft/configuration-codec.ts";
import { idleTimeouts } from "../../src/raft/host/part.ts";
import type { Peer, RaftNode, RaftNodeOptions } from "../../src/raft/node.ts";
import type { Index, Term } from "../../src/raft/types.ts";
import { MemoryJournal } from "../lib/memory-journal.ts";
import { LoopbackCluster } from "./lib/loopback-cluster.ts";

/** Keeps what is said loudly. */
function listening(): { logger: Logger; said: string[] } {
  const said: string[] = [];
  const note = (_fields: object, message: string) => said.push(message);
  return { said, logger: { ...silentLogger, warn: note, error: note } };
}

describe("raft node: members", function () {
  this.timeout(60_000);
  let cluster: LoopbackCluster;
  afterEach(() => cluster.stop());

  /** `name: role` of all members, as the leader has them. */
  async function roles(): Promise<string[]> {
    return (await cluster.leading()).members().map(({ name, role }) => `${name}: ${role}`);
  }
  /** Waits for these members, and until nobody else decides any more: in the middle of a change more are needed. */
  function rolesToBe(...wanted: string[]): Promise<unknown> {
    return eventually(`the members ${wanted.join(", ")}`, async () => {
      const { machine } = cluster.members[await cluster.leader()]!;
      const stored = machine.configuration();
      if (stored !== undefined) {
        const { voters: deciding, outgoing } = decodeConfiguration(stored.payload);
        const count = wanted.filter((each) => each.endsWith("voter")).length;
        if (outgoing.length > 0 || deciding.length !== count) return false;
      }
      return (await roles()).sort().join() === wanted.sort().join();
    });
  }
  /** Starts a new, empty master and has it added. */
  async function add(promote = true): Promise<number> {
    const place = await cluster.addMaster();
    await cluster.start(place);
    await (await cluster.leading()).addMember({ ...cluster.addressOf(place), promote });
    return place;
  }
  /** Has the leader do what it refuses for as long as the change before, or its own beginning, is not committed. */
  function afterOtherChanges(change: (leader: RaftNode) => Promise<unknown>): Promise<unknown> {
    return eventually("no other change to be under way", async () => {
      try {
        await change(await cluster.leading());
        return true;
      } catch (error) {
        if (hasCode(error, "Busy")) return false;
        throw error;
      }
    });
  }
  const voters = (count: number) =>
    Array.from({ length: count }, (_, i) => `master-${i + 1}: voter`);

  it("adds an empty master as a learner, which becomes a voter when it has caught up", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    for (let i = 0; i < 20; i++) await cluster.write(`entry ${i}`);
    const place = await add();
    await rolesToBe(...voters(4));
    await cluster.write("after");
    const texts = await cluster.converged();
    assert.equal(texts.length, 21);
    assert.deepEqual(cluster.members[place]!.machine.texts, texts);
    // Three of four are needed now, and the new one is one of them.
    const leader = await cluster.leader();
    await cluster.crash([0, 1, 2].find((each) => each !== leader)!);
    await cluster.write("with three of four");
  });

  it("tells where everybody listens, and who leads, from the log and not from the file", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    const place = await add();
    await rolesToBe(...voters(4));
    await (await cluster.leading()).transferLeadership("master-4");
    assert.equal(await cluster.leader(), place);
    for (const { node } of cluster.members) {
      await eventually("the new leader's address", () => {
        return node!.status.leaderRpcAddress === `127.0.0.1:${cluster.places[place]!.rpcPort}`;
      });
    }
    const shown = cluster.members[place]!.node!.members();
    assert.deepEqual(
      shown.map(({ name, isLeader, isActive }) => ({ name, isLeader, isActive })),
      [1, 2, 3, 4].map((i) => ({ name: `master-${i}`, isLeader: i === 4, isActive: true })),
    );
    assert.ok(shown.every(({ matchIndex }) => matchIndex !== undefined));
  });

  it("keeps a learner that was not to be promoted one, until it is asked to", async () => {
    cluster = await LoopbackCluster.make(1);
    await cluster.startAll();
    await add(false);
    await cluster.write("a");
    await cluster.converged();
    assert.deepEqual(await roles(), ["master-1: voter", "master-2: learner"]);
    const leader = await cluster.leading();
    await eventually("the promotion", async () => {
      await leader.promoteMember("master-2");
      return true;
    });
    assert.deepEqual(await roles(), voters(2));
  });

  it("grows from one to three and keeps what was written when the first one goes", async () => {
    cluster = await LoopbackCluster.make(1, { retainedEntries: 5 });
    await cluster.startAll();
    for (let i = 0; i < 50; i++) await cluster.write(`entry ${i}`);
    const { machine, journal } = cluster.members[0]!;
    machine.flush();
    await eventually("the log to be compacted", () => journal.state.baseIndex > 30);
    await add();
    await rolesToBe(...voters(2));
    await add();
    await rolesToBe(...voters(3));
    await cluster.crash(0);
    await cluster.write("without the first");
    await afterOtherChanges((leader) => leader.removeMember("master-1"));
    await rolesToBe("master-2: voter", "master-3: voter");
    assert.equal((await cluster.converged()).length, 51);
  });

  it("does not begin anything with an empty master until it is added, and says what to run", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    await cluster.write("a");
    const place = await cluster.addMaster();
    const { logger, said } = listening();
    const node = await cluster.start(place, { logger });
    let isReady = false;
    void node.ready.then(() => {
      isReady = true;
    });
    await eventually("a word on what to do", () =>
      said.some((each) => /weir cluster add master-4 --host 127.0.0.1 --raft-port \d+/.test(each)),
    );
    assert.equal(said.filter((each) => each.includes("master-1")).length, 1);
    assert.equal(node.status.stage, "joining");
    assert.equal(isReady, false);
    assert.equal(cluster.members[place]!.journal.state.nodeId, undefined);
    assert.throws(
      () => node.propose(Buffer.from("b")),
      (error) => hasCode(error, "NotLeader"),
    );
    await (await cluster.leading()).addMember({ ...cluster.addressOf(place), promote: true });
    await node.ready;
    assert.equal(node.status.stage, "member");
  });

  it("answers the same when asked again to add, and refuses a name that is taken", async () => {
    cluster = await LoopbackCluster.make(1);
    await cluster.startAll();
    const place = await add(false);
    const leader = await cluster.leading();
    const again = await leader.addMember({ ...cluster.addressOf(place), promote: false });
    assert.equal(again.nodeId, cluster.members[place]!.node!.status.nodeId);
    const elsewhere = { ...cluster.addressOf(place), raftPort: 1, promote: false };
    await assert.rejects(leader.addMember(elsewhere), (error) => hasCode(error, "AlreadyExists"));
    assert.equal(leader.members().length, 2);
  });

  it("admits a master whose first admission led to nothing", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    const place = await cluster.addMaster();
    await cluster.start(place);
    const leading = await cluster.leader();
    const leader = cluster.members[leading]!.node!;
    // Nobody to commit it: the leader gives up, and a later one has never heard of it.
    const others = [0, 1, 2].filter((each) => each !== leading);
    const asked = { ...cluster.addressOf(place), promote: true };
    const adding = leader.addMember(asked);
    await Promise.all(others.map((each) => cluster.crash(each)));
    await assert.rejects(adding, (error) => hasCode(error, "Unavailable"));
    await cluster.crash(leading);
    for (const each of others) await cluster.start(each);
    await cluster.write("a");
    await (await cluster.leading()).addMember(asked);
    await cluster.start(leading);
    await rolesToBe(...voters(4));
    await cluster.converged();
  });

  describe("a change asked for twice", () => {
    /** Asks twice while no follower's disk writes, and then lets the disks go on. */
    async function askTwice(
      stalled: readonly number[],
      ask: (leader: RaftNode) => Promise<unknown>,
    ): Promise<void> {
      const leader = await cluster.leading();
      const before = leader.status.lastIndex;
      const stalls = stalled.map((place) => {
        const { journal } = cluster.members[place]!;
        assert(journal instanceof MemoryJournal);
        return journal.stall();
      });
      const answers: string[] = [];
      const asking = [ask(leader).then(() => answers.push("first"))];
      await eventually("the entry", () => leader.status.lastIndex > before);
      await turns(10);
      asking.push(ask(leader).then(() => answers.push("second")));
      // All that does not wait for the disks has time to happen.
      await turns(500);
      assert.deepEqual(answers, []);
      for (const stall of stalls) stall.end();
      await Promise.all(asking);
    }
    async function turns(count: number): Promise<void> {
      for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
    }
    const others = async () => {
      const leader = await cluster.leader();
      return [0, 1, 2].filter((place) => place !== leader);
    };

    for (const kind of ["promotion", "removal of a learner"] as const) {
      it(`is not answered before it is committed: ${kind}`, async () => {
        cluster = await LoopbackCluster.make(3);
        await cluster.startAll();
        const place = await add(false);
        await cluster.write("a");
        await cluster.converged();
        await eventually("it to keep up", async () =>
          (await cluster.leading()).members().some((m) => m.name === "master-4" && m.isActive),
        );
        const stalled = [...(await others()), place];
        if (kind === "promotion") {
          await askTwice(stalled, (leader) => leader.promoteMember("master-4"));
          await rolesToBe(...voters(4));
        } else {
          await askTwice(stalled, (leader) => leader.removeMember("master-4"));
          await rolesToBe(...voters(3));
        }
      });
    }

    it("is not answered before it is committed: replacement", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.startAll();
      await cluster.write("a");
      await cluster.converged();
      const [kept, wiped] = await others();
      await cluster.crash(wiped!);
      cluster.wipe(wiped!);
      await cluster.start(wiped!);
      const { name } = cluster.places[wiped!]!;
      await askTwice([kept!], (leader) => leader.replaceMember(name, cluster.addressOf(wiped!)));
      await rolesToBe(...voters(3));
    });
  });

  it("refuses a master that has data of another cluster, or is another one than is meant", async () => {
    cluster = await LoopbackCluster.make(1);
    await cluster.startAll();
    const place = await cluster.addMaster();
    await cluster.start(place, { peers: [cluster.places[place]!] });
    await eventually("a cluster of its own", () => cluster.members[place]!.node!.clusterId);
    const leader = cluster.members[0]!.node!;
    await eventually("the lead", () => leader.status.role === "leader");
    const asked = { ...cluster.addressOf(place), promote: true };
    await assert.rejects(leader.addMember(asked), (error) => {
      assert.ok(hasCode(error, "InvalidArgument"));
      assert.match(error.message, /its data is of cluster .*remove its data directory and add it/);
      return true;
    });
    await assert.rejects(leader.addMember({ ...asked, name: "master-9" }), /here is "master-2"/);
    await assert.rejects(leader.addMember({ ...asked, name: "master-9", raftPort: 1 }), (error) =>
      hasCode(error, "Unavailable"),
    );
    assert.equal(leader.members().length, 1);
  });

  it("ends a master that is removed, and goes on without it", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    await cluster.write("a");
    const removed = ((await cluster.leader()) + 1) % 3;
    const { name } = cluster.places[removed]!;
    await (await cluster.leading()).removeMember(name);
    const fatal = await eventually("its end", () => cluster.members[removed]!.fatal);
    assert.ok(hasCode(fatal, "ConfigInvalid"));
    assert.match(fatal.message, new RegExp(`was removed from cluster "test".*cluster add ${name}`));
    await cluster.write("b");
    assert.equal((await roles()).length, 2);
    // And again when it is started again, from what it holds, with nobody there to tell it.
    cluster.members[removed]!.machine.flush();
    for (let place = 0; place < 3; place++) await cluster.crash(place);
    await cluster.start(removed);
    const again = await eventually("its end", () => cluster.members[removed]!.fatal);
    assert.match(again.message, /was removed from cluster "test", as its own state tells/);
  });

  it("ends a master that was added and removed when it is started again, with nobody there to tell it", async () => {
    cluster = await LoopbackCluster.make(1, { retainedEntries: 5 });
    await cluster.startAll();
    const place = await add();
    await rolesToBe(...voters(2));
    const member = cluster.members[place]!;
    await afterOtherChanges((leader) => leader.removeMember("master-2"));
    await eventually("its end", () => member.fatal);
    // Nothing is left of the log that had it as a member.
    member.machine.flush();
    await cluster.crash(place);
    await cluster.crash(0);
    const { appliedIndex: index, appliedTerm: term } = member.machine;
    await member.journal.reset(index as Index, term as Term);
    await cluster.start(place);
    const again = await eventually("its end", () => member.fatal);
    assert.match(again.message, /was removed from cluster "test", as its own state tells/);
  });

  it("tells a master that was away while it was removed", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    await cluster.write("a");
    const removed = ((await cluster.leader()) + 1) % 3;
    await cluster.crash(removed);
    const term = (await cluster.leading()).status.term;
    await (await cluster.leading()).removeMember(cluster.places[removed]!.name);
    await cluster.write("b");
    await cluster.start(removed);
    const fatal = await eventually("its end", () => cluster.members[removed]!.fatal);
    assert.match(fatal.message, /was removed from cluster "test", as "master-\d" says/);
    await cluster.write("c");
    assert.equal((await cluster.leading()).status.term, term, "it disturbed the others");
  });

  describe("one that crashed before its state knew that it was a member, and was removed while it was away", () => {
    /** It has the log and no state; those who removed it have forgotten it. */
    async function removeAway(promote: boolean): Promise<number> {
      cluster = await LoopbackCluster.make(3);
      await cluster.startAll();
      await cluster.write("a");
      const place = await add(promote);
      await rolesToBe(...voters(3), `master-4: ${promote ? "voter" : "learner"}`);
      await cluster.write("b");
      await cluster.converged();
      await cluster.crash(place);
      assert.equal(cluster.members[place]!.machine.appliedIndex, 0);
      await afterOtherChanges((leader) => leader.removeMember("master-4"));
      await cluster.write("c");
      await cluster.converged();
      // A leader of another reign has no word for who has left.
      for (const founder of [0, 1, 2]) {
        cluster.members[founder]!.machine.flush();
        await cluster.crash(founder);
      }
      for (const founder of [0, 1, 2]) await cluster.start(founder);
      await cluster.leader();
      return place;
    }

    it("ends, where its log shows that it was one", async () => {
      const place = await removeAway(true);
      await cluster.start(place);
      const fatal = await eventually("its end", () => cluster.members[place]!.fatal);
      assert.match(fatal.message, /was removed from cluster "test", as "master-\d" says/);
    });

    it("says what to do, where it may be yet to be added, and is added then", async () => {
      const place = await removeAway(false);
      const { logger, said } = listening();
      await cluster.start(place, { logger });
      await eventually("a word on what to do", () =>
        said.some((each) =>
          /^Cannot work with master "master-\d": it does not know "master-4" .*weir cluster add master-4/.test(
            each,
          ),
        ),
      );
      assert.equal(cluster.members[place]!.fatal, undefined);
      await afterOtherChanges((leader) =>
        leader.addMember({ ...cluster.addressOf(place), promote: true }),
      );
      await rolesToBe(...voters(4));
      assert.deepEqual(await cluster.converged(), ["a", "b", "c"]);
    });
  });

  it("says nothing of the sort to a voter that has lost its majority, though who is left does not know it yet", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    await cluster.write("a");
    const behind = ((await cluster.leader()) + 1) % 3;
    await cluster.crash(behind);
    const place = await add();
    await eventually("it to be a voter", async () => (await roles()).includes("master-4: voter"));
    await cluster.write("b");
    await cluster.converged();
    for (const each of [0, 1, 2, place]) if (each !== behind) await cluster.crash(each);
    await cluster.start(behind);
    let looks = 0;
    const electionTicks = 6;
    const clock: Clock = {
      ...{ monotonicMs: () => systemClock.monotonicMs(), wallMs: () => systemClock.wallMs() },
      after: (delayMs, callback) =>
        systemClock.after(delayMs, () => {
          if (delayMs === idleTimeouts * electionTicks * 10) looks++;
          callback();
        }),
    };
    const { logger, said } = listening();
    await cluster.start(place, { clock, logger, electionTicks, heartbeatTicks: 2 });
    await eventually("it to have looked", () => looks >= 3);
    assert.deepEqual(said, []);
    // It knows that it is one, and the others are told when they are back.
    for (const each of [0, 1, 2]) if (each !== behind) await cluster.start(each);
    await rolesToBe(...voters(4));
  });

  it("removes the leader itself, and another one follows", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    await cluster.write("a");
    const removed = await cluster.leader();
    await cluster.members[removed]!.node!.removeMember(cluster.places[removed]!.name);
    await eventually("its end", () => cluster.members[removed]!.fatal);
    await cluster.write("b");
    assert.notEqual(await cluster.leader(), removed);
    assert.equal((await roles()).length, 2);
  });

  it("R19: has a member that lags hear a leader that it does not know yet", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    await cluster.write("a");
    const behind = ((await cluster.leader()) + 1) % 3;
    await cluster.crash(behind);
    const place = await add();
    await eventually("it to be a voter", async () => (await roles()).includes("master-4: voter"));
    // The heir's votes may come too late on a machine that is busy; another one leads then.
    await eventually("it to lead", async () => {
      if ((await cluster.leader()) === place) return true;
      await (await cluster.leading()).transferLeadership("master-4").catch(() => undefined);
      return (await cluster.leader()) === place;
    });
    const { logger, said } = listening();
    await cluster.start(behind, { logger });
    await cluster.write("b");
    assert.deepEqual(await cluster.converged(), ["a", "b"]);
    assert.equal(await cluster.leader(), place);
    assert.equal(cluster.members[place]!.fatal, undefined);
    assert.deepEqual(said, []);
  });

  it("starts from the members of the log, whatever the file says", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    const place = await add();
    await rolesToBe(...voters(4));
    await afterOtherChanges((leader) => leader.removeMember("master-1"));
    await eventually("its end", () => cluster.members[0]!.fatal);
    for (const member of cluster.members) member.machine.flush();
    for (let each = 0; each < 4; each++) await cluster.crash(each);
    // The files of master-2 and master-3 still list master-1, and none lists master-4 but its own.
    for (const each of [1, 2, place]) await cluster.start(each);
    await cluster.write("a");
    await rolesToBe("master-2: voter", "master-3: voter", "master-4: voter");
  });

  it("finds members that have all moved since the log wrote down where they are, by the files", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.startAll();
    await add(false);
    await cluster.write("a");
    await cluster.converged();
    await afterOtherChanges((leader) => leader.removeMember("master-4"));
    await eventually("its end", () => cluster.members[3]!.fatal);
    await cluster.converged();
    for (const { machine } of cluster.members) machine.flush();
    for (let place = 0; place < 4; place++) await cluster.crash(place);
    const ports = await freePorts(3);
    const peers = cluster.peers.map((peer, place) => ({ ...peer, port: ports[place]! }));
    for (const place of [0, 1, 2]) await cluster.start(place, { peers, listen: peers[place]! });
    await cluster.write("b");
    assert.deepEqual(await cluster.converged(), ["a", "b"]);
    // And the log learns it, of the leader too.
    await eventually("the new addresses", () =>
      cluster.members
        .slice(0, 3)
        .every(({ node }) =>
          node!
            .members()
            .every(({ name, raftPort }) =>
              peers.some((peer) => peer.name === name && peer.port === raftPort),
            ),
        ),
    );
  });

  describe("one that has moved", () => {
    /** Starts a follower again as if on another machine: only its own file knows where it is now. */
    async function moveFollower(
      change: (other: Peer) => Partial<Peer> = () => ({}),
      options: Partial<RaftNodeOptions> = {},
    ): Promise<Peer> {
      const leader = await cluster.leader();
      const [place, other] = [0, 1, 2].filter((each) => each !== leader) as [number, number];
      const [port] = await freePorts(1);
      const moved = {
        ...cluster.places[place]!,
        port: port!,
        rpcPort: 20_001,
        ...change(cluster.places[other]!),
      };
      await cluster.crash(place);
      const peers = cluster.peers.map((peer) => (peer.name === moved.name ? moved : peer));
      await cluster.start(place, { peers, listen: { host: moved.host, port: port! }, ...options });
      return moved;
    }
    const known = (name: string) =>
      cluster.members.flatMap(({ node }) => {
        const member = node?.members().find((each) => each.name === name);
        return member === undefined ? [] : [`${member.raftPort} ${member.rpcPort}`];
      });

    it("is known where it is now to all, in one entry, though only its own file says so", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.startAll();
      await cluster.write("a");
      await cluster.converged();
      const moved = await moveFollower();
      const wanted = `${moved.port} ${moved.rpcPort!}`;
      await eventually("its new address", () =>
        [0, 1, 2].every((i) => known(moved.name)[i] === wanted),
      );
      await (await cluster.leading()).transferLeadership(moved.name);
      await cluster.leader();
      for (const { node } of cluster.members) {
        await eventually("clients to be sent there", () => {
          return node!.status.leaderRpcAddress === `127.0.0.1:${moved.rpcPort!}`;
        });
      }
      const place = await add();
      await rolesToBe(...voters(4));
      const shown = cluster.members[place]!.node!.members();
      assert.equal(shown.find(({ name }) => name === moved.name)!.raftPort, moved.port);
      const { items } = cluster.members[place]!.machine;
      const changes = items.filter(({ configuration }) => configuration !== undefined);
      // The move, the learner, and its promotion in two steps.
      assert.equal(changes.length, 4);
    });

    it("may have exchanged addresses with others, and all know who is where", async () => {
      const { logger, said } = listening();
      cluster = await LoopbackCluster.make(3, { logger });
      await cluster.startAll();
      await add();
      await rolesToBe(...voters(4));
      await cluster.write("a");
      await cluster.converged();
      for (let place = 0; place < 4; place++) await cluster.crash(place);
      // Each but the last is where the next one was, as containers that are started again may be.
      const peers = cluster.places.map(({ name }, place) => {
        return { ...cluster.places[place < 3 ? (place + 1) % 3 : place]!, name };
      });
      for (let place = 0; place < 4; place++) {
        await cluster.start(place, { peers, listen: peers[place]!, logger });
      }
      await cluster.write("b");
      const wanted = peers.map(({ port, rpcPort }) => `${port} ${rpcPort!}`);
      await eventually("the new addresses", () =>
        peers.every(({ name }, i) => known(name).every((where) => where === wanted[i])),
      );
      assert.deepEqual(await cluster.converged(), ["a", "b"]);
      assert.deepEqual(
        said.filter((each) => each.includes("Cannot move")),
        [],
      );
    });

    it("is known by the port for clients that it says, when only that one is another", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.startAll();
      await cluster.write("a");
      const leader = await cluster.leader();
      const place = (leader + 1) % 3;
      const moved = { ...cluster.places[place]!, rpcPort: 20_002 };
      await cluster.crash(place);
      const peers = cluster.peers.map((peer) => (peer.name === moved.name ? moved : peer));
      await cluster.start(place, { peers });
      await eventually("its new port", () =>
        [0, 1, 2].every((i) => known(moved.name)[i] === `${moved.port} 20002`),
      );
    });

    it("is refused an address that is another member's, in words", async () => {
      const { logger, said } = listening();
      cluster = await LoopbackCluster.make(3, { logger });
      await cluster.startAll();
      await cluster.write("a");
      const before = cluster.places.map(({ port, rpcPort }) => `${port} ${rpcPort!}`);
      const moved = await moveFollower(({ rpcPort }) => ({ rpcPort: rpcPort! }));
      await eventually("the refusal", () =>
        said.some((each) =>
          new RegExp(
            `Cannot move "${moved.name}" to "127.0.0.1:${moved.port}": clients find "master-\\d" at`,
          ).test(each),
        ),
      );
      const place = cluster.places.findIndex(({ name }) => name === moved.name);
      assert.ok(known(moved.name).includes(before[place]!));
    });

    it("stays where the log has it as long as it is found there, whatever its file calls that", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.startAll();
      const leader = await cluster.leader();
      const place = (leader + 1) % 3;
      const alias = { ...cluster.places[place]!, host: "localhost", rpcPort: 20_003 };
      await cluster.crash(place);
      const peers = cluster.peers.map((peer) => (peer.name === alias.name ? alias : peer));
      await cluster.start(place, { peers });
      await cluster.write("a");
      // Another one, which has moved, shows that the leader has looked.
      const third = [0, 1, 2].find((each) => each !== leader && each !== place)!;
      const moved = { ...cluster.places[third]!, rpcPort: 20_004 };
      await cluster.crash(third);
      const others = cluster.peers.map((peer) => (peer.name === moved.name ? moved : peer));
      await cluster.start(third, { peers: others });
      await eventually("the move of the other", () => known(moved.name)[leader]?.endsWith("20004"));
      const { host } = (await cluster.leading())
        .members()
        .find((each) => each.name === alias.name)!;
      assert.equal(host, "127.0.0.1");
    });
  });

  it("refuses changes while a member runs a version that does not know them", async () => {
    cluster = await LoopbackCluster.make(3);
    await cluster.start(0);
    await cluster.start(1);
    await cluster.start(2, { versions: { oldest: 1, newest: 1 } });
    await cluster.write("a");
    await cluster.converged();
    const place = await cluster.addMaster();
    await cluster.start(place);
    const { node } = cluster.members[await cluster.leader()]!;
    const asked = { ...cluster.addressOf(place), promote: true };
    const leader = await cluster.leader();
    if (leader === 2) await node!.transferLeadership("master-1");
    await eventually("the refusal", async () => {
      const error: unknown = await (await cluster.leading())
        .addMember(asked)
        .catch((e: unknown) => e);
      return hasCode(error, "NotSupported") && /"master-3" runs a version/.test(error.message);
    });
    await cluster.crash(2);
    await cluster.start(2);
    await eventually("the upgraded one to do", async () => {
      await (await cluster.leading()).addMember(asked);
      return true;
    });
    await rolesToBe(...voters(4));
  });

  describe("a master that lost its data", () => {
    it("is refused under its old id, says the way back, and comes back by a replacement", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.startAll();
      await cluster.write("a");
      const wiped = ((await cluster.leader()) + 1) % 3;
      const { name } = cluster.places[wiped]!;
      const before = cluster.members[wiped]!.node!.status.nodeId;
      await cluster.crash(wiped);
      cluster.wipe(wiped);
      const { logger, said } = listening();
      await cluster.start(wiped, { logger });
      await eventually("the way back", () =>
        said.some((each) =>
          new RegExp(
            `knows that name as node ${before}, whose data is not here.*cluster replace ${name}`,
          ).test(each),
        ),
      );
      assert.equal(cluster.members[wiped]!.journal.state.nodeId, undefined);
      await cluster.write("b");
      const member = await (await cluster.leading()).replaceMember(name, cluster.addressOf(wiped));
      assert.notEqual(member.nodeId, before);
      await rolesToBe(...voters(3));
      assert.deepEqual(await cluster.converged(), ["a", "b"]);
      assert.equal(cluster.members[wiped]!.node!.status.nodeId, member.nodeId);
      const again = await (await cluster.leading()).replaceMember(name, cluster.addressOf(wiped));
      assert.equal(again.nodeId, member.nodeId);
    });

    it("is replaced though the leader dies in the middle: the next one finishes it, and answers the same when asked", async () => {
      cluster = await LoopbackCluster.make(5);
      await cluster.startAll();
      await cluster.write("a");
      const leader = await cluster.leader();
      const [wiped, witness] = [(leader + 1) % 5, (leader + 2) % 5] as const;
      const { name } = cluster.places[wiped]!;
      const before = cluster.members[wiped]!.node!.status.nodeId;
      await cluster.crash(wiped);
      cluster.wipe(wiped);
      await cluster.start(wiped);
      const asked = cluster.addressOf(wiped);
      const answer = cluster.members[leader]!.node!.replaceMember(name, asked).catch(
        (error: unknown) => error,
      );
      const isBegun = () =>
        cluster.members[witness]!.node!.members().some(
          (each) => each.name === name && each.nodeId !== before,
        );
      await eventually("the change to begin", isBegun);
      await cluster.crash(leader);
      await answer;
      await rolesToBe(...voters(5));
      const again = await (await cluster.leading()).replaceMember(name, asked);
      assert.equal(again.nodeId, cluster.members[wiped]!.node!.status.nodeId);
      assert.notEqual(again.nodeId, before);
      await cluster.start(leader);
      assert.deepEqual(await cluster.converged(), ["a"]);
    });

    it("may be replaced by one at another place, even if the old one is still there", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.startAll();
      await cluster.write("a");
      const old = ((await cluster.leader()) + 1) % 3;
      const place = await cluster.addMaster(cluster.places[old]!.name);
      await cluster.start(place, {
        peers: [...cluster.peers.filter((_, i) => i !== old), cluster.places[place]!],
      });
      await (await cluster.leading()).replaceMember(
        cluster.places[old]!.name,
        cluster.addressOf(place),
      );
      await eventually("the old one's end", () => cluster.members[old]!.fatal);
      await rolesToBe(...voters(3));
      assert.deepEqual(await cluster.converged(), ["a"]);
    });
  });

  describe("forming", () => {
    it("begins no second cluster where some masters hold data and most lost theirs", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.startAll();
      await cluster.write("a");
      for (let place = 0; place < 3; place++) await cluster.crash(place);
      cluster.wipe(0);
      cluster.wipe(1);
      const { logger, said } = listening();
      await cluster.start(0, { logger });
      await cluster.start(1);
      await cluster.start(2);
      await eventually("the holder of data to be named", () =>
        said.some((each) => /"master-3" knows that name as node/.test(each)),
      );
      assert.equal(cluster.members[0]!.node!.clusterId, undefined);
      assert.equal(cluster.members[1]!.node!.clusterId, undefined);
      assert.equal(cluster.members[2]!.node!.status.leaderName, undefined);
    });

    it("goes on when a master crashes between writing its admission and taking part", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.startAll();
      const place = await add(false);
      const { nodeId, clusterId, members } = cluster.members[place]!.journal.state;
      await (await cluster.leading()).removeMember("master-4");
      await cluster.crash(place);
      cluster.wipe(place);
      // As a crash would leave it: who it is, and no term yet.
      await cluster.members[place]!.journal.initialize({
        nodeId: `${nodeId}-again`,
        clusterId: clusterId!,
        members,
      });
      await cluster.crash(1);
      const node = await cluster.start(place);
      // Until it has read its log it cannot tell whether it was a member.
      await eventually("it to take part", () => node.members().length > 0);
      const leader = await eventually(
        "a leader",
        () => cluster.members.find((each) => each.node?.status.role === "leader")?.node,
      );
      await leader.addMember({ ...cluster.addressOf(place), promote: false });
      await cluster.write("a");
      assert.deepEqual(await cluster.converged(), ["a"]);
    });
  });
});
