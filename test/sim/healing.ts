/**
 * The end of a simulation, when nothing goes wrong any more and things have to go on: first for a core of the cluster, while
 * the rest stays broken; then for all.
 *
 * What is demanded
 * 1. A healed core commits, applies and answers.
 * 2. A healed cluster decides about its members, promotes its learners, and answers everything that clients have begun.
 * 3. When nobody asks for anything any more, all sound members come to the same state, and the leader stays the leader.
 */
import { membersOf } from "../../src/raft/configuration.ts";
import type { Configuration, NodeId } from "../../src/raft/types.ts";
import { calm } from "./faults.ts";
import { decide } from "./operator.ts";
import type { RaftSimulation } from "./raft-simulation.ts";
import type { SimulatedNode } from "./simulated-node.ts";
import { require } from "./violation.ts";

/** A healed core has not done its work before so many commands were committed. */
const progressCommands = 10;
/** For how long a leader that is left alone must not be replaced. */
const quietMs = 1000;
/** Clocks of nodes that differ by more, in percent, may outrun the heartbeats. */
const steadyClockPercent = 20;

/** What may be the matter with a node that is not healed; a deaf one hears nobody, a mute one is heard by nobody. */
const brokenWays = ["down", "paused", "stalled", "deaf", "mute", "apart"] as const;

/** @throws Violation when there is no progress where there must be some, or it leads to different states */
export async function healAndDemandProgress(simulation: RaftSimulation): Promise<void> {
  await demandProgressOfCore(simulation);
  await demandProgressOfAll(simulation);
  await demandQuiet(simulation);
  const { nodes, workload, world } = simulation;
  const sound = nodes.filter((node) => node.isSound);
  await workload.check(sound.reduce((a, b) => (b.machine.index > a.machine.index ? b : a)).machine);
  world.count("converged");
}

async function demandProgressOfCore(simulation: RaftSimulation): Promise<void> {
  const { world, network, invariants, nodes, operator, clients } = simulation;
  world.faults = calm(world.faults);
  network.heal();
  for (const { files } of nodes) {
    files.isFull = false;
    files.stalledUntilMs = 0;
    files.slowness = 1;
    files.failsNextWrite = false;
    files.misdirectsNextWrite = undefined;
  }
  const core = chooseCore(simulation);
  // With links of the rest to only some of the core, one of the rest may lead, and a node of the core that it does not
  // reach is left behind for as long as the others hear that leader: then progress of the cluster is all there can be.
  const isPartial = world.random.below(4) === 0;
  for (const node of nodes.filter((each) => !core.includes(each))) {
    leaveBroken(simulation, node, isPartial);
  }
  for (const node of core) {
    node.process?.resume();
    node.start();
  }
  const goal = invariants.lastCommitted + progressCommands;
  const { writes, reads } = clients;
  const isMember = (id: NodeId) => {
    const configuration = operator.latest;
    return configuration !== undefined && membersOf(configuration).includes(id);
  };
  // A learner of a change that came to nothing may be switched off, while a node that is cut off still goes by it.
  const isThere = ({ id, machine, isRetired }: SimulatedNode) =>
    machine.index >= goal || isRetired || !isMember(id);
  await simulation.until(
    `the healed nodes ${core.map(({ id }) => id).join(" ")} commit, apply and answer`,
    () =>
      (isPartial ? core.some(isThere) : core.every(isThere)) &&
      clients.writes > writes &&
      clients.reads > reads,
  );
}

/**
 * Nodes that decide alone in every configuration that may be in force, as few as chance finds, and all learners: they
 * may become voters while nobody looks.
 */
function chooseCore({ world, nodes }: RaftSimulation): readonly SimulatedNode[] {
  const { random } = world;
  const configurations = configurationsInForce(nodes);
  const members = new Set(configurations.flatMap(membersOf));
  const sound = nodes.filter((node) => node.isSound && members.has(node.id));
  for (let place = sound.length - 1; place > 0; place--) {
    const other = random.below(place + 1);
    [sound[place], sound[other]] = [sound[other]!, sound[place]!];
  }
  const learners = new Set(configurations.flatMap((configuration) => configuration.learners));
  const core = sound.filter(({ id }) => learners.has(id));
  for (const node of sound) {
    const ids = core.map(({ id }) => id);
    if (configurations.every((configuration) => decide(configuration, ids))) break;
    if (!core.includes(node)) core.push(node);
  }
  return core;
}

function configurationsInForce(nodes: readonly SimulatedNode[]): readonly Configuration[] {
  return nodes.filter(({ isRetired, isLost }) => !isRetired && !isLost).map(({ known }) => known);
}

/** Leaves a node outside the core as badly off as it may be. */
function leaveBroken(simulation: RaftSimulation, node: SimulatedNode, isPartial: boolean): void {
  const { network, world, nodes } = simulation;
  const { random } = world;
  world.count("left broken");
  const way = isPartial ? "partial" : brokenWays[random.below(brokenWays.length)]!;
  if (way === "down") node.crash(true);
  if (way === "paused") node.process?.pause(1e9);
  if (way === "stalled") node.files.stalledUntilMs = 1e9;
  for (const { id } of nodes) {
    const isSome = way === "partial" && random.below(2) === 0;
    if (way === "deaf" || way === "apart" || isSome) network.cut(id, node.id);
    if (way === "mute" || way === "apart" || isSome) network.cut(node.id, id);
  }
}

async function demandProgressOfAll(simulation: RaftSimulation): Promise<void> {
  const { network, invariants, nodes } = simulation;
  network.heal();
  for (const node of nodes) {
    node.files.stalledUntilMs = 0;
    node.process?.resume();
    node.start();
  }
  const goal = invariants.lastCommitted + progressCommands;
  await simulation.until("all sound members go on, and learners are promoted", () => {
    const members = soundMembers(simulation);
    return (
      members?.every((node) => node.machine.index >= goal) === true &&
      members.every(({ id, known }) => !known.learners.includes(id))
    );
  });
}

/** The members that can be expected to take part; undefined while the cluster is deciding who that is. */
function soundMembers({ operator, nodes }: RaftSimulation): readonly SimulatedNode[] | undefined {
  const configuration = operator.latest;
  if (configuration === undefined || configuration.outgoing.length > 0) return undefined;
  const members = membersOf(configuration);
  return nodes.filter((node) => node.isSound && members.includes(node.id));
}

async function demandQuiet(simulation: RaftSimulation): Promise<void> {
  const { clients, invariants, world, operator, nodes } = simulation;
  clients.areEnding = true;
  const areEqual = () => {
    const members = soundMembers(simulation);
    const { lastCommitted } = invariants;
    return members?.every(({ machine, core }) => {
      return machine.index === lastCommitted && core?.lastIndex === lastCommitted;
    });
  };
  // A leader may give up for a write that began while things went wrong: an election may be under way.
  const areLed = () => {
    const cores = soundMembers(simulation)?.map(({ core }) => core);
    const [leader, term] = [cores?.[0]?.leader, cores?.[0]?.term];
    return (
      leader !== undefined && cores!.every((core) => core?.leader === leader && core.term === term)
    );
  };
  await simulation.until(
    "clients are answered and all sound members hold one state and know one leader",
    () => clients.areDone && areEqual() === true && areLed(),
  );
  const members = soundMembers(simulation)!;
  const hashes = new Set(members.map(({ machine }) => machine.hash));
  require(hashes.size === 1, () => `the members hold ${hashes.size} states`);
  const [slowest, fastest] = world.faults.clockPercent;
  if (fastest - slowest > steadyClockPercent) return;
  // One that is not healed may be in a later term, of an election that it lost: the leader follows it there when they meet.
  if (nodes.some(({ core }) => core !== undefined && core.term > members[0]!.core!.term)) return;
  // A change of the members, as after damage, may still be to come, and with it another leader.
  const configuration = operator.latest;
  const terms = invariants.leaders.size;
  const untilMs = world.timeline.nowMs + quietMs;
  while (world.timeline.nowMs < untilMs) await simulation.step();
  if (operator.latest !== configuration) return;
  require(invariants.leaders.size === terms, () =>
    `${invariants.leaders.size - terms} elections within ${quietMs} ms in which nothing happened`);
  world.count("quiet phases");
}
