/** What a worker is asked to do for a queued side effect: the action as of now, and who has its data. */
import type { WorkerId } from "../../lib/ids.ts";
import { unlinkedPath } from "../../lib/store-names.ts";
import type { FileLayout } from "../../rpc/namespace.ts";
import type { UfsAction } from "../../rpc/tasks.ts";
import type { Inode, UfsOp } from "../state/model.ts";
import { inodeOf } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";

export interface EffectWork {
  readonly action: UfsAction;
  readonly prefer: WorkerId[];
}

/** Undefined when the file of a persist is gone, or has another version by now. */
export async function workOf(
  reader: StateReader,
  { action }: UfsOp,
  layoutOf: () => Promise<FileLayout | undefined>,
): Promise<EffectWork | undefined> {
  switch (action.kind) {
    case "persist": {
      const layout = await layoutOf();
      const file = inodeOf(reader, action.inode);
      if (layout === undefined || file === undefined) return undefined;
      if (layout.status.version !== action.version) return undefined;
      const { mode, uid, gid, mtime } = file;
      return {
        action: { kind: "persist", path: action.path, layout, mode, uid, gid, mtime },
        prefer: holdersOf(layout),
      };
    }
    case "delete": {
      const { path, of, inode, isKnown } = action;
      const file = inode === undefined ? undefined : inodeOf(reader, inode);
      const fingerprint = isKnown === true ? file?.source?.fingerprint : undefined;
      return anywhere({ kind: "delete", path, of, fingerprint, aside: asideOf(file) });
    }
    case "rename": {
      const { from, to, of, replaces, inode } = action;
      const replaced = replaces === undefined ? undefined : inodeOf(reader, replaces);
      const fingerprint = inodeOf(reader, inode)?.source?.fingerprint;
      return anywhere({ kind: "rename", from, to, of, aside: asideOf(replaced), fingerprint });
    }
    case "mkdir": {
      const { path, mode, uid, gid } = action;
      return anywhere({ kind: "mkdir", path, mode, uid, gid });
    }
    case "symlink":
      return anywhere({ kind: "symlink", path: action.path, target: action.target });
    case "migrate": {
      const { path, from, to, keep, inode } = action;
      const fingerprint = inodeOf(reader, inode)?.source?.fingerprint;
      return anywhere({ kind: "migrate", path, from, to, keep, fingerprint });
    }
    case "setAttributes": {
      const { path, mode, uid, gid, mtime } = action;
      return anywhere({ kind: "setAttributes", path, mode, uid, gid, mtime });
    }
  }
}

function anywhere(action: UfsAction): EffectWork {
  return { action, prefer: [] };
}

/** Who has a file open holds its inode; where it costs nothing, the bytes are kept for those too that did not say so yet. */
function asideOf(file: Inode | undefined): { path: string; must: boolean } | undefined {
  return file === undefined ? undefined : { path: unlinkedPath(file.id), must: file.holds > 0 };
}

/** Workers that have bytes of the file, in the layout's order of preference. */
function holdersOf(layout: FileLayout): WorkerId[] {
  return [...new Set(layout.segments.flatMap((segment) => segment.locations))];
}
