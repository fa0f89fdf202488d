/**
 * One value of everything that masters and clients of different versions exchange, or that a later version finds on a disk.
 * The fixtures hold the bytes that each released version wrote for them; a kind or field that is added gets a sample with
 * the version that adds it.
 */
import { WeirError } from "../../src/lib/errors.ts";
import type { Entry, Index, Message, MessageBody, Term } from "../../src/raft/types.ts";
import type { Command, CommandResult, EntryPayload } from "../../src/rpc/commands.ts";

const index = (value: number) => value as Index;
const term = (value: number) => value as Term;
const bytes = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));

const entries: readonly Entry[] = [
  { index: index(8), term: term(3), kind: "noop", payload: new Uint8Array(0) },
  { index: index(9), term: term(3), kind: "command", payload: bytes("00ff10") },
  { index: index(10), term: term(4), kind: "command", payload: bytes("01") },
];

const bodies: Readonly<Record<string, MessageBody>> = {
  requestVote: {
    ...{ kind: "requestVote", preVote: false, transfer: true },
    ...{ lastIndex: index(2 ** 40), lastTerm: term(3) },
  },
  preVote: {
    ...{ kind: "requestVote", preVote: true, transfer: false },
    ...{ lastIndex: index(0), lastTerm: term(0) },
  },
  voteReply: { kind: "voteReply", preVote: false, granted: true },
  preVoteReply: { kind: "voteReply", preVote: true, granted: false },
  append: {
    ...{ kind: "append", prevIndex: index(7), prevTerm: term(2) },
    ...{ commit: index(6), entries },
  },
  appendNothing: {
    ...{ kind: "append", prevIndex: index(7), prevTerm: term(2) },
    ...{ commit: index(7), entries: [] },
  },
  appendReply: {
    ...{ kind: "appendReply", ok: true, index: index(10) },
    ...{ hintIndex: index(0), hintTerm: term(0) },
  },
  appendRefused: {
    ...{ kind: "appendReply", ok: false, index: index(7) },
    ...{ hintIndex: index(4), hintTerm: term(2) },
  },
  heartbeat: { kind: "heartbeat", commit: index(6), readToken: 2 ** 33 },
  heartbeatReply: { kind: "heartbeatReply", readToken: 5 },
  snapshotDone: { kind: "snapshotDone", ok: true, index: index(100) },
  timeoutNow: { kind: "timeoutNow" },
};

/** Of Raft, by the name of the fixture. */
export const messages: Readonly<Record<string, Message>> = Object.fromEntries(
  Object.entries(bodies).map(([name, body]) => [
    name,
    { from: "node-a", to: "node-b", term: term(4), ...body },
  ]),
);

const time = { sec: 1_700_000_000, nsec: 123_000_000 };
const early = { sec: -5, nsec: 1 };
/** A name that is no UTF-8: bytes, as characters of latin1. */
const name = "gr\xc3\xbcn \xff";
const extent = { fileOffset: 0, length: 4096, writeId: 9217, blockIndex: 0, offset: 2 ** 33 };
const job = {
  argv: ["sort", "-o", "{out}", "{in}"],
  environment: { LANG: "C", EMPTY: "" },
  timeoutMs: 60_000,
  captureStdout: false,
};

/** Every command, those of clients first. */
export const commands: Readonly<Record<Command["kind"], Command>> = Object.fromEntries(
  (
    [
      {
        ...{ kind: "create", parent: 1, name, fileKind: "symlink", mode: 0o777, uid: 7, gid: 8 },
        ...{ target: "../a\xff", lease: false, exclusive: true, writeType: "THROUGH" },
      },
      { kind: "link", inode: 5, parent: 1, name },
      { kind: "unlink", parent: 1, name, held: true },
      { kind: "rmdir", parent: 1, name },
      { kind: "deleteTree", parent: 1, name },
      {
        ...{ kind: "rename", sourceParent: 1, sourceName: name, targetParent: 2 },
        ...{ targetName: "b", noReplace: true },
      },
      {
        ...{ kind: "setAttributes", inode: 5, mode: 0o600, uid: undefined, gid: 3 },
        ...{ atime: undefined, mtime: early },
      },
      { kind: "truncate", inode: 5, size: 2 ** 40 },
      { kind: "lease", inode: 5 },
      {
        ...{ kind: "commit", inode: 5, writeId: 9217, baseVersion: 3, size: 4096 },
        ...{ extents: [extent], keepers: [1, 2], mtime: time, release: true },
      },
      { kind: "releaseLease", inode: 5, writeId: 9217 },
      { kind: "release", inode: 5 },
      { kind: "persist", inode: 5 },
      {
        ...{ kind: "mount", parent: 1, name: "m", uri: "s3://bucket/p", readOnly: true },
        options: { region: "north" },
      },
      { kind: "unmount", parent: 1, name: "m" },
      {
        ...{ kind: "recordLineage", inputs: [{ path: `/${name}`, inode: 5, version: 3 }] },
        ...{ outputs: [{ path: "/o", parent: 1, name: "o" }], job, uid: 1, gid: 2 },
      },
      { kind: "deleteLineage", lineage: 4 },
      { kind: "openSession", clientName: "client", timeoutMs: 30_000 },
      { kind: "touchSessions", sessions: [1024, 2048] },
      { kind: "closeSession", session: 1024 },
      {
        ...{ kind: "registerWorker", uuid: "u", host: "h", address: "127.0.0.1:1" },
        tiers: [{ medium: "MEM", quotaBytes: 1024 }],
      },
      { kind: "workerLost", worker: 2 },
      { kind: "keeperGone", worker: 2, containers: [{ inode: 5, writeId: 9217 }] },
      {
        ...{ kind: "loadPage", directory: 1, listedAtIndex: 77, last: true },
        entries: [
          {
            ...{ name, kind: "file", size: 3, mode: 0o644, uid: 0, gid: 0 },
            ...{ mtime: time, fingerprint: "etag", target: undefined },
          },
        ],
      },
      { kind: "ufsDone", op: 3, fingerprint: "etag", error: undefined },
      { kind: "startAttempt", lineage: 4, worker: 2 },
      {
        ...{ kind: "commitAttempt", lineage: 4, epoch: 9217, worker: 2, durationMs: 12 },
        outputs: [{ inode: 6, size: 4096, hash: "ab", extents: [extent] }],
      },
      {
        ...{ kind: "failAttempt", lineage: 4, epoch: 9217, exitCode: -9, error: "killed" },
        ...{ durationMs: 12, blameless: false, final: undefined },
      },
      { kind: "resetLineage", lineage: 4 },
      { kind: "reapGarbage", keys: ["garbage/\xff"] },
      { kind: "reapTrash", directory: 9, names: [name] },
      {
        ...{ kind: "bootstrap", clusterId: "c", clusterName: "weir", blockSizeBytes: 2 ** 26 },
        ...{ rootUri: "file:///r", rootOptions: {}, uid: 0, gid: 0 },
      },
    ] as unknown as Command[]
  ).map((command) => [command.kind, command]),
) as Record<Command["kind"], Command>;

/** What log entries carry: all commands, in requests of two sessions. */
export const payloads = {
  all: {
    clusterTimeMs: 2 ** 35,
    wallTime: time,
    requests: [
      {
        ...{ session: 1024, sequence: 3, acknowledgedBelow: 2, atomic: true },
        commands: Object.values(commands).slice(0, 17),
      },
      {
        ...{ session: 0, sequence: 0, acknowledgedBelow: 0, atomic: false },
        commands: Object.values(commands).slice(17),
      },
    ],
  },
} as unknown as Readonly<Record<string, EntryPayload>>;

const status = {
  ...{ inode: 5, kind: "file", mode: 0o644, uid: 1, gid: 2, size: 4096, nlink: 1 },
  ...{ atime: time, mtime: early, ctime: time, version: 3, mountId: 1, persistence: "pending" },
  ...{ loaded: false, target: undefined, lineageId: 4, writeType: undefined, mountPoint: false },
};

export const results = {
  nothing: { ok: true, status: undefined, writeId: undefined, id: undefined },
  whole: { ok: true, status, writeId: 9217, id: 4 },
  refused: { ok: false, code: "NotEmpty", detail: "it has names" },
} as unknown as Readonly<Record<string, CommandResult>>;

/** Calls with their bodies in the heap's form; `method` and `part` say which schema is theirs. */
export const bodiesOfCalls = {
  mutate: {
    ...{ session: 1024, sequence: 3, acknowledgedBelow: 2, atomic: true },
    commands: Object.values(commands).slice(0, 17),
  },
  mutated: { position: 9217, results: Object.values(results) },
  status: {
    ...{ clusterId: "c", clusterName: "weir", nodeId: "n", role: "leader", leader: "master-1" },
    ...{ leaderAddress: "127.0.0.1:19998", term: 3, commitIndex: 10, appliedIndex: 9 },
    ...{ flushedIndex: 8, stateHash: "00ff", inodes: 2, natsUrl: "nats://127.0.0.1:4222" },
    masters: [{ name: "master-1", address: "127.0.0.1:19998" }],
    version: undefined,
    hashIndex: undefined,
  },
  change: { kind: "change", index: 9, inodes: [5, 6], names: [[1, name]] },
} as const;

export const error = new WeirError("NotLeader", "Cannot serve this call: here is no leader", {
  outcome: "notApplied",
});

/** Rows of a chunk of a snapshot. */
export const rows: readonly (readonly [string, Uint8Array])[] = [
  ["edge/\x00\x01/gr\xc3\xbcn", bytes("0102")],
  ["inode/\xff", bytes("")],
];

/** What masters say to each other before anything else. */
export const hello = {
  ...{ version: 1, purpose: "messages", clusterName: "weir", clusterId: "c", nodeId: "n" },
  ...{ name: "master-1", to: "master-2" },
} as const;
export const helloReplies = {
  accepted: {
    ...{ kind: "accepted", stage: "member", clusterId: "c", nodeId: "m", boundTo: "n" },
  },
  refused: { kind: "refused", reason: "it belongs elsewhere", permanent: true },
} as const;
export const formation = {
  clusterId: "c",
  members: [
    { name: "master-1", nodeId: "n" },
    { name: "master-2", nodeId: "m" },
  ],
  lastIndex: undefined,
} as const;
