/** Masters among others that do not fit: mistyped names, old versions, data that is nobody's any more. */
import assert from "node:assert/strict";
import { hasCode } from "../../src/lib/errors.ts";
import { type Logger, silentLogger } from "../../src/lib/logger.ts";
import { spokenVersions } from "../../src/raft/host/handshake.ts";
import { eventually } from "../lib/eventually.ts";
import { LoopbackCluster } from "./lib/loopback-cluster.ts";

/** Keeps what is said loudly. */
function listening(): { logger: Logger; said: string[] } {
  const said: string[] = [];
  const note = (_fields: object, message: string) => said.push(message);
  return { said, logger: { ...silentLogger, warn: note, error: note } };
}

describe("raft node: misfits", function () {
  this.timeout(60_000);
  let cluster: LoopbackCluster;
  afterEach(() => cluster.stop());

  const mistyped = { clusterName: "tets" };

  /** Starts `place` with a typing error in its file, and waits until a master has heard its refusal. */
  async function startMistyped(place: number, said: readonly string[]): Promise<void> {
    await cluster.start(place, mistyped);
    const refused = `Cannot connect to "master-${place + 1}": it refused this master`;
    await eventually(refused, () => said.some((each) => each.includes(refused)));
  }

  describe("that refuse it", () => {
    it("do not end a master as long as a quorum takes it", async () => {
      const { logger, said } = listening();
      cluster = await LoopbackCluster.make(5, { logger });
      await cluster.startAll();
      await cluster.write("a");
      await cluster.converged();
      for (const { machine } of cluster.members) machine.flush();
      for (const place of [3, 4]) await cluster.crash(place);
      await cluster.write("b");
      for (const place of [3, 4]) await startMistyped(place, said);
      // Those whose file is wrong are refused by a majority, and end.
      await eventually("the end of those", () =>
        [3, 4].every((place) => cluster.members[place]!.fatal !== undefined),
      );
      await cluster.write("c");
      const fatals = cluster.members.slice(0, 3).map(({ fatal }) => fatal);
      assert.deepEqual(fatals, [undefined, undefined, undefined]);
    });

    it("are forgotten when they do not any more", async () => {
      const { logger, said } = listening();
      cluster = await LoopbackCluster.make(3);
      for (const place of [0, 1, 2]) await cluster.start(place, place === 0 ? { logger } : {});
      await cluster.write("a");
      await cluster.converged();
      for (const place of [2, 1]) {
        await cluster.crash(place);
        await startMistyped(place, said);
        await cluster.crash(place);
        // Mended.
        await cluster.start(place);
        await cluster.write(`after ${place}`);
        await cluster.converged();
      }
      assert.equal(cluster.members[0]!.fatal, undefined);
    });

    it("do not count when they have no data that could be right", async () => {
      const { logger, said } = listening();
      cluster = await LoopbackCluster.make(3);
      for (const place of [0, 1, 2]) await cluster.start(place, place === 0 ? { logger } : {});
      await cluster.write("a");
      await cluster.converged();
      for (const place of [1, 2]) {
        await cluster.crash(place);
        cluster.wipe(place);
        await startMistyped(place, said);
      }
      assert.equal(cluster.members[0]!.fatal, undefined);
    });
  });

  describe("of the first version", () => {
    const first = { versions: { oldest: 1, newest: 1 } };

    it("get nothing once the members have changed, even if they were away meanwhile, until they are upgraded", async () => {
      const { logger, said } = listening();
      cluster = await LoopbackCluster.make(3);
      await cluster.start(0, { logger });
      await cluster.start(1, { logger });
      await cluster.start(2, first);
      await cluster.write("a");
      await cluster.converged();
      cluster.members[2]!.machine.flush();
      await cluster.crash(2);
      await cluster.write("b");
      const place = await cluster.addMaster();
      await cluster.start(place);
      const leading = await cluster.leading();
      await leading.addMember({ ...cluster.addressOf(place), promote: true });
      await cluster.start(2, first);
      await eventually("a word on what to do", () =>
        said.some((each) => /"master-3".* version 1 .*upgrade it first/.test(each)),
      );
      await eventually("the promotion", () =>
        leading.members().some(({ name, role }) => name === "master-4" && role === "voter"),
      );
      const { items } = cluster.members[2]!.machine;
      assert.deepEqual(
        items.filter(({ text }) => text === "b"),
        [],
      );
      assert(items.every(({ configuration }) => configuration === undefined));
      await cluster.crash(2);
      await cluster.start(2);
      await cluster.write("c");
      assert.deepEqual(await cluster.converged(), ["a", "b", "c"]);
    });

    it("count while they are away, and are not shut out by the move of another, which waits for them", async () => {
      const waiting: string[] = [];
      const debug = ({ error = "" }: { error?: string }, message: string) => {
        if (message === "moves wait") waiting.push(error);
      };
      cluster = await LoopbackCluster.make(3, { logger: { ...silentLogger, debug } });
      await cluster.start(0);
      await cluster.start(1);
      await cluster.start(2, first);
      await cluster.write("a");
      await cluster.converged();
      await cluster.crash(2);
      const moved = { ...cluster.places[1]!, rpcPort: 20_001 };
      const peers = cluster.peers.map((peer) => (peer.name === moved.name ? moved : peer));
      await cluster.crash(1);
      await cluster.start(1, { peers });
      const isWritten = () =>
        cluster.members.some(({ machine }) => machine.configuration() !== undefined);
      /** The one that has moved is no leader to wait for: its own file has it where it is. */
      const underTheOther = (what: string, isSo: () => boolean) =>
        eventually(what, async () => {
          if (isSo()) return true;
          const leading = await cluster.leading();
          if (leading === cluster.members[1]!.node) await leading.transferLeadership("master-1");
          return false;
        });
      await cluster.write("b");
      await underTheOther("a look at the move", () => waiting.length > 0 || isWritten());
      assert(!isWritten());
      assert.match(waiting[0]!, /"master-3" is away, and may run a version .* upgrade it first/);
      await cluster.start(2, first);
      assert.deepEqual(await cluster.converged(), ["a", "b"]);
      await cluster.crash(2);
      await cluster.start(2);
      await underTheOther("the move", isWritten);
      assert.deepEqual(await cluster.converged(), ["a", "b"]);
    });
  });

  describe("of the second version", () => {
    const second = { versions: { oldest: 1, newest: 2 } };

    it("hold back what they cannot read, also while they are away, until they are upgraded", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.start(0);
      await cluster.start(1);
      await cluster.start(2, second);
      await cluster.write("a");
      const { node } = cluster.members[0]!;
      await eventually("all to be known", () => node!.oldestVersion === 2);
      await cluster.crash(2);
      await cluster.write("b");
      assert.equal(node!.oldestVersion, 2);
      await cluster.start(2);
      await eventually("the upgrade", () => node!.oldestVersion === spokenVersions.newest);
      // What it was last counts for who saw it, and the oldest that may come for who did not.
      await cluster.crash(2);
      assert.equal(node!.oldestVersion, spokenVersions.newest);
      await cluster.crash(0);
      const again = await cluster.start(0);
      await cluster.write("c");
      assert.equal(again.oldestVersion, spokenVersions.oldest);
    });

    it("are not added where the others are upgraded", async () => {
      cluster = await LoopbackCluster.make(1);
      await cluster.startAll();
      await cluster.write("a");
      const place = await cluster.addMaster();
      await cluster.start(place, second);
      const asked = { ...cluster.addressOf(place), promote: true };
      await assert.rejects((await cluster.leading()).addMember(asked), (error) => {
        assert(hasCode(error, "NotSupported"));
        assert.match(error.message, /"master-2" .* an older version .* upgrade it first/);
        return true;
      });
      await cluster.crash(place);
      await cluster.start(place);
      await (await cluster.leading()).addMember(asked);
      assert.deepEqual(await cluster.converged(), ["a"]);
    });
  });

  describe("with the data of a removed member", () => {
    it("are not added under their old id, and then end", async () => {
      cluster = await LoopbackCluster.make(3);
      await cluster.startAll();
      await cluster.write("a");
      await cluster.converged();
      const gone = ((await cluster.leader()) + 1) % 3;
      await cluster.crash(gone);
      await (await cluster.leading()).removeMember(cluster.places[gone]!.name);
      await cluster.start(gone);
      const asked = { ...cluster.addressOf(gone), promote: true };
      await assert.rejects((await cluster.leading()).addMember(asked), (error) => {
        assert(hasCode(error, "InvalidArgument"));
        assert.match(error.message, /data of node .* removed; .* remove its data directory/);
        return true;
      });
      const fatal = await eventually("its end", () => cluster.members[gone]!.fatal);
      assert.match(fatal.message, /was removed from cluster "test"/);
      await cluster.crash(gone);
      cluster.wipe(gone);
      await cluster.start(gone);
      await (await cluster.leading()).addMember(asked);
      await cluster.write("b");
      assert.deepEqual(await cluster.converged(), ["a", "b"]);
    });

    it("are not added where they came by an addition themselves", async () => {
      cluster = await LoopbackCluster.make(1);
      await cluster.startAll();
      const place = await cluster.addMaster();
      await cluster.start(place);
      const leading = await cluster.leading();
      const asked = { ...cluster.addressOf(place), promote: false };
      await leading.addMember(asked);
      await cluster.write("a");
      await cluster.converged();
      cluster.members[place]!.machine.flush();
      await cluster.crash(place);
      await leading.removeMember("master-2");
      await cluster.start(place);
      await assert.rejects(leading.addMember(asked), (error) => hasCode(error, "InvalidArgument"));
    });
  });
});
