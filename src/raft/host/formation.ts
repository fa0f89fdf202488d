/**
 * How a cluster begins, and how a master comes to one that has begun.
 *
 * The master whose name comes first draws up who the members are, with a random id for the data of each, once every
 * configured master is reachable and empty. Each writes that as the first record of its journal (`forming`), and takes
 * part (`member`) once it has seen that all others have written it too. A master that is empty while others have data
 * waits: the leader admits it when a person says so, and it draws an id of its own then.
 *
 * Invariants
 * 1. An id belongs to one set of data for ever: a master whose journal was lost cannot come back under its old id, since
 *    it may have forgotten votes and entries that others count on. Only while nobody takes part may an id be handed out
 *    again.
 * 2. A node takes part in consensus only in stage `member`, which its journal shows as a term above 0.
 * 3. No cluster begins while a listed master is away or has data.
 */
import { randomUUID } from "node:crypto";
import { sleep } from "../../lib/clock.ts";
import { WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import { decode, encode } from "../../lib/schema.ts";
import type { Journal } from "../journal.ts";
import type { Peer, Transport } from "../transport.ts";
import { Refusal } from "../transport.ts";
import type { Term } from "../types.ts";
import type { FramedSocket } from "./framed-socket.ts";
import {
  type Accepted,
  admitted,
  type Binding,
  formation,
  type Formation,
  type Identity,
} from "./handshake.ts";

const pollMs = 100;
const replyTimeoutMs = 5000;
const written = Buffer.from("written");

/** What a poll of one other master found. `refused` is final. */
type View = Accepted | { readonly kind: "away" } | { readonly kind: "refused"; reason: string };

/** What an empty master has found out: whether it begins a cluster with others, or is to be added to one. */
export type Prospect = "forming" | "joining";

export interface FormingOptions {
  readonly name: string;
  readonly clusterName: string;
  readonly peers: readonly Peer[];
  readonly journal: Journal;
  readonly logger: Logger;
  /** Called after each look at the others, until this node takes part. */
  readonly onProspect: (prospect: Prospect) => void;
  /** Whether this node's data is or was a member's, as far as its log tells; undefined while that is not read. */
  readonly wasMember: () => boolean | undefined;
}

export class Forming {
  readonly #options: FormingOptions;
  #identity: Identity;
  #isWriting = false;
  /** Admitted by this process: the log cannot tell of it yet. */
  #isNew = false;
  /** Said already, so that it is said once. */
  readonly #told = new Set<string>();

  /** @throws WeirError `ConfigInvalid` when the journal belongs to a master of another name */
  constructor(options: FormingOptions) {
    this.#options = options;
    const { name, clusterName, journal } = options;
    const { nodeId, clusterId, members, hardState } = journal.state;
    if (nodeId === undefined) {
      this.#identity = {
        name,
        clusterName,
        stage: "empty",
        nodeId: undefined,
        clusterId: undefined,
        members: undefined,
      };
      return;
    }
    checkOwn(name, members ?? [], nodeId);
    const stage = hardState.term > 0 ? "member" : "forming";
    this.#identity = { name, clusterName, stage, nodeId, clusterId, members };
  }

  get identity(): Identity {
    return this.#identity;
  }

  /** Answers what other masters ask while they form the cluster. */
  async serve(socket: FramedSocket): Promise<void> {
    try {
      for (;;) {
        const request = await socket.next(replyTimeoutMs);
        await this.#adopt(decode(formation, request, "formation"));
        socket.write([written]);
      }
    } catch {
      socket.close();
    }
  }

  /** Answers a leader that wants to add this master: with the id of its data, which it draws when it is empty. */
  async serveAdmission(socket: FramedSocket): Promise<void> {
    try {
      const request = await socket.next(replyTimeoutMs);
      const nodeId = await this.#join(decode(formation, request, "admission"));
      const wasMember = this.#options.wasMember() ?? (this.#isNew ? false : undefined);
      if (wasMember === undefined) throw new WeirError("Unavailable", "The log is not read yet");
      socket.write([encode(admitted, { nodeId, wasMember })]);
      // The leader closes once it has read that.
      await socket.next(replyTimeoutMs);
    } catch (error) {
      this.#options.logger.debug({ error: String(error) }, "an admission ended");
    } finally {
      socket.close();
    }
  }

  /**
   * Resolves when this node may take part; at once when it did before.
   * @throws WeirError `ConfigInvalid` when no cluster can be formed of the masters that are listed
   */
  async run(transport: Transport, signal: AbortSignal): Promise<void> {
    let rounds = 0;
    while (this.#identity.stage !== "member") {
      signal.throwIfAborted();
      const others = this.#options.peers.filter((peer) => peer.name !== this.#options.name);
      const views = new Map<Peer, View>();
      await Promise.all(
        others.map(async (peer) => views.set(peer, await this.#poll(transport, peer))),
      );
      signal.throwIfAborted();
      if (await this.#act(transport, views)) return;
      if (rounds++ % 50 === 10) this.#tellWaiting(views);
      await sleep(pollMs, signal);
    }
  }

  /** Does what the views allow; returns whether this node may take part now. */
  async #act(transport: Transport, views: ReadonlyMap<Peer, View>): Promise<boolean> {
    const all = [...views.values()];
    this.#checkNotRefused(all);
    if (this.#identity.stage === "empty") {
      const isFormed = this.#tellFormed(views);
      this.#options.onProspect(isFormed ? "joining" : "forming");
      if (isFormed || all.some((view) => view.kind !== "accepted" || view.stage !== "empty")) {
        return false;
      }
      this.#checkCount();
      if (!this.#isFirst) return false;
      await this.#adopt(this.#draw());
    } else {
      this.#options.onProspect("forming");
    }
    const { clusterId } = this.#identity;
    const isBound = (view: View) => view.kind === "accepted" && view.clusterId === clusterId;
    // One that takes part has seen that all had written it.
    const isBegun = all.some(
      (view) => isBound(view) && view.kind === "accepted" && view.stage === "member",
    );
    if (isBegun || all.every(isBound)) {
      await this.#begin();
      return true;
    }
    // An id may be handed out again only while nobody takes part (invariant 1).
    const mayOffer = all.every(
      (view) => view.kind === "accepted" && (view.stage === "empty" || isBound(view)),
    );
    if (!this.#isFirst || !mayOffer) return false;
    for (const [peer, view] of views) {
      if (view.kind === "accepted" && view.stage === "empty") await this.#offer(transport, peer);
    }
    return false;
  }

  /** The order of names decides who draws up the members, so that two never do at once. */
  get #isFirst(): boolean {
    const names = this.#options.peers.map((peer) => peer.name).sort();
    return names[0] === this.#options.name;
  }

  #draw(): Formation {
    const names = this.#options.peers.map((peer) => peer.name).sort();
    return {
      clusterId: randomUUID(),
      members: names.map((name) => ({ name, nodeId: randomUUID() })),
      lastIndex: undefined,
    };
  }

  async #adopt(agreed: Formation): Promise<void> {
    const { name, clusterName, journal, logger } = this.#options;
    const { clusterId, members } = agreed;
    if (this.#identity.clusterId === clusterId) return;
    const nodeId = members.find((member) => member.name === name)?.nodeId;
    if (this.#identity.stage !== "empty" || this.#isWriting || nodeId === undefined) {
      throw new WeirError("Stale", "Cannot form the cluster: this master is not empty");
    }
    this.#checkListed(members);
    this.#isWriting = true;
    try {
      await journal.initialize({ nodeId, clusterId, members });
    } finally {
      this.#isWriting = false;
    }
    this.#identity = { name, clusterName, stage: "forming", nodeId, clusterId, members };
    logger.info({ clusterId, nodeId }, "the members of the new cluster are written");
  }

  /** Becomes a member of a cluster that is formed, and returns the id of this node's data. */
  async #join({ clusterId, members, lastIndex: admittedAt }: Formation): Promise<string> {
    const { name, clusterName, journal, logger } = this.#options;
    // Asked again: the answer was lost, or the leader changed before it had written who is new.
    if (this.#identity.clusterId === clusterId && this.#identity.stage === "member") {
      return this.#identity.nodeId!;
    }
    if (this.#identity.stage !== "empty" || this.#isWriting) {
      throw new WeirError("Stale", "Cannot join a cluster: this master is not empty");
    }
    const nodeId = randomUUID();
    // The members do not name this one: until the log says so it is none, and must not count itself as one.
    this.#isWriting = true;
    try {
      await journal.initialize({ nodeId, clusterId, members, admittedAt });
      await this.#writeFirstTerm();
    } finally {
      this.#isWriting = false;
    }
    this.#isNew = true;
    this.#identity = { name, clusterName, stage: "member", nodeId, clusterId, members };
    logger.info({ clusterId, nodeId }, "admitted to the cluster");
    return nodeId;
  }

  async #begin(): Promise<void> {
    await this.#writeFirstTerm();
    this.#identity = { ...this.#identity, stage: "member" };
    this.#options.logger.info({ clusterId: this.#identity.clusterId }, "the cluster is formed");
  }

  #writeFirstTerm(): Promise<void> {
    const hardState = { term: 1 as Term, vote: undefined };
    return this.#options.journal.append({ hardState, entries: [] });
  }

  async #poll(transport: Transport, peer: Peer): Promise<View> {
    try {
      const { socket, accepted } = await transport.connect(peer, "formation");
      socket.close();
      return accepted;
    } catch (error) {
      if (!(error instanceof Refusal)) return { kind: "away" };
      transport.complain(peer.name, error.message);
      return error.permanent ? { kind: "refused", reason: error.message } : { kind: "away" };
    }
  }

  async #offer(transport: Transport, peer: Peer): Promise<void> {
    const { clusterId, members } = this.#identity;
    try {
      const { socket } = await transport.connect(peer, "formation");
      socket.write([
        encode(formation, { clusterId: clusterId!, members: members!, lastIndex: undefined }),
      ]);
      await socket.next(replyTimeoutMs);
      socket.close();
    } catch (error) {
      this.#options.logger.warn({ peer: peer.name, error: String(error) }, "an offer failed");
    }
  }

  #checkNotRefused(all: readonly View[]): void {
    const reasons = all.flatMap((view) => (view.kind === "refused" ? [view.reason] : []));
    if (reasons.length > 0 && reasons.length === all.length) {
      throw new WeirError("ConfigInvalid", reasons.join("; "));
    }
  }

  /** A majority of an even number is no smaller than that of one more: such a cluster is a mistake. */
  #checkCount(): void {
    const names = this.#options.peers.map((peer) => peer.name);
    if (names.length % 2 === 1) return;
    throw new WeirError(
      "ConfigInvalid",
      `Cannot form a cluster of ${names.length} masters (${names.join(", ")}): wanted an odd number (1, 3, 5 or 7)`,
    );
  }

  /** Refuses members that are not those of the configuration. */
  #checkListed(members: readonly Binding[]): void {
    const { name, peers } = this.#options;
    const drawn = members.map((member) => member.name).sort();
    const configured = peers.map((peer) => peer.name).sort();
    if (drawn.join() === configured.join()) return;
    throw new WeirError(
      "ConfigInvalid",
      `Cannot form a cluster of ${drawn.join(", ")}: the configuration of "${name}" lists ${configured.join(", ")}`,
    );
  }

  /** Whether a cluster is there that this empty master could only be added to; says what to do about it. */
  #tellFormed(views: ReadonlyMap<Peer, View>): boolean {
    const { name, clusterName, peers } = this.#options;
    const own = peers.find((peer) => peer.name === name);
    const options =
      own === undefined
        ? ""
        : ` --host ${own.host} --raft-port ${own.port} --rpc-port ${own.rpcPort ?? 0}`;
    const clusters = new Map<string, string[]>();
    for (const [peer, view] of views) {
      if (view.kind !== "accepted" || view.clusterId === undefined || view.stage !== "member")
        continue;
      const holders = clusters.get(view.clusterId);
      if (holders === undefined) clusters.set(view.clusterId, [peer.name]);
      else holders.push(peer.name);
      const says =
        view.boundTo === undefined
          ? `"${peer.name}" holds data of cluster ${view.clusterId}, which does not have a member of that ` +
            `name; run "weir cluster add ${name}${options}", or start with empty masters only`
          : `"${peer.name}" knows that name as node ${view.boundTo}, whose data is not here; restore the data ` +
            `directory, or run "weir cluster replace ${name}${options}"`;
      this.#tellOnce(`Cannot join cluster "${clusterName}" as "${name}" yet: ${says}`);
    }
    if (clusters.size > 1) {
      const held = [...clusters].map(([id, holders]) => `${id} (${holders.join(", ")})`);
      this.#tellOnce(
        `Cannot tell which cluster "${name}" is to join: the configuration lists masters of ${held.join(" and ")}`,
      );
    }
    return clusters.size > 0;
  }

  #tellOnce(message: string): void {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.#options.logger.error({ stage: this.#identity.stage }, message);
  }

  #tellWaiting(views: ReadonlyMap<Peer, View>): void {
    const waitsFor = [...views]
      .filter(([, view]) => view.kind !== "accepted")
      .map(([peer]) => peer.name);
    const withData = [...views]
      .filter(([, view]) => view.kind === "accepted" && view.stage === "member")
      .map(([peer]) => peer.name);
    if (withData.length > 0) {
      this.#options.logger.warn(
        { stage: this.#identity.stage, withData },
        "this master has no data and waits to be added to the cluster of those that have",
      );
      return;
    }
    this.#options.logger.warn(
      { stage: this.#identity.stage, waitsFor },
      "the cluster is not formed yet: every listed master must be reachable and empty",
    );
  }
}

/** Refuses a journal that is another master's. The members of one that was admitted do not name itself. */
function checkOwn(name: string, members: readonly Binding[], nodeId: string): void {
  const owner = members.find((member) => member.nodeId === nodeId)?.name;
  if (owner === undefined || owner === name) return;
  throw new WeirError(
    "ConfigInvalid",
    `Cannot use the journal of "${name}": it belongs to "${owner}" of a cluster of ` +
      members.map((member) => member.name).join(", "),
  );
}
