/**
 * The language of transcripts. A transcript is plain text: lines that begin with `#` explain, lines that begin with `>`
 * are commands, the lines below a command are what came of it. Replaying keeps the first two and writes the third anew.
 *
 *     > nodes 3 [maxInflight=N] [maxAppendBytes=N]   a new stage with nodes 1 to 3, all of them voters
 *     > join 4                an empty node, which knows who the first members were
 *     > log 2: 1 1 4          node 2 starts anew with entries of these terms; `log 2: 1 1 in 5` with a term of its own
 *     > campaign 1            node 1 alone hears nothing until it campaigns
 *     > elect 1               the same, and everything is delivered; tells only that it leads
 *     > tick 1 [N]            N ticks (1) of node 1; `tick all N` of all nodes in turn
 *     > propose 1 x y         proposals of one turn
 *     > read 1 7 8            linearizable reads of one turn, called 7 and 8
 *     > transfer 1 [2] · step-down 1 · crash 3 · restart 3
 *     > gone 1 2 3            2 and 3 are told that the process of 1 has ended, truly or not
 *     > change 1 add-learner 4 [promote] · change 1 promote 4 · change 1 remove 2 · change 1 replace 2 4
 *     > change 1 move 2 2002    2 listens at another port from now on; more pairs move more nodes at once
 *     > deliver [1->2] [N]    what lies on the link, or the first N of it; `*` stands for any node
 *     > drop 1->2 [N] · duplicate 1->2
 *     > settle                delivers until all links are empty
 *     > isolate 3 · cut 1->2 … · slow 2->1 … (left out by settle) · heal
 *     > hold-disk 1 · persist 1 [N] · persist-term 1 (entries find no room) · release-disk 1
 *     > compact 1 5           the state machine flushes; the log up to 5 goes
 *     > snapshot 1->3 start | install | end
 *     > show [1 …]            role and log, `|` behind what is committed
 *     > progress 1            what a leader knows of the others
 *     > quietly COMMAND       tells only what changed, not the messages and writes
 */
import assert from "node:assert/strict";
import type { MemberChange, Move } from "../../../../src/raft/member-change.ts";
import type { Member, NodeId } from "../../../../src/raft/types.ts";
import { Stage } from "./stage.ts";

/** The transcript with the output that the core gives now. */
export function replay(transcript: string): string {
  const lines: string[] = [];
  const script = new Script();
  for (const [place, line] of transcript.trimEnd().split("\n").entries()) {
    if (line.startsWith(">")) {
      lines.push(line);
      try {
        lines.push(...script.run(line.slice(1).trim()));
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new Error(`Cannot run line ${place + 1}, "${line}": ${reason}`, { cause });
      }
    } else if (line.startsWith("#") || line === "") {
      lines.push(line);
    }
  }
  return `${lines.join("\n")}\n`;
}

class Script {
  #stage: Stage | undefined;

  run(command: string): string[] {
    const [verb = "", ...words] = command.split(/\s+/);
    if (verb === "nodes") {
      this.#stage = makeStage(words);
      return [];
    }
    const stage = this.#stage;
    assert(stage !== undefined, "a transcript begins with nodes");
    if (verb !== "quietly") {
      runOn(stage, verb, words);
      return stage.takeLines();
    }
    stage.isQuiet = true;
    runOn(stage, words[0] ?? "", words.slice(1));
    stage.isQuiet = false;
    return stage.takeLines();
  }
}

function makeStage([count = "", ...settings]: readonly string[]): Stage {
  const ids = Array.from({ length: wholeNumber(count) }, (_, i) => String(i + 1));
  const options = Object.fromEntries(
    settings.map((setting) => {
      const [name = "", value = ""] = setting.split("=");
      assert(name === "maxInflight" || name === "maxAppendBytes", `unknown setting "${name}"`);
      return [name, wholeNumber(value)];
    }),
  );
  return new Stage(ids, options);
}

function runOn(stage: Stage, verb: string, words: readonly string[]): void {
  const [first = "", second] = words;
  const count = second === undefined ? undefined : Number(second);
  switch (verb) {
    case "join":
      stage.join(first);
      return;
    case "change":
      stage.changeMembers(first, changeOf(words.slice(1)));
      return;
    case "log":
      setLog(stage, words);
      return;
    case "campaign":
      stage.campaign(first);
      return;
    case "elect":
      stage.elect(first);
      return;
    case "tick":
      stage.tick(first === "all" ? stage.ids : [first], wholeNumber(second ?? "1"));
      return;
    case "propose":
      stage.propose(first, words.slice(1));
      return;
    case "read":
      stage.read(first, words.slice(1).map(wholeNumber));
      return;
    case "transfer":
      stage.transfer(first, second);
      return;
    case "step-down":
      stage.step(first, { kind: "stepDown" });
      return;
    case "gone":
      for (const id of words.slice(1)) stage.step(id, { kind: "gone", node: first });
      return;
    case "crash":
      stage.crash(first);
      return;
    case "restart":
      stage.restart(first);
      return;
    case "deliver":
      stage.deliver(chooser(words.length === 0 ? "*->*" : first), count);
      return;
    case "drop":
      stage.drop(chooser(first), count);
      return;
    case "duplicate":
      stage.duplicate(chooser(first));
      return;
    case "settle":
      stage.settle();
      return;
    case "isolate":
      stage.cut(stage.ids.flatMap((id) => [`${first}->${id}`, `${id}->${first}`]));
      return;
    case "cut":
      stage.cut(words);
      return;
    case "slow":
      stage.slow(words);
      return;
    case "heal":
      stage.heal();
      return;
    case "hold-disk":
      stage.holdDisk(first);
      return;
    case "persist":
      stage.persist(first, wholeNumber(second ?? "1"));
      return;
    case "persist-term":
      stage.persistTerm(first);
      return;
    case "release-disk":
      stage.releaseDisk(first);
      return;
    case "compact":
      stage.compact(first, wholeNumber(second ?? ""));
      return;
    case "snapshot":
      snapshot(stage, first, second);
      return;
    case "progress":
      stage.showProgress(first);
      return;
    case "show":
      stage.show(words.length === 0 ? stage.ids : words);
      return;
    default:
      throw new Error("there is no such command");
  }
}

function setLog(stage: Stage, words: readonly string[]): void {
  const id = (words[0] ?? "").replace(/:$/, "");
  const end = words.indexOf("in");
  const terms = words.slice(1, end < 0 ? undefined : end).map(wholeNumber);
  stage.setLog(id, terms, end < 0 ? undefined : wholeNumber(words[end + 1] ?? ""));
}

function snapshot(stage: Stage, link: string, step = ""): void {
  const [from = "", to = ""] = link.split("->");
  switch (step) {
    case "start":
      stage.startSnapshot(from, to);
      return;
    case "install":
      stage.installSnapshot(from, to);
      return;
    case "end":
      stage.endSnapshot(from, to);
      return;
    default:
      throw new Error("a snapshot is to start, install or end");
  }
}

function changeOf([kind = "", ...words]: readonly string[]): MemberChange {
  const [nodeId = "", more = ""] = words;
  switch (kind) {
    case "add-learner":
      return { kind: "addLearner", member: memberOf(nodeId, more === "promote") };
    case "promote":
    case "remove":
      return { kind, nodeId };
    case "replace":
      return { kind, nodeId, member: memberOf(more, true) };
    case "move":
      return { kind, moves: movesOf(words) };
    default:
      throw new Error("a change is to add-learner, promote, remove, replace or move");
  }
}

/** Of a list of nodes and ports. */
function movesOf([nodeId, port = "", ...more]: readonly string[]): Move[] {
  if (nodeId === undefined) return [];
  const raftPort = wholeNumber(port);
  const place = { host: "127.0.0.1", raftPort, rpcPort: raftPort };
  return [{ nodeId, place }, ...movesOf(more)];
}

function memberOf(nodeId: NodeId, promote: boolean): Member {
  const port = 1000 + Number(nodeId);
  return {
    nodeId,
    name: `master-${nodeId}`,
    host: "127.0.0.1",
    raftPort: port,
    rpcPort: port,
    promote,
  };
}

/** Says of a link whether `pattern` names it. */
function chooser(pattern: string): (link: string) => boolean {
  const [from, to] = pattern.split("->");
  assert(from !== undefined && to !== undefined, `"${pattern}" is no link`);
  return (link) => {
    const [sender, receiver] = link.split("->");
    return (from === "*" || from === sender) && (to === "*" || to === receiver);
  };
}

function wholeNumber(word: string): number {
  assert.match(word, /^\d+$/, `"${word}" is no number`);
  return Number(word);
}
