/** Files as the CLI shows them: a line of `ls`, the sheet of `stat`, the table of `locations`. */
import type { DirectoryEntry } from "../../client/file-system.ts";
import type { FileLocations, WeirClient } from "../../client/client.ts";
import type { FileStatus, Timestamp } from "../../rpc/namespace.ts";
import { bytesText, type Output, sheet, table } from "../output.ts";
import { joinPath, lastPart, showPath } from "../paths.ts";

/** A status as JSON: names as text, times as ISO 8601. */
export function statusValue(status: FileStatus): Record<string, unknown> {
  return {
    ...status,
    target: status.target === undefined ? undefined : showPath(status.target),
    atime: isoTime(status.atime),
    mtime: isoTime(status.mtime),
    ctime: isoTime(status.ctime),
  };
}

export function statusSheet(path: string, status: FileStatus): string {
  return sheet([
    ["path", path],
    ["inode", status.inode],
    [
      "kind",
      status.target === undefined ? status.kind : `${status.kind} to ${showPath(status.target)}`,
    ],
    ["mode", `${modeText(status)} (${status.mode.toString(8).padStart(4, "0")})`],
    ["device", status.rdev === undefined ? undefined : deviceText(status.rdev)],
    ["access list", status.hasAcl === true ? "see getfacl" : undefined],
    ["owner", `${String(status.uid)}:${String(status.gid)}`],
    [
      "size",
      status.kind === "file" ? `${String(status.size)} (${bytesText(status.size)})` : status.size,
    ],
    ["links", status.nlink],
    ["modified", isoTime(status.mtime)],
    ["changed", isoTime(status.ctime)],
    ["accessed", isoTime(status.atime)],
    ["version", status.version],
    ["persistence", status.kind === "file" ? status.persistence : undefined],
    ["write type", status.writeType],
    ["made by", status.lineageId === undefined ? undefined : `lineage ${String(status.lineageId)}`],
    ["mount", `${String(status.mountId)}${status.mountPoint ? " (its root)" : ""}`],
  ]);
}

/** The major and the minor number of a device. */
function deviceText(rdev: number): string {
  return `${String(Math.floor(rdev / 2 ** 32))}:${String(rdev % 2 ** 32)}`;
}

/** Lists a directory, or shows one file, as it comes: nothing waits for a large directory to end. */
export async function listTo(
  output: Output,
  client: WeirClient,
  path: string,
  recursive: boolean,
): Promise<void> {
  const entries = entriesOf(client, path, recursive);
  // The first page is asked for before anything is written: a path that does not exist leaves no half of an array.
  let next = await entries.next();
  if (output.json) output.write("[");
  for (let first = true; next.done !== true; first = false) {
    const { name, status } = next.value;
    if (output.json) {
      const value = JSON.stringify({ name: showPath(name), ...statusValue(status) });
      output.write(`${first ? "" : ","}\n${value}`);
    } else output.write(`${listLine(name, status)}\n`);
    next = await entries.next();
    if (next.done === true && output.json) output.write("\n");
  }
  if (output.json) output.write("]\n");
}

async function* entriesOf(
  client: WeirClient,
  path: string,
  recursive: boolean,
): AsyncGenerator<DirectoryEntry> {
  const status = await client.stat(path);
  if (status.kind !== "directory") {
    yield { name: lastPart(path), status };
    return;
  }
  if (!recursive) {
    yield* client.list(path);
    return;
  }
  const above = path === "/" ? 1 : path.length + 1;
  for await (const each of client.walk(path)) {
    if (each.path !== path) yield { name: each.path.slice(above), status: each.status };
  }
}

function listLine(name: string, status: FileStatus): string {
  const size = status.kind === "file" ? bytesText(status.size) : "-";
  const state = status.kind === "file" ? status.persistence : status.mountPoint ? "mount" : "";
  const target = status.target === undefined ? "" : ` -> ${showPath(status.target)}`;
  const owner = `${String(status.uid)}:${String(status.gid)}`;
  const more = status.hasAcl === true ? "+" : " ";
  return `${modeText(status)}${more} ${owner.padEnd(9)}  ${size.padStart(8)}  ${isoTime(status.mtime).slice(0, 19)}  ${state.padEnd(9)}  ${showPath(name)}${target}`;
}

const kindLetters = {
  file: "-",
  directory: "d",
  symlink: "l",
  fifo: "p",
  socket: "s",
  charDevice: "c",
  blockDevice: "b",
} as const;

/** `drwxr-xr-x`, as in ls(1). */
export function modeText({ kind, mode }: Pick<FileStatus, "kind" | "mode">): string {
  const bits = [6, 3, 0].map((shift, place) => {
    const three = (mode >> shift) & 7;
    const special = (mode >> (11 - place)) & 1;
    const execute = (three & 1) === 1;
    const letter = place === 2 ? "t" : "s";
    const last = special === 1 ? (execute ? letter : letter.toUpperCase()) : execute ? "x" : "-";
    return `${three & 4 ? "r" : "-"}${three & 2 ? "w" : "-"}${last}`;
  });
  return kindLetters[kind] + bits.join("");
}

function isoTime({ sec, nsec }: Timestamp): string {
  const milliseconds = sec * 1000 + Math.floor(nsec / 1_000_000);
  // Dates beyond what Date can show are valid times of files.
  if (Math.abs(milliseconds) > 8.64e15) return `${String(sec)} s since 1970`;
  return new Date(milliseconds).toISOString();
}

interface LocationsValue {
  readonly size: number;
  readonly persistence: FileStatus["persistence"];
  readonly locations: readonly { worker: number; address: string; state: string; bytes: number }[];
  readonly ufs: { readonly mount: number; readonly path: string } | undefined;
}

/** For each worker that has some of the file: how many of its bytes. */
export function locationsOf({ status, segments, ufs, workers }: FileLocations): LocationsValue {
  const bytesAt = new Map<number, number>();
  for (const { length, locations } of segments) {
    for (const worker of locations) bytesAt.set(worker, (bytesAt.get(worker) ?? 0) + length);
  }
  return {
    size: status.size,
    persistence: status.persistence,
    locations: [...bytesAt]
      .sort(([a], [b]) => a - b)
      .map(([worker, bytes]) => {
        const info = workers.find(({ id }) => id === worker);
        return {
          worker,
          address: info?.address ?? "unknown",
          state: info?.state ?? "unknown",
          bytes,
        };
      }),
    ufs:
      ufs === undefined
        ? undefined
        : { mount: ufs.mountId, path: showPath(joinPath("/", ufs.path)) },
  };
}

export function locationsText(value: LocationsValue): string {
  const rows = value.locations.map(({ worker, address, state, bytes }) => [
    String(worker),
    address,
    state,
    `${bytesText(bytes)} of ${bytesText(value.size)}`,
  ]);
  const store =
    value.ufs === undefined
      ? `in the under storage: not yet (${value.persistence})`
      : `in the under storage: mount ${String(value.ufs.mount)}, ${value.ufs.path}`;
  return `${table(["WORKER", "ADDRESS", "STATE", "BYTES"], rows)}${store}\n`;
}
