/** The journal's contract. It belongs to the consensus host, which needs it and imports nothing of this folder. */
export type { Journal, JournalBatch, JournalIdentity, JournalState } from "../raft/journal.ts";
