import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { sleep } from "../../src/lib/clock.ts";
import { eventually } from "../lib/eventually.ts";
import { type Logger, silentLogger } from "../../src/lib/logger.ts";
import type { RaftNodeOptions } from "../../src/raft/node.ts";
import { LoopbackCluster } from "./lib/loopback-cluster.ts";
import { RaftProxy } from "./lib/raft-proxy.ts";

const text = "x".repeat(64 * 1024);

describe("raft node: snapshots", function () {
  this.timeout(60_000);
  let cluster: LoopbackCluster;
  let proxies: RaftProxy[] = [];
  afterEach(async () => {
    for (const proxy of proxies.splice(0)) await proxy.stop();
    await cluster.stop();
  });

  /**
   * A cluster whose last `behind` members miss `count` large entries that the logs of the others have forgotten. All that
   * is sent to one of those passes its proxy.
   */
  async function withFollowersBehind(options: {
    masters: number;
    behind: number;
    count: number;
    versions?: RaftNodeOptions["versions"];
    logger?: Logger;
  }): Promise<{ late: number[]; startLate: () => Promise<void> }> {
    const { masters, behind, count, versions, logger = silentLogger } = options;
    cluster = await LoopbackCluster.make(masters, { retainedEntries: 5 });
    const late = Array.from({ length: behind }, (_, i) => masters - behind + i);
    proxies = await Promise.all(late.map((place) => RaftProxy.start(cluster.places[place]!.port)));
    const peers = cluster.peers.map((peer, place) => {
      const proxy = proxies[late.indexOf(place)];
      return proxy === undefined ? peer : { ...peer, port: proxy.port };
    });
    const lateOptions = versions === undefined ? {} : { versions };
    const early = cluster.members.map((_, place) => place).filter((each) => !late.includes(each));
    await Promise.all(early.map((place) => cluster.start(place, { peers, logger })));
    await Promise.all(late.map((place) => cluster.start(place, lateOptions)));
    await cluster.write("first");
    for (const place of late) {
      if ((await cluster.leader()) === place) {
        await (await cluster.leading()).transferLeadership(cluster.places[early[0]!]!.name);
      }
    }
    for (const place of late) await cluster.crash(place);
    const leader = await cluster.leading();
    for (let i = 0; i < count; i++) {
      await eventually("room for an entry", () => {
        leader.propose(Buffer.from(`${i} ${text}`));
        return true;
      });
    }
    await eventually("all to be applied", () =>
      early.every((place) => cluster.members[place]!.machine.texts.length === count + 1),
    );
    for (const place of early) cluster.members[place]!.machine.flush();
    await eventually("the logs to be compacted", () =>
      early.every((place) => cluster.members[place]!.journal.state.baseIndex > count / 2),
    );
    return {
      late,
      startLate: async () => {
        await Promise.all(late.map((place) => cluster.start(place, lateOptions)));
      },
    };
  }

  it("lets heartbeats and writes pass while a large one is on a slow connection, within bounded memory", async () => {
    const { startLate } = await withFollowersBehind({ masters: 3, behind: 1, count: 300 });
    const proxy = proxies[0]!;
    proxy.bytesPer10Ms = 128 * 1024;
    const leading = cluster.members[await cluster.leader()]!;
    const { term } = leading.node!.status;
    await startLate();
    await eventually("the snapshot to be on its way", () => proxy.allSnapshotBytes > 1024 * 1024);
    const before = proxy.messagePieces;
    await cluster.write("meanwhile");
    await eventually("heartbeats", () => proxy.messagePieces > before + 10);
    assert.equal(proxy.openSnapshots, 1, "the snapshot was through before anything was seen");
    // What the kernels of both ends hold, and what the sender and the proxy do.
    const ahead = leading.machine.snapshotBytesRead - proxy.allSnapshotBytes;
    assert.ok(ahead < 16 * 1024 * 1024, `the sender is ${ahead} bytes ahead of the connection`);
    assert.equal(leading.node!.status.term, term);
    assert.equal((await cluster.converged()).length, 302);
    assert.equal(leading.node!.status.term, term);
    assert.equal(proxy.snapshotBytes.length, 1);
  });

  it("goes on at the chunk where the connection broke", async () => {
    const { startLate, late } = await withFollowersBehind({ masters: 3, behind: 1, count: 100 });
    const proxy = proxies[0]!;
    proxy.cutAt = 4 * 1024 * 1024;
    await startLate();
    assert.equal((await cluster.converged()).length, 101);
    const size = cluster.members[await cluster.leader()]!.machine.snapshotBytes;
    assert.equal(proxy.snapshotBytes.length, 2);
    assert.ok(proxy.allSnapshotBytes < size + 1024 * 1024, `${proxy.allSnapshotBytes} of ${size}`);
    assert.ok(!existsSync(cluster.spoolOf(late[0]!)));
  });

  it("sends a chunk again whose byte was flipped on the way", async () => {
    const { startLate } = await withFollowersBehind({ masters: 3, behind: 1, count: 100 });
    const proxy = proxies[0]!;
    proxy.flipAt = 4 * 1024 * 1024;
    await startLate();
    const texts = await cluster.converged();
    assert.deepEqual(
      texts.slice(1),
      Array.from({ length: 100 }, (_, i) => `${i} ${text}`),
    );
    for (const { machine } of cluster.members) assert.deepEqual(machine.texts, texts);
    assert.equal(proxy.flipAt, undefined);
    assert.equal(proxy.snapshotBytes.length, 2);
    const size = cluster.members[0]!.machine.snapshotBytes;
    // What was in the kernels' buffers behind the damage went twice.
    assert.ok(proxy.snapshotBytes[1]! < size - 3 * 1024 * 1024);
  });

  it("leaves nothing behind when the sender dies, and takes the next leader's", async () => {
    const { startLate, late } = await withFollowersBehind({ masters: 3, behind: 1, count: 300 });
    const proxy = proxies[0]!;
    proxy.bytesPer10Ms = 64 * 1024;
    const leading = await cluster.leader();
    await startLate();
    const spool = cluster.spoolOf(late[0]!);
    await eventually("the snapshot to be on its way", () => existsSync(spool));
    await cluster.crash(leading);
    proxy.bytesPer10Ms = undefined;
    await cluster.write("after");
    assert.equal((await cluster.converged()).length, 302);
    assert.notEqual(await cluster.leader(), leading);
    await eventually("the file to be gone", () => !existsSync(spool));
  });

  it("removes what came in when the receiver stops", async () => {
    const { startLate, late } = await withFollowersBehind({ masters: 3, behind: 1, count: 300 });
    proxies[0]!.bytesPer10Ms = 64 * 1024;
    await startLate();
    const spool = cluster.spoolOf(late[0]!);
    await eventually("the snapshot to be on its way", () => existsSync(spool));
    await cluster.crash(late[0]!);
    await eventually("the file to be gone", () => !existsSync(spool));
    proxies[0]!.bytesPer10Ms = undefined;
    await cluster.start(late[0]!);
    assert.equal((await cluster.converged()).length, 301);
  });

  it("serves several followers at once, each with one", async () => {
    const { startLate } = await withFollowersBehind({ masters: 5, behind: 2, count: 100 });
    for (const proxy of proxies) proxy.bytesPer10Ms = 64 * 1024;
    await startLate();
    await eventually("both to be on their way", () =>
      proxies.every((proxy) => proxy.openSnapshots === 1),
    );
    for (const proxy of proxies) proxy.bytesPer10Ms = undefined;
    assert.equal((await cluster.converged()).length, 101);
    for (const proxy of proxies) assert.equal(proxy.snapshotBytes.length, 1);
  });

  it("does not go to a master of the first version, which could not read it, but does once that is upgraded", async () => {
    const versions = { oldest: 1, newest: 1 };
    const said: string[] = [];
    const warn = (fields: object) => said.push(JSON.stringify(fields));
    const { late, startLate } = await withFollowersBehind({
      ...{ masters: 3, behind: 1, count: 50, versions },
      logger: { ...silentLogger, warn },
    });
    await startLate();
    const isSaid = () => said.filter((each) => /master-3.*upgrade it first/.test(each)).length;
    await eventually("a word on what to do", isSaid);
    await cluster.write("without it");
    assert(cluster.members[late[0]!]!.machine.texts.length <= 1);
    assert.equal(isSaid(), 1);
    await cluster.crash(late[0]!);
    await cluster.start(late[0]!);
    assert.equal((await cluster.converged()).length, 52);
  });

  it("is followed by the log, not by another one, though more is written meanwhile than is kept", async () => {
    cluster = await LoopbackCluster.make(3, { retainedEntries: 20 });
    proxies = [];
    await cluster.startAll();
    await cluster.write("first");
    await cluster.converged();
    const leading = cluster.members[await cluster.leader()]!;
    const late = ((await cluster.leader()) + 1) % 3;
    await cluster.crash(late);
    let isOver = false;
    const writing = (async () => {
      while (!isOver) {
        leading.node!.propose(Buffer.from("x".repeat(50_000)));
        for (const { node, machine } of cluster.members) if (node !== undefined) machine.flush();
        await sleep(10);
      }
    })();
    await eventually("the log to be compacted", () => leading.journal.state.baseIndex > 50);
    const { machine } = cluster.members[late]!;
    const install = machine.install.bind(machine);
    const installed: number[] = [];
    machine.install = async (meta, chunks) => {
      await eventually("more to be written than is kept", () => {
        return leading.machine.appliedIndex > meta.index + 60;
      });
      await install(meta, chunks);
      installed.push(meta.index);
    };
    await cluster.start(late);
    await eventually(
      "it to have caught up",
      () => installed.length > 1 || leading.machine.appliedIndex - machine.appliedIndex < 10,
      20_000,
    );
    assert.equal(installed.length, 1);
    // It holds the log back no more.
    await eventually("the log to be compacted again", () => {
      return leading.journal.state.baseIndex > installed[0]!;
    });
    isOver = true;
    await writing;
  });

  it("brings the members that were active where it was taken", async () => {
    const { startLate, late } = await withFollowersBehind({ masters: 3, behind: 1, count: 20 });
    const place = await cluster.addMaster();
    await cluster.start(place);
    await (await cluster.leading()).addMember({ ...cluster.addressOf(place), promote: true });
    await eventually("the promotion", async () =>
      (await cluster.leading()).members().some((m) => m.name === "master-4" && m.role === "voter"),
    );
    await cluster.write("after");
    for (let i = 0; i < 20; i++) await cluster.write(`more ${i}`);
    const applied = cluster.members[await cluster.leader()]!.machine.appliedIndex;
    for (const { machine } of cluster.members) machine.flush();
    await eventually("the logs to be compacted", () =>
      [0, 1, place].every((each) => cluster.members[each]!.journal.state.baseIndex > applied - 15),
    );
    await startLate();
    await cluster.converged();
    const { node } = cluster.members[late[0]!]!;
    const wanted = [1, 2, 3, 4].map((i) => `master-${i} voter`).join();
    // The state machine has the snapshot a moment before the node goes by it.
    await eventually("the members", () => {
      const names = node!.members().map(({ name, role }) => `${name} ${role}`);
      return names.sort().join() === wanted;
    });
  });
});
