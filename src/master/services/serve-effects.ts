/** RPC: side effects on stores that are not done, for operators. The leader alone knows how far it has come with them. */
import type { MountId, UfsOpId } from "../../lib/ids.ts";
import { type Effect, masterApi } from "../../rpc/master-api.ts";
import type { RpcServer } from "../../rpc/server.ts";
import type { Mount, UfsOp } from "../state/model.ts";
import { mountsOf, pathOf } from "../state/queries.ts";
import { pendingUfsOpsPage } from "./listings.ts";
import type { EffectProgress } from "./ufs-op-queue.ts";
import { type MasterParts, readPoint } from "./parts.ts";
import { needSuperuser } from "./read-rights.ts";

/** Most operations in one answer, in one read of the state, and most that are looked through for one answer. */
const longestPage = 1000;
const pageLength = 500;
const mostLookedThrough = 20_000;

export function serveEffects(server: RpcServer, parts: MasterParts): void {
  const { store, leadership } = parts;

  server.handle(masterApi.effects, async (request, { signal }) => {
    const { after, onlyFailed, limit, caller } = request;
    needSuperuser(caller, "Cannot list changes of stores");
    await readPoint(parts, "linearizable", { signal });
    const { effects: queue } = await parts.leader(signal);
    const now = leadership.clusterTimeMs();
    const effects: Effect[] = [];
    const most = Math.min(limit, longestPage);
    let left = mostLookedThrough;
    // By id: mounts that come meanwhile come behind.
    const mounts = mountsOf(store).sort((a, b) => a.id - b.id);
    for (const mount of mounts) {
      if (after !== undefined && mount.id < after.mountId) continue;
      let last = after?.mountId === mount.id ? after.op : undefined;
      for (;;) {
        const page = await pendingUfsOpsPage(store, mount.id, { after: last, limit: pageLength });
        for (const op of page) {
          if (effects.length >= most || left-- <= 0)
            return { effects, next: place(mount.id, last) };
          last = op.id;
          if (onlyFailed && op.failed === undefined) continue;
          const at = pathOf(store, mount.root) ?? "/";
          effects.push(
            effectOf(op, { mount, at, now, progress: queue.progressOf(mount.id, op.id) }),
          );
        }
        if (page.length < pageLength) break;
      }
    }
    return { effects, next: undefined };
  });
}

function place(mountId: MountId, op: UfsOpId | undefined): { mountId: MountId; op: UfsOpId } {
  return { mountId, op: op ?? (0 as UfsOpId) };
}

function effectOf(
  { id, action, failed, queuedMs }: UfsOp,
  at: {
    readonly mount: Mount;
    readonly at: string;
    readonly now: number;
    readonly progress: EffectProgress | undefined;
  },
): Effect {
  const { progress } = at;
  return {
    op: id,
    mountId: at.mount.id,
    mount: at.at,
    kind: action.kind,
    path: action.kind === "rename" ? action.from : action.path,
    to: action.kind === "rename" ? action.to : undefined,
    state: failed !== undefined ? "failed" : progress?.isUnderWay === true ? "underWay" : "waiting",
    attempts: failed?.attempts ?? progress?.attempts ?? 0,
    error: failed?.error ?? progress?.error,
    ageMs: queuedMs === undefined ? undefined : Math.max(0, at.now - queuedMs),
  };
}
