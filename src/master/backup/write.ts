/**
 * Writes a backup to a file. It has its name only when it is whole and on disk: until then it is a file beside it that
 * ends in `.partial`, which goes when something fails. What was written is the state that its header names, by its hash.
 */
import { createHash } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import { frameHeader } from "../../lib/framing.ts";
import { encode } from "../../lib/schema.ts";
import { syncDirectory } from "../../journal/sync-directory.ts";
import {
  type BackupEnd,
  type BackupHeader,
  type BackupItem,
  backupItem,
} from "../../rpc/backup-items.ts";
import { decodeChunk } from "../store/chunk-codec.ts";
import { StateHash } from "../store/state-hash.ts";
import { backupMagic } from "./format.ts";

/** What was written. */
export interface WrittenBackup {
  readonly path: string;
  readonly bytes: number;
  readonly header: BackupHeader;
  readonly end: BackupEnd;
}

/**
 * Writes what `items` give to `path`, readable by its owner alone: it holds the credentials of all mounts.
 * @throws WeirError `ProtocolError` when the items are not a header, rows and an end; `Corrupt` when the rows do not sum up
 *   to what the header and the end say; what `items` throws
 */
export async function writeBackup(
  path: string,
  items: AsyncIterable<BackupItem>,
): Promise<WrittenBackup> {
  const partial = `${path}.partial`;
  try {
    const written = await writePartial(partial, items);
    await rename(partial, path);
    await syncDirectory(dirname(path));
    return { path, ...written };
  } catch (thrown) {
    await rm(partial, { force: true });
    throw toWeirError(thrown, `Cannot write the backup "${path}"`);
  }
}

async function writePartial(
  path: string,
  items: AsyncIterable<BackupItem>,
): Promise<Omit<WrittenBackup, "path">> {
  const file = await open(path, "w", 0o600);
  try {
    const hash = createHash("sha256");
    let bytes = 0;
    const write = async (piece: Uint8Array) => {
      hash.update(piece);
      await file.writeFile(piece);
      bytes += piece.length;
    };
    const state = new StateHash();
    const found = { chunks: 0, rows: 0, hash: "" };
    await write(backupMagic);
    let header: BackupHeader | undefined;
    let end: BackupEnd | undefined;
    for await (const item of items) {
      if ((header === undefined) !== (item.kind === "header") || end !== undefined) {
        throw outOfOrder(`"${item.kind}" comes out of order`);
      }
      if (item.kind === "header") header = item;
      if (item.kind === "rows") {
        const rows = decodeChunk(item.chunk);
        for (const [key, value] of rows) state.add(key, value);
        found.chunks++;
        found.rows += rows.length;
      }
      if (item.kind === "end")
        check({ ...item, hash: header!.stateHash }, { ...found, hash: state.digest() });
      // The sum is over what lies before the end.
      const whole = item.kind === "end" ? { ...item, sha256: hash.digest("hex") } : item;
      if (whole.kind === "end") {
        end = whole;
        const frame = frameOf(whole);
        const length = Buffer.alloc(4);
        length.writeUInt32BE(frame.length);
        await file.writeFile(Buffer.concat([frame, length]));
        bytes += frame.length + length.length;
      } else {
        await write(frameOf(whole));
      }
    }
    if (header === undefined || end === undefined) throw outOfOrder("it has no end");
    await file.sync();
    return { bytes, header, end };
  } finally {
    await file.close();
  }
}

type Sums = Readonly<Record<"chunks" | "rows" | "hash", string | number>>;

/** What was written is compared with what the master says of it: a backup that cannot be restored is none. */
function check(stated: Sums, found: Sums): void {
  for (const what of ["chunks", "rows", "hash"] as const) {
    if (stated[what] === found[what]) continue;
    throw new WeirError(
      "Corrupt",
      `Cannot take the backup that the master sends: its ${what} are ${found[what]}, wanted ${stated[what]}: the state of ` +
        "that master is damaged; take the backup from another one (weir backup create --from NAME), and let this one " +
        "join anew (weir cluster replace NAME)",
    );
  }
}

function frameOf(item: BackupItem): Buffer {
  const payload = encode(backupItem, item);
  return Buffer.concat([frameHeader(payload), payload]);
}

function outOfOrder(what: string): WeirError {
  return new WeirError("ProtocolError", `Cannot read the backup that the master sends: ${what}`);
}
