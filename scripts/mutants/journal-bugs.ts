/** Bugs of the journal: what is durable, what is damage, what a restart finds. */
import type { Mutant } from "./mutant.ts";

const suites = [
  "test/journal/cases.test.ts test/journal/torn-or-damaged.test.ts",
  "test/journal/contract.test.ts test/journal/journal.test.ts test/journal/format.test.ts",
  "test/journal/recovery.test.ts",
];

export const journalMutants: readonly Mutant[] = [
  {
    name: "does not check the crc of what a frame holds",
    file: "src/journal/format.ts",
    find: "frame.readUInt32BE(22) === crc32(body, header.salt) &&",
    replace: "",
    suites,
  },
  {
    name: "does not check the crc of a frame's header",
    file: "src/journal/format.ts",
    find: `  if (bytes.readUInt32BE(at + 4) !== headerCrcOf(bytes, at, header.salt)) {
    return { kind: "invalid", torn: false`,
    replace: `  if (bytes.readUInt32BE(at + 4) === 0) {
    return { kind: "invalid", torn: false`,
    suites,
  },
  {
    name: "cuts a damaged frame that was written whole",
    file: "src/journal/recovery.ts",
    find: "if (invalid !== undefined && !invalid.torn) {",
    replace: "if (invalid !== undefined && header.version === 0) {",
    suites,
  },
  {
    name: "cuts at an invalid frame whatever lies behind it",
    file: "src/journal/recovery.ts",
    find: "const behind = findFrame(bytes, at + sectorBytes, header);",
    replace: "const behind = findFrame(bytes, bytes.length, header);",
    suites,
  },
  {
    name: "takes a torn write for damage",
    file: "src/journal/format.ts",
    find: "const torn = blankSectorsOf(frame) > frame.readUInt32BE(18);",
    replace: "const torn = blankSectorsOf(frame) > frame.length;",
    suites,
  },
  {
    name: "takes zeros of a payload for a torn write",
    file: "src/journal/format.ts",
    find: "const torn = blankSectorsOf(frame) > frame.readUInt32BE(18);",
    replace: "const torn = blankSectorsOf(frame) > 0;",
    suites,
  },
  {
    name: "takes a frame that lies at another place",
    file: "src/journal/format.ts",
    find: "if (syncedOffset !== header.startOffset + at || at + padded > bytes.length) {",
    replace: "if (syncedOffset < 0 || at + padded > bytes.length) {",
    suites,
  },
  {
    name: "does not miss the last segment",
    file: "src/journal/recovery.ts",
    find: "if (held.isNextAnnounced) throw damage(held.path, held.header.sizeBytes, missing(held.header));",
    replace: "",
    suites,
  },
  {
    name: "does not see that a segment ends too early",
    file: "src/journal/recovery.ts",
    find: "if (previousEnd !== header.startOffset + end) {",
    replace: "if (previousEnd < 0) {",
    suites,
  },
  {
    name: "leaves behind its end what a torn write left there",
    file: "src/journal/segments.ts",
    find: "if (tornEnd > segment.end) await writer.write(Buffer.alloc(tornEnd - segment.end), segment.end);",
    replace: "void writer, tornEnd, segment;",
    suites,
  },
  {
    name: "does not repeat the hard state at the head of a segment",
    file: "src/journal/journal.ts",
    find: 'if (term > 0) head.push({ type: "hardState", ...this.#hardState });',
    replace: "void term;",
    suites,
  },
  {
    name: "does not repeat the base at the head of a segment",
    file: "src/journal/journal.ts",
    find: "else if (this.#baseIndex > 0) {",
    replace: "else if (this.#baseIndex < 0) {",
    suites,
  },
  {
    name: "takes a failed write for done",
    file: "src/journal/journal.ts",
    find: "        this.#fail(thrown, group);\n        break;",
    replace: "        void thrown;",
    suites,
  },
  {
    name: "tries again after a failed write",
    file: "src/journal/journal.ts",
    find: "if (this.#failure !== undefined) return Promise.reject(this.#failure);",
    replace: "this.#failure = undefined;",
    suites,
  },
  {
    name: "answers before the write is done",
    file: "src/journal/journal.ts",
    find: "await this.#write(group);",
    replace: "void this.#write(group);",
    suites,
  },
  {
    name: "removes a segment that holds entries that are still needed",
    file: "src/journal/segments.ts",
    find: "while (this.#sealed.length > 0 && this.#sealed[0]!.maxIndex <= index) {",
    replace: "while (this.#sealed.length > 0 && index >= 0) {",
    suites,
  },
  {
    name: "takes entries while the disk is full",
    file: "src/journal/journal.ts",
    find: "if (entries.length > 0 && this.#failure === undefined && this.diskFull) {",
    replace: "if (entries.length < 0 && this.#failure === undefined && this.diskFull) {",
    suites,
  },
  {
    name: "opens with a gap in the log",
    file: "src/journal/replay.ts",
    find: "if (entry.index > last.index + 1) {",
    replace: "if (entry.index < 0) {",
    suites,
  },
  {
    name: "opens with a gap between the base and the first entry",
    file: "src/journal/replay.ts",
    find: "if (first !== undefined && first.index !== this.#baseIndex + 1) {",
    replace: "if (first !== undefined && first.index < 0) {",
    suites,
  },
  {
    name: "opens with the term of an earlier record",
    file: "src/journal/replay.ts",
    find: "this.#hardState = { term: record.term, vote: record.vote };",
    replace: "this.#hardState = { term: this.#hardState.term || record.term, vote: record.vote };",
    suites,
  },
];
