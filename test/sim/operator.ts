/**
 * Who changes the members of a simulated cluster: adds, removes and replaces nodes at will, and replaces those whose disk
 * was damaged, by new ones that join as learners.
 */
import { hasQuorum, membersOf } from "../../src/raft/configuration.ts";
import type { MemberChange } from "../../src/raft/member-change.ts";
import type { Configuration, Member, NodeId } from "../../src/raft/types.ts";
import type { SimulatedNode } from "./simulated-node.ts";
import type { World } from "./world.ts";

const mostVoters = 7;

export interface OperatorOptions {
  readonly world: World;
  readonly nodes: () => readonly SimulatedNode[];
  /** Makes a node with an empty disk and starts it. */
  readonly addNode: () => SimulatedNode;
}

/** How a configuration names a node. */
export function memberOf(nodeId: NodeId, promote: boolean): Member {
  return { nodeId, name: nodeId, host: "127.0.0.1", raftPort: 1, rpcPort: 1, promote };
}

export class Operator {
  readonly #options: OperatorOptions;
  /** A new node by the member that it replaces. */
  readonly #replacements = new Map<NodeId, SimulatedNode>();

  constructor(options: OperatorOptions) {
    this.#options = options;
    this.#look();
  }

  /** The latest configuration that any running node goes by. */
  get latest(): Configuration | undefined {
    let best: SimulatedNode["core"];
    for (const { core } of this.#options.nodes()) {
      if (core === undefined) continue;
      const isLater =
        best === undefined ||
        core.term > best.term ||
        (core.term === best.term && core.configurationIndex > best.configurationIndex);
      if (isLater) best = core;
    }
    return best?.configuration;
  }

  /** Whether everything that is acknowledged survives when this node forgets what it has. */
  mayLose(node: SimulatedNode): boolean {
    const nodes = this.#options.nodes();
    return nodes.every(({ known: configuration, isLost, isRetired }) => {
      if (isLost || isRetired) return true;
      if (configuration.outgoing.length > 0 || configuration.learners.length > 0) return false;
      const isForgetful = (id: NodeId) => id === node.id || !this.#isSound(id);
      const count = configuration.voters.filter(isForgetful).length;
      return count <= Math.floor((configuration.voters.length - 1) / 2);
    });
  }

  change(kind: "addMember" | "removeMember" | "replaceMember"): void {
    const leader = this.#leader();
    if (leader?.core === undefined || leader.core.isChangingMembers) return;
    const { random } = this.#options.world;
    const { voters, learners } = leader.core.configuration;
    const members = [...voters, ...learners];
    const nodeId = members[random.below(members.length)]!;
    // With fewer voters, those that are damaged could be too many.
    if (members.some((id) => !this.#isSound(id))) return;
    switch (kind) {
      case "addMember": {
        if (members.length >= mostVoters) return;
        const added = this.#options.addNode();
        const change = {
          kind: "addLearner",
          member: memberOf(added.id, random.below(2) > 0),
        } as const;
        if (!this.#ask(leader, change)) added.isRetired = true;
        return;
      }
      case "removeMember":
        if (voters.length > 1) this.#ask(leader, { kind: "remove", nodeId });
        return;
      case "replaceMember": {
        const added = this.#options.addNode();
        const change = { kind: "replace", nodeId, member: memberOf(added.id, true) } as const;
        if (!this.#ask(leader, change)) added.isRetired = true;
      }
    }
  }

  /** Looks after the cluster now and then, as whoever runs one does. */
  #look(): void {
    const { world } = this.#options;
    world.timeline.after(300 + world.random.below(300), () => {
      this.#promote();
      this.#replaceLost();
      this.#switchOff();
      this.#look();
    });
  }

  /** Learners that nobody promotes by itself. */
  #promote(): void {
    const leader = this.#leader();
    const nodeId = leader?.core?.configuration.learners[0];
    if (leader === undefined || nodeId === undefined) return;
    if (this.#options.world.random.below(3) > 0) this.#ask(leader, { kind: "promote", nodeId });
  }

  #replaceLost(): void {
    const leader = this.#leader();
    if (leader?.core === undefined || leader.core.isChangingMembers) return;
    const { nodes, addNode } = this.#options;
    const members = membersOf(leader.core.configuration);
    const lost = nodes().find(({ id, isLost }) => isLost && members.includes(id));
    if (lost === undefined) return;
    const replacement = this.#replacements.get(lost.id) ?? addNode();
    this.#replacements.set(lost.id, replacement);
    if (replacement.isLost || replacement.isRetired) {
      this.#replacements.delete(lost.id);
      return;
    }
    this.#ask(leader, {
      kind: "replace",
      nodeId: lost.id,
      member: memberOf(replacement.id, true),
    });
  }

  /** Nodes that a committed configuration knows no more are switched off, after they had time to be a nuisance. */
  #switchOff(): void {
    const leader = this.#leader();
    const { world, nodes } = this.#options;
    if (leader?.core === undefined || leader.core.isChangingMembers) return;
    const members = membersOf(leader.core.configuration);
    for (const node of nodes()) {
      if (members.includes(node.id) || node.isRetired || node.isLost) continue;
      if ([...this.#replacements.values()].includes(node)) continue;
      if (world.random.below(3) > 0) continue;
      node.crash(false);
      node.isRetired = true;
    }
  }

  #isSound(nodeId: NodeId): boolean {
    return this.#options.nodes().find(({ id }) => id === nodeId)?.isSound === true;
  }

  #ask(leader: SimulatedNode, change: MemberChange): boolean {
    const answer = leader.ask((core) => core.changeMembers(change));
    if (answer?.ok !== true) return false;
    this.#options.world.count(`members: ${change.kind}`);
    return true;
  }

  /** The leader that a quorum could follow: of the highest term. */
  #leader(): SimulatedNode | undefined {
    let best: SimulatedNode | undefined;
    for (const node of this.#options.nodes()) {
      if (node.core?.role !== "leader" || node.isPaused) continue;
      if (best?.core === undefined || node.core.term > best.core.term) best = node;
    }
    return best;
  }
}

/** Whether these nodes decide alone under a configuration. */
export function decide(configuration: Configuration, ids: readonly NodeId[]): boolean {
  return hasQuorum(configuration, (id) => ids.includes(id));
}
