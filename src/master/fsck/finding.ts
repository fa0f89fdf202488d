/** Findings as a check reports them, and what to do about each kind. Pure. */
import type { CheckName, Finding } from "../../rpc/fsck-items.ts";

/** As a check reports it: the path is looked for later. */
export type Found = Omit<Finding, "path" | "cure">;

const replicated =
  "compare the masters (weir status --exact): where only one has another state hash, replace it " +
  "(weir cluster replace NAME); where all agree, the state itself is wrong: keep a backup of it for its makers, and " +
  "restore one from before, or go on with what is shown here in mind";

/** What to do about a finding of a kind. Nothing is mended here: state changes by committed commands alone. */
export const cures: Readonly<Record<CheckName, string>> = {
  row: replicated,
  names: replicated,
  links: replicated,
  tree: replicated,
  content: replicated,
  keepers: replicated,
  leases: `close the session's client, which ends its leases; if that changes nothing, ${replicated}`,
  holds: `close the session's client, which ends its holds; if that changes nothing, ${replicated}`,
  garbage: `it takes room and does no other harm; ${replicated}`,
  effects: replicated,
  attributes: replicated,
  usage: replicated,
  policies: replicated,
  operations: replicated,
  mounts: replicated,
  lineages: replicated,
  counters: replicated,
  lost: "start the workers that kept it, or make it again (weir lineage run), or restore it, or remove the file",
  orphan: "nothing: the leader has its worker remove it",
};
