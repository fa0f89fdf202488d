/** A union mount with files of several ages in its layers. */
import { rootInodeId } from "../../../src/lib/ids.ts";
import type { Migration, MountLayer } from "../../../src/rpc/namespace.ts";
import { entryOf, Machine, pageOf } from "./machine-fixture.ts";

const layer = (name: string, readOnly = false): MountLayer => ({
  ...{ name, uri: `file:///${name}`, readOnly, options: {} },
});

export const migrationOf = (of: Partial<Migration> = {}): Migration => ({
  ...{ from: "hot", to: "cold", keep: false },
  ...{ olderThanMs: undefined, pattern: undefined, atLeastBytes: undefined, ...of },
});

export const day = 86_400_000;

/** A union of three layers at /u with four files, and when each was last modified, in days before the first command. */
export function union(machine = Machine.make()): Machine {
  machine.done({
    ...{ kind: "mount", parent: rootInodeId, name: "u", uri: "", readOnly: false, options: {} },
    ...{ layers: [layer("hot"), layer("cold"), layer("frozen", true)], writeLayer: "hot" },
  });
  const entry = (name: string, layerName: string, daysAgo: number, size = 100) =>
    entryOf(name, {
      size,
      fingerprint: `${layerName}:${name}`,
      mtime: { sec: machine.wallSeconds - daysAgo * 86_400, nsec: 0 },
    });
  machine.done(
    pageOf(machine.at("/u").id, [
      entry("new", "hot", 1),
      entry("old", "hot", 40, 1000),
      entry("older", "hot", 50),
      entry("there", "cold", 60),
      entryOf("sub", { kind: "directory", fingerprint: "hot:" }),
    ]),
  );
  machine.done(pageOf(machine.at("/u/sub").id, [entry("deep", "hot", 70)]));
  return machine;
}
