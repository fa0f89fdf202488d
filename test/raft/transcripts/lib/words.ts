/** How transcripts put entries, messages and configurations: short enough for one line each, the paper's terms. */
import { decodeConfiguration } from "../../../../src/raft/configuration-codec.ts";
import type { Configuration, Entry, Message } from "../../../../src/raft/types.ts";

/** `4@2 "x"`: place, term, and what it is. */
export function entryWords({ index, term, kind, payload }: Entry): string {
  return `${index}@${term} ${contentWords(kind, payload)}`;
}

function contentWords(kind: Entry["kind"], payload: Uint8Array): string {
  switch (kind) {
    case "command":
      return `"${Buffer.from(payload).toString()}"`;
    case "noop":
      return "no-op";
    case "configuration":
      return `members ${configurationWords(decodeConfiguration(payload))}`;
  }
}

/** `{1 2 3}`, in joint consensus `{1 2}&{1 3}` (new and old half), learners behind a plus; `3:2003` has moved to a port. */
export function configurationWords(configuration: Configuration): string {
  const { voters, outgoing, learners, members = [] } = configuration;
  const placed = (id: string) => {
    const { raftPort } = members.find(({ nodeId }) => nodeId === id) ?? {};
    return raftPort === undefined || raftPort === 1000 + Number(id) ? id : `${id}:${raftPort}`;
  };
  const half = (ids: readonly string[]) => `{${[...ids].sort().map(placed).join(" ")}}`;
  const joint = outgoing.length === 0 ? "" : `&${half(outgoing)}`;
  const learner = (id: string) =>
    members.some((member) => member.nodeId === id && member.promote)
      ? `${placed(id)}↑`
      : placed(id);
  const rest = learners.length === 0 ? "" : ` + ${[...learners].sort().map(learner).join(" ")}`;
  return half(voters) + joint + rest;
}

/** `1->2  term 3  append after 4@2: 5@3 "x"; commit 4`. */
export function messageWords(message: Message): string {
  return `${message.from}->${message.to}  term ${message.term}  ${bodyWords(message)}`;
}

function bodyWords(message: Message): string {
  switch (message.kind) {
    case "requestVote": {
      const what = message.preVote ? "asks for a pre-vote" : "asks for a vote";
      const end = `log ends in ${message.lastIndex}@${message.lastTerm}`;
      return `${what}, ${end}${message.transfer ? ", by transfer" : ""}`;
    }
    case "voteReply":
      return `${message.granted ? "grants" : "refuses"} the ${message.preVote ? "pre-vote" : "vote"}`;
    case "append": {
      const after = `append after ${message.prevIndex}@${message.prevTerm}`;
      const what =
        message.entries.length === 0 ? "nothing" : message.entries.map(entryWords).join(", ");
      return `${after}: ${what}; commit ${message.commit}`;
    }
    case "appendReply":
      if (message.ok) return `has up to ${message.index}`;
      return message.index === 0
        ? "is in a later term"
        : `refuses what follows ${message.index}, hints at ${message.hintIndex}@${message.hintTerm}`;
    case "heartbeat":
      return `heartbeat, commit ${message.commit}${roundWords(message.readToken)}`;
    case "commitNotice":
      return `all is committed up to ${message.commit}`;
    case "heartbeatReply":
      return `heartbeat heard${roundWords(message.readToken)}`;
    case "snapshotDone":
      return message.ok ? `holds the snapshot, has up to ${message.index}` : "snapshot failed";
    case "timeoutNow":
      return "campaign now";
    case "readRequest":
      return `asks where to read, request ${message.request}`;
    case "readReply":
      return `reads at ${message.index}, request ${message.request}`;
  }
}

function roundWords(token: number): string {
  return token === 0 ? "" : `, round ${token}`;
}
