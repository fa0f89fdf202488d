/**
 * The file of a backup, around the items of `rpc/backup-items`. Pure.
 *
 * file: magic (8 bytes) | frames | frame of the end | length of that frame with its header (u32, big-endian)
 * frame: length u32 | crc32 u32 | item, as in `lib/framing`
 *
 * Invariant: whatever is cut, flipped or appended is found, by the crc of a frame, or by the end, which counts and hashes
 * all that lies before it.
 */

export const backupMagic = Buffer.from("WEIRBAK\x01", "latin1");
/** Files in a directory of backups end in this. */
export const backupSuffix = ".weirbackup";
/** Largest frame: chunks are far smaller, but for one with a single large value. */
export const maxBackupFrameBytes = 64 * 1024 * 1024;
/** In the data directory of a master while a backup is restored into it. */
export const restoringName = "restoring";
