/**
 * What a simulated cluster is used for: the state machine that its nodes have, and what clients ask of it. There are two:
 * a plain one, which is fast, and the product's namespace.
 */
import type { Configuration, Entry } from "../../src/raft/types.ts";

/** What a client asks for. Session 0: to be executed however often it comes. */
export interface ClientRequest {
  readonly session: number;
  readonly sequence: number;
  /** The client has the answers of all sequences below. */
  readonly acknowledgedBelow: number;
}

/** What came of an entry. */
export interface Outcome {
  /** The request that it carried; undefined for one of session 0, and for no command. */
  readonly of: Pick<ClientRequest, "session" | "sequence"> | undefined;
  /** Whether it was executed now, answered as before, or refused; only for the request of a session. */
  readonly served: "execute" | "replay" | "refuse" | undefined;
  /** Index of the entry that executed the request, now or before. */
  readonly position: number;
  /** What its client is told, as text. */
  readonly answer: string;
}

/** A whole state on its way to another node, as of one applied index. */
export interface Image {
  readonly index: number;
  readonly term: number;
  readonly hash: number | string;
  /** What travels, piece by piece; none where the image travels as it is. */
  readonly chunks: readonly Uint8Array[];
}

/** The state machine of one node, through all restarts. */
export interface StateMachine {
  /** Last applied. */
  readonly index: number;
  /** Equal for equal states at one index. */
  readonly hash: number | string;
  readonly configuration: { readonly index: number; readonly value: Configuration } | undefined;
  /** What a restart finds. */
  readonly flushed: { readonly index: number; readonly term: number };
  /** Goes back to what is flushed. */
  restart(): void;
  apply(entry: Entry): Promise<Outcome>;
  /** Begins to make durable what is applied now; done when the returned function is called. */
  flush(): () => void;
  /** Calls back with what is flushed, at once or soon. */
  snapshot(whenTaken: (image: Image) => void): void;
  /** Rejects with `Corrupt`, its state unchanged, where the chunks are not those that were sent. */
  install(image: Image): Promise<void>;
}

export interface Workload {
  newMachine(): StateMachine;
  /** Something that a session asks for: encoded as often as it is sent. */
  draw(session: number): (request: ClientRequest) => Uint8Array;
  /** What nobody waits for. */
  drawUnanswered(): Uint8Array;
  /** A node has applied this. */
  onApplied(entry: Entry, outcome: Outcome): void;
  /** A client was told this of the request that the entry at `position` executed. */
  onAnswered(position: number, answer: string): void;
  /** A linearizable read has come to see the state of this machine. */
  look(machine: StateMachine): void;
  /** Looks at the whole history, once all nodes are in one state. */
  check(machine: StateMachine): Promise<void>;
}
