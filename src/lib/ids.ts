/**
 * Identifiers of the field, as branded numbers: all are plain integers below 2^53, the brand only keeps one from
 * being passed for another.
 *
 * Invariants
 * 1. Ids come from the replicated state: a position in the log, or a counter in the state. None comes from a machine.
 * 2. No id is used twice.
 */

declare const brand: unique symbol;
type Branded<Name extends string> = number & { readonly [brand]: Name };

/** A file, directory or link; a counter in the state. The root is 1. */
export type InodeId = Branded<"InodeId">;
/** A client session: the position of the command that opened it. */
export type SessionId = Branded<"SessionId">;
/** One opening of a file's content for writing: the position of the command that opened it. Names a container. */
export type WriteId = Branded<"WriteId">;
/** A registered worker; a counter in the state, bound to the worker's uuid. */
export type WorkerId = Branded<"WorkerId">;
/** An entry of the mount table; a counter in the state. The root mount is 1. */
export type MountId = Branded<"MountId">;
/** A recorded lineage; a counter in the state. */
export type LineageId = Branded<"LineageId">;
/** A pending side effect on a store (`ufsop`); a counter in the state, in the order of the commands. */
export type UfsOpId = Branded<"UfsOpId">;
/** An operation on a whole tree, done in the background; a counter in the state. */
export type TreeOpId = Branded<"TreeOpId">;
/** A data policy; a counter in the state. */
export type DataPolicyId = Branded<"DataPolicyId">;
/** Where a command stands in the log: entry index × 1,024 + place in the entry (0 … 1,023). */
export type Position = Branded<"Position">;

/** Most commands that one log entry may carry: what a position leaves room for. */
export const maxCommandsPerEntry = 1024;

/** The position of the command at `place` (0 … 1,023) of the entry at log index `index`. */
export function positionOf(index: number, place: number): Position {
  return (index * maxCommandsPerEntry + place) as Position;
}

/** The log index of a position, or of an id that is one (session, write). */
export function indexOfPosition(position: Position | SessionId | WriteId): number {
  return Math.floor(position / maxCommandsPerEntry);
}

export const rootInodeId = 1 as InodeId;
export const rootMountId = 1 as MountId;
