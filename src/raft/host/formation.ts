/**
 * How a cluster begins. The master whose name comes first draws up who the members are, with a random id for the data
 * of each, once every configured master is reachable and empty. Each writes that as the first record of its journal
 * (`forming`), and takes part (`member`) once it has seen that all others have written it too.
 *
 * Invariants
 * 1. A name is bound to one id for ever: a master whose journal was lost cannot come back under its old id, since it may
 *    have forgotten votes and entries that others count on. Only while nobody takes part may an id be handed out again.
 * 2. A node takes part in consensus only in stage `member`, which its journal shows as a term above 0.
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
  formation,
  type Formation,
  type Identity,
  type Member,
} from "./handshake.ts";

const pollMs = 100;
const replyTimeoutMs = 5000;
const written = Buffer.from("written");

/** What a poll of one other master found. */
type View = Accepted | { readonly kind: "away" } | { readonly kind: "refused"; reason: string };

export interface FormingOptions {
  readonly name: string;
  readonly clusterName: string;
  readonly peers: readonly Peer[];
  readonly journal: Journal;
  readonly logger: Logger;
}

export class Forming {
  readonly #options: FormingOptions;
  #identity: Identity;
  #isWriting = false;

  /** @throws WeirError `ConfigInvalid` when the journal is of other masters than the configuration names */
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
    checkMembers(options, members ?? [], nodeId);
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

  /**
   * Resolves when this node may take part; at once when it did before.
   * @throws WeirError `ConfigInvalid` when its name is bound to data that is not here
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
      for (const [peer, view] of views) this.#checkNotWiped(peer, view);
      if (
        !this.#isFirst ||
        all.some((view) => view.kind !== "accepted" || view.stage !== "empty")
      ) {
        return false;
      }
      await this.#adopt(this.#draw());
    }
    const { clusterId } = this.#identity;
    const isBound = (view: View) => view.kind === "accepted" && view.clusterId === clusterId;
    if (all.every(isBound)) {
      await this.#begin();
      return true;
    }
    // An id may be handed out again only while nobody takes part (invariant 1).
    const mayOffer = all.every(
      (view) =>
        view.kind === "accepted" &&
        view.stage !== "member" &&
        (view.stage === "empty" || isBound(view)),
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
    checkMembers(this.#options, members, nodeId);
    this.#isWriting = true;
    try {
      await journal.initialize({ nodeId, clusterId, members });
    } finally {
      this.#isWriting = false;
    }
    this.#identity = { name, clusterName, stage: "forming", nodeId, clusterId, members };
    logger.info({ clusterId, nodeId }, "the members of the new cluster are written");
  }

  async #begin(): Promise<void> {
    await this.#options.journal.append({
      hardState: { term: 1 as Term, vote: undefined },
      entries: [],
    });
    this.#identity = { ...this.#identity, stage: "member" };
    this.#options.logger.info({ clusterId: this.#identity.clusterId }, "the cluster is formed");
  }

  async #poll(transport: Transport, peer: Peer): Promise<View> {
    try {
      const { socket, accepted } = await transport.connect(peer, "formation");
      socket.close();
      return accepted;
    } catch (error) {
      if (!(error instanceof Refusal)) return { kind: "away" };
      transport.complain(peer.name, error.message);
      return { kind: "refused", reason: error.message };
    }
  }

  async #offer(transport: Transport, peer: Peer): Promise<void> {
    const { clusterId, members } = this.#identity;
    try {
      const { socket } = await transport.connect(peer, "formation");
      socket.write([encode(formation, { clusterId: clusterId!, members: members! })]);
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

  #checkNotWiped(peer: Peer, view: View): void {
    if (view.kind !== "accepted" || view.stage !== "member" || view.boundTo === undefined) return;
    const { name, clusterName } = this.#options;
    throw new WeirError(
      "ConfigInvalid",
      `Cannot join cluster "${clusterName}" as "${name}": "${peer.name}" knows that name as node ` +
        `${view.boundTo}, whose data is not here; restore the data directory, or replace the member`,
    );
  }

  #tellWaiting(views: ReadonlyMap<Peer, View>): void {
    const waitsFor = [...views]
      .filter(([, view]) => view.kind !== "accepted")
      .map(([peer]) => peer.name);
    this.#options.logger.warn(
      { stage: this.#identity.stage, waitsFor },
      "the cluster is not formed yet: every listed master must be reachable and empty",
    );
  }
}

/** Refuses members that are not those of the configuration. */
function checkMembers(options: FormingOptions, members: readonly Member[], nodeId: string): void {
  const { name, peers } = options;
  const recorded = members.map((member) => member.name).sort();
  const configured = peers.map((peer) => peer.name).sort();
  if (recorded.join() !== configured.join()) {
    throw new WeirError(
      "ConfigInvalid",
      `Cannot use the journal of "${name}": it is of a cluster of ${recorded.join(", ")}, ` +
        `but the configuration lists ${configured.join(", ")}`,
    );
  }
  const own = members.find((member) => member.name === name);
  if (own?.nodeId !== nodeId) {
    throw new WeirError(
      "ConfigInvalid",
      `Cannot use the journal of "${name}": it belongs to "${
        members.find((member) => member.nodeId === nodeId)?.name ?? "nobody"
      }"`,
    );
  }
}
