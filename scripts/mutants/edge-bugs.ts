/** Bugs at the edges: towards masters of other versions, and towards connections that are nobody's. */
import type { Mutant } from "./mutant.ts";

const misfits = ["test/raft/node-misfits.test.ts"];
const sessions = ["test/master/services/serve-sessions.test.ts"];
const exactlyOnce = ["test/master/state/exactly-once.test.ts"];
const rpcStrangers = ["test/rpc/strangers.test.ts"];
const strangers = ["test/raft/strangers.test.ts"];

export const edgeMutants: readonly Mutant[] = [
  {
    name: "writes down a move while a member is away that may not know how members change",
    file: "src/raft/host/member-changes.ts",
    find: "this.#requireVersions(this.#options.transport.versions.oldest);",
    replace: "this.#requireVersions();",
    suites: misfits,
  },
  {
    name: "takes a member that is away for one of the newest version",
    file: "src/raft/transport.ts",
    find: "(lastSpoken > 0 ? lastSpoken : this.versions.oldest)",
    replace: "this.versions.newest",
    suites: misfits,
  },
  {
    name: "adds a master that cannot read what the log may hold",
    file: "src/raft/host/admission.ts",
    find: "if ((accepted.version ?? 1) < transport.versions.newest) {",
    replace: "if ((accepted.version ?? 1) < transport.versions.oldest) {",
    suites: misfits,
  },
  {
    name: "writes a command that a member of the version before cannot decode",
    file: "src/master/services/serve-sessions.ts",
    find: "if (raft.oldestVersion >= sinceVersion.refuseMount) {",
    replace: "if (raft.oldestVersion >= sinceVersion.refuseMount - 1) {",
    suites: sessions,
  },
  {
    name: "stores a code that it does not know as another one",
    file: "src/rpc/commands.ts",
    find: "return { ok: false, code, detail: reader.text() };",
    replace: "return { ok: false, code: knownCode(code), detail: reader.text() };",
    suites: exactlyOnce,
  },
  {
    name: "holds as much of first frames as is sent",
    file: "src/rpc/server.ts",
    find: "for (const held of this.#strangers.values()) bytes += held;",
    replace: "for (const held of this.#strangers.values()) bytes = held;",
    suites: rpcStrangers,
  },
  {
    name: "gives a long first frame no more time than a short one",
    file: "src/rpc/server.ts",
    find: "          late.refresh();\n",
    replace: "",
    suites: rpcStrangers,
  },
  {
    name: "takes any number of callers that are no members",
    file: "src/raft/transport.ts",
    find: `else this.#bound(this.#guests, socket, "that are no members");`,
    replace: "",
    suites: strangers,
  },
  {
    name: "keeps and repeats all that a caller says of itself",
    file: "src/raft/transport.ts",
    find: "const why = shortened(reason, longestReason);",
    replace: "const why = reason;",
    suites: strangers,
  },
];
