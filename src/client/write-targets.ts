/** What a writer of a file needs of the client that it belongs to. */
import type { BlockClient } from "../blocks/types.ts";
import type { Clock } from "../lib/clock.ts";
import type { WeirError } from "../lib/errors.ts";
import type { InodeId, WorkerId, WriteId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import type { FileStatus, WriteType } from "../rpc/namespace.ts";
import type { AnswerTime } from "./metadata-cache.ts";
import type { Session } from "./session.ts";

export interface WriteTargets {
  readonly session: Pick<Session, "current" | "ensure" | "mutate" | "execute">;
  readonly blocks: BlockClient;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly operationTimeoutMs: number;
  readonly defaultWriteType: WriteType;
  readonly defaultKeepers: number;
  /** Workers for a new container; `attempt` counts from 0 the chains that failed before. */
  chain(keepers: number, attempt: number): Promise<WorkerId[]>;
  /** Finds out which workers of a chain that failed are to be avoided. */
  examine(chain: readonly WorkerId[]): Promise<void>;
  blockSizeBytes(inode: InodeId): Promise<number>;
  getStatus(inode: InodeId): Promise<FileStatus>;
  /** Write ids of failed writers whose lease may still be ours: nothing more is written under them. */
  readonly spent: Set<WriteId>;
  /** A commit or truncation of this client made a new version. */
  onCommitted(status: FileStatus, at: AnswerTime): void;
  /** Whether we would hear now that another session waits for a lease. */
  hearsRecalls(): boolean;
  /** Work that nobody waits for now, but the end of the client does. */
  inBackground(work: Promise<void>): void;
  /** The writer is dead: `error` is to stick to all handles that write. */
  onFailure(inode: InodeId, error: WeirError): void;
}
