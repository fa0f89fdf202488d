import assert from "node:assert/strict";
import type { Message } from "../../src/raft/types.ts";
import { calm, drawFaults } from "./faults.ts";
import { seededRandom } from "../../src/lib/clock.ts";
import { RaftSimulation } from "./raft-simulation.ts";
import type { SimulatedNode } from "./simulated-node.ts";

/** A cluster to which nothing happens but what a test does; by a few seeds, as chance draws times everywhere. */
function calmCluster(seed: number, nodes = 3): RaftSimulation {
  const faults = { ...calm(drawFaults(seededRandom(seed))), clockPercent: [99, 102] as const };
  return new RaftSimulation({ seed, steps: 0, nodes, faults });
}

async function leaderOf(simulation: RaftSimulation, not?: SimulatedNode): Promise<SimulatedNode> {
  const find = () => simulation.nodes.find((node) => node !== not && node.core?.role === "leader");
  await simulation.until("a leader", () => find() !== undefined);
  return find()!;
}

/** Demands that clients are answered, so many times, within `limitMs`. */
async function answers(simulation: RaftSimulation, limitMs: number): Promise<void> {
  const goal = simulation.clients.writes + 5;
  await simulation.until("clients are answered", () => simulation.clients.writes >= goal, limitMs);
}

async function pass(simulation: RaftSimulation, ms: number): Promise<void> {
  const untilMs = simulation.world.timeline.nowMs + ms;
  while (simulation.world.timeline.nowMs < untilMs) await simulation.step();
}

function recordSent(simulation: RaftSimulation): Message[] {
  const sent: Message[] = [];
  const { network } = simulation;
  const send = network.send.bind(network);
  network.send = (message) => {
    sent.push(message);
    send(message);
  };
  return sent;
}

describe("the host of a simulated master", function () {
  this.timeout(60_000);
  const seeds = [1, 2, 3, 4, 5];

  it("R25: a follower that was stopped reads what waits for it before it campaigns", async () => {
    for (const seed of seeds) {
      const simulation = calmCluster(seed);
      const leader = await leaderOf(simulation);
      await answers(simulation, 5000);
      const sent = recordSent(simulation);
      for (const node of simulation.nodes) {
        if (node === leader) continue;
        node.process!.pause(5000);
        await pass(simulation, 7000);
      }
      assert.equal(sent.filter(({ kind }) => kind === "requestVote").length, 0);
      assert.equal(leader.core?.role, "leader");
    }
  });

  it("R25: a clock that jumps forward makes nobody campaign", async () => {
    for (const seed of seeds) {
      const simulation = calmCluster(seed);
      await leaderOf(simulation);
      await answers(simulation, 5000);
      const sent = recordSent(simulation);
      for (const node of simulation.nodes) {
        node.process!.jump(3_600_000);
        await pass(simulation, 500);
      }
      assert.equal(sent.filter(({ kind }) => kind === "requestVote").length, 0);
    }
  });

  it("a leader whose disk stalls gives up the leadership, and the others go on", async () => {
    for (const seed of seeds) {
      const simulation = calmCluster(seed);
      const leader = await leaderOf(simulation);
      await answers(simulation, 5000);
      leader.files.stalledUntilMs = 1e9;
      await leaderOf(simulation, leader);
      await simulation.until("the old leader follows", () => leader.core?.role !== "leader", 2000);
      await answers(simulation, 3000);
    }
  });

  it("a follower whose disk stalls, fills up or is slow holds nobody up, and catches up", async () => {
    for (const seed of seeds) {
      const simulation = calmCluster(seed);
      const leader = await leaderOf(simulation);
      await answers(simulation, 5000);
      const [stalled, other] = simulation.nodes.filter((node) => node !== leader);
      for (const harm of ["stall", "full", "slow"] as const) {
        const { files } = stalled!;
        if (harm === "stall") files.stalledUntilMs = 1e9;
        files.isFull = harm === "full";
        files.slowness = harm === "slow" ? 500 : 1;
        await pass(simulation, 2000);
        await answers(simulation, 2000);
        assert.equal(
          leader.core?.role,
          "leader",
          `${harm} on ${stalled!.id}, ${other!.id} is well`,
        );
        files.stalledUntilMs = 0;
        files.isFull = false;
        files.slowness = 1;
        const goal = simulation.invariants.lastCommitted;
        const isThere = () => stalled!.machine.index >= goal;
        await simulation.until("it catches up", isThere, 10_000);
      }
    }
  });

  it("a leader whose disk is full hands over, and the others go on", async () => {
    for (const seed of seeds) {
      const simulation = calmCluster(seed);
      const leader = await leaderOf(simulation);
      await answers(simulation, 5000);
      leader.files.isFull = true;
      await leaderOf(simulation, leader);
      await answers(simulation, 3000);
      leader.files.isFull = false;
      const goal = simulation.invariants.lastCommitted;
      await simulation.until("it catches up", () => leader.machine.index >= goal, 10_000);
    }
  });

  it("a node whose journal is damaged refuses to start, and a new one takes its place", async () => {
    for (const seed of seeds) {
      const simulation = calmCluster(seed);
      const leader = await leaderOf(simulation);
      await answers(simulation, 5000);
      const node = simulation.nodes.find((each) => each !== leader)!;
      await simulation.until("a whole log", () => node.machine.index > 5);
      node.crash(true);
      // In the frame of an entry that was acknowledged.
      for (let flips = 0; flips < 3; flips++) assert.ok(node.files.flipBit());
      node.damage();
      node.start();
      await simulation.until("the refusal", () => node.isLost, 2000);
      await answers(simulation, 2000);
      const isReplaced = () => {
        const voters = leader.core?.configuration.voters ?? [];
        return voters.length === 3 && !voters.includes(node.id);
      };
      await simulation.until("the replacement", isReplaced, 10_000);
      await answers(simulation, 2000);
    }
  });
});
