/**
 * The mount table, from the first command of a cluster on.
 *
 * Invariants
 * 1. Two mounts of which one may be written reach no common object, unless one was made by somebody who knows of it.
 * 2. The root of a mount that is not shared has no mode for its group or for others.
 */
import {
  type InodeId,
  type MountId,
  rootInodeId,
  rootMountId,
  type UfsOpId,
} from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import {
  type Context,
  makeInode,
  needDirectory,
  needWritable,
  patchInode,
  patchMount,
  Refusal,
  refuse,
  takeId,
} from "./context.ts";
import { clusterKey, counterKey, mountIdsKey, mountKey } from "./keys.ts";
import { addLink, needEdge, needLoaded, needValidName, removeLink } from "./links.ts";
import {
  cluster,
  type Inode,
  type Link,
  type Mount,
  mount as mountSchema,
  mountIds,
  storedId,
  trashInodeId,
} from "./model.ts";
import { moveToTrash, shown } from "./namespace-commands.ts";
import { needSuperuser } from "./permissions.ts";
import {
  ancestorsOf,
  clusterOf,
  edgeOf,
  inodeOf,
  isReachable,
  mountOf,
  mountsOf,
  pathOf,
  ufsOpOf,
} from "./queries.ts";
import {
  flawOfStores,
  overlapOf,
  overlapWithin,
  reachFurther,
  type Stores,
  storesAfter,
  storesOfMount,
} from "./mount-stores.ts";
import { privateMode } from "./private-mounts.ts";
import { forgetOp } from "./ufsop-ends.ts";
import { chmodList } from "./xattrs.ts";
import { noteSyncOption } from "./sync-interval.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** Makes the cluster: "/" as the root of its first mount, and the trash. */
export function bootstrap(context: Context, command: Of<"bootstrap">): CommandResult {
  if (clusterOf(context.state) !== undefined) {
    refuse("AlreadyExists", "the cluster has been made already");
  }
  const { clusterId, clusterName, blockSizeBytes, uid, gid } = command;
  if (blockSizeBytes === 0) refuse("InvalidArgument", "blocks have at least 1 byte");
  context.state.write(cluster, clusterKey, { clusterId, clusterName, blockSizeBytes });
  const directory = { kind: "directory", mode: 0o755, uid, gid, mountId: rootMountId } as const;
  makeInode(context, directory, { id: rootInodeId, mountPoint: true, loaded: false });
  makeInode(context, { ...directory, mode: 0 }, { id: trashInodeId });
  context.state.write(storedId, counterKey("Inode"), trashInodeId + 1);
  context.state.write(storedId, counterKey("Mount"), rootMountId + 1);
  putMount(context, {
    id: rootMountId,
    uri: command.rootUri,
    readOnly: false,
    options: command.rootOptions,
    root: rootInodeId,
    pendingOps: 0,
    movedIndex: 0,
    covered: undefined,
  });
  return { ok: true };
}

/** Adds a mount to the table. */
function putMount(context: Context, of: Mount): void {
  context.state.write(mountSchema, mountKey(of.id), of);
  const ids = context.state.read(mountIds, mountIdsKey) ?? [];
  context.state.write(mountIds, mountIdsKey, [...ids, of.id]);
  noteSyncOption(context, of);
  context.notes.events.push({ kind: "mounted", mount: of.id });
}

/**
 * The superuser's alone, as `unmount`. The name must be free, or that of an empty directory, which comes back at unmount.
 * The store below `parent` is not touched. Result: the status of the new directory; `id` is the mount.
 */
export function mount(context: Context, command: Of<"mount">): CommandResult {
  needSuperuser(context);
  const parent = needDirectory(context, command.parent);
  needValidName(command.name);
  const stores = storesOfMount(command);
  const flaw = flawOfStores(stores);
  if (flaw !== undefined) refuse("InvalidArgument", flaw);
  if (!isReachable(context.state, parent.id)) {
    refuse("NotFound", `directory ${parent.id} was removed`);
  }
  const name: Link = { parent: parent.id, name: command.name };
  const covered = cover(context, name);
  if (covered === undefined) needLoaded(parent);
  if (context.level >= 2) {
    if (covered === undefined) needWritable(context, parent);
    if (command.overlap !== true) needStoresOfItsOwn(context, stores);
  }
  const id = takeId(context, "Mount") as MountId;
  const above = covered === undefined ? parent : inodeOf(context.state, covered)!;
  const isPrivate = command.shared === false;
  const { uid, gid } = isPrivate ? (command.owner ?? superuser) : above;
  const root = makeInode(
    context,
    {
      kind: "directory",
      mode: isPrivate ? privateMode(above.mode) : above.mode,
      uid,
      gid,
      mountId: id,
    },
    { mountPoint: true, loaded: false },
  );
  addLink(context, root, name);
  putMount(context, {
    id,
    ...stores,
    root: root.id,
    pendingOps: 0,
    movedIndex: 0,
    covered,
    sharedMode: isPrivate ? above.mode : undefined,
  });
  return { ...shown(context, root.id), id } as CommandResult;
}

/** Whom a mount that is not shared lets in, if nobody is named. */
const superuser = { uid: 0, gid: 0 };

/** Refuses stores of which another mount, or another layer, has a part, when one of them may be written. */
function needStoresOfItsOwn(context: Context, wanted: Stores, itself?: MountId): void {
  const wish = "wanted both read-only, or that you say that they may overlap";
  const why = "what is changed through one of them would not be seen through the other";
  const within = overlapWithin(wanted);
  if (within !== undefined) refuse("Busy", `${within}, of another layer: ${why}; ${wish}`);
  for (const other of mountsOf(context.state)) {
    const how = other.id === itself ? undefined : overlapOf(wanted, other);
    if (how === undefined) continue;
    const path = pathOf(context.state, other.root) ?? "/";
    refuse("Busy", `${how}, which is mounted at "${path}": ${why}; ${wish}`);
  }
}

/** The superuser's alone. Result: the status of the mount's root. */
export function updateMount(context: Context, command: Of<"updateMount">): CommandResult {
  needSuperuser(context);
  const of = mountOf(context.state, command.mount);
  if (of === undefined) refuse("NotFound", `no mount ${command.mount} exists`);
  if (command.layers !== undefined && of.layers === undefined) {
    refuse("InvalidArgument", `"${of.uri}" is one store and has no layers`);
  }
  const stores = storesAfter(of, command);
  const flaw = flawOfStores(stores);
  if (flaw !== undefined) refuse("InvalidArgument", flaw);
  if (stores.readOnly && !of.readOnly && of.pendingOps > 0) {
    refuse("Busy", `${of.pendingOps} changes are not in the store yet, and could not get there`);
  }
  if (command.overlap !== true && reachFurther(stores, of)) {
    needStoresOfItsOwn(context, stores, of.id);
  }
  patchMount(context, of.id, stores);
  noteSyncOption(context, stores);
  if (command.shared !== undefined) share(context, of, command.shared);
  context.notes.events.push({ kind: "mountUpdated", mount: of.id });
  return shown(context, of.root);
}

/** Opens the root to whom its mode lets in, or closes it to all but its owner. */
function share(context: Context, of: Mount, isShared: boolean): void {
  const isPrivate = of.sharedMode !== undefined;
  if (isShared !== isPrivate) return;
  const root = inodeOf(context.state, of.root)!;
  const mode = isShared ? of.sharedMode! : privateMode(root.mode);
  chmodList(context, root, mode);
  patchInode(context, root.id, { mode, ctime: context.wallTime });
  patchMount(context, of.id, { sharedMode: isShared ? undefined : root.mode });
}

/**
 * A mount that the leader decided against: what a store says must not be asked for twice. Result: that refusal, whether its
 * code is known here or not.
 */
export function refuseMount({ code, detail }: Of<"refuseMount">): never {
  throw new Refusal(code, detail);
}

/** Takes the name from the empty directory that has it; returns that directory, if there is one. */
function cover(context: Context, name: Link): InodeId | undefined {
  const existing = edgeOf(context.state, name.parent, name.name);
  if (existing === undefined) return undefined;
  const hidden = inodeOf(context.state, existing.child)!;
  if (hidden.kind !== "directory") refuse("NotDirectory", `"${name.name}" is a ${hidden.kind}`);
  if (hidden.mountPoint) refuse("Busy", `"${name.name}" is a mount point already`);
  if (hidden.childCount > 0) refuse("NotEmpty", `"${name.name}" is not empty`);
  needLoaded(hidden);
  removeLink(context, hidden, name);
  return hidden.id;
}

/** Most queued changes that one command gives up. */
export const giveUpLimit = 1000;

/** What is below leaves the namespace; the store keeps it. Result: nothing, or how many changes are still to be given up. */
export function unmount(context: Context, command: Of<"unmount">): CommandResult {
  needSuperuser(context);
  const parent = needDirectory(context, command.parent);
  const name: Link = { parent: parent.id, name: command.name };
  const root = inodeOf(context.state, needEdge(context, parent, command.name).child)!;
  if (!root.mountPoint) refuse("InvalidArgument", `"${command.name}" is no mount point`);
  const of = mountOf(context.state, root.mountId)!;
  if (command.force === undefined) needAllStored(context, of, root);
  for (const other of mountsOf(context.state)) {
    if (other.id === of.id) continue;
    for (const ancestor of ancestorsOf(context.state, other.root)) {
      if (ancestor === root.id) refuse("Busy", `"${other.uri}" is mounted below`);
    }
  }
  if (command.force !== undefined) {
    giveUp(context, of.id, command.force);
    const { pendingOps } = mountOf(context.state, of.id)!;
    if (pendingOps > 0) return { ok: true, id: pendingOps };
  }
  patchInode(context, root.id, { mountPoint: false });
  moveToTrash(context, inodeOf(context.state, root.id)!, name);
  if (of.covered !== undefined) addLink(context, inodeOf(context.state, of.covered)!, name);
  context.state.delete(mountKey(of.id));
  const ids = context.state.read(mountIds, mountIdsKey)!;
  context.state.write(
    mountIds,
    mountIdsKey,
    ids.filter((id) => id !== of.id),
  );
  context.notes.events.push({ kind: "unmounted", mount: of.id });
  return { ok: true };
}

/**
 * Refuses to take away what no store has. Who writes a file below, and has not committed, is told by the commit: its mount is
 * gone.
 */
function needAllStored(context: Context, { pendingOps }: Mount, root: Inode): void {
  if (context.level < 2) {
    if (pendingOps > 0) refuse("Busy", `${pendingOps} changes are not in the store yet`);
    return;
  }
  const orForce = "or that you give them up (unmount --force)";
  if (pendingOps > 0) {
    refuse(
      "Busy",
      `${pendingOps} changes are not in the store yet, wanted none (fs effects), ${orForce}`,
    );
  }
  const total = context.usage.totalOf(root);
  if (total === undefined) {
    refuse("Busy", `what is below is still being counted, wanted the end of that, ${orForce}`);
  }
  if (total.unpersistedBytes > 0) {
    const path = pathOf(context.state, root.id) ?? "/";
    const wish = `wanted none (fs persist ${path}), ${orForce}`;
    refuse(
      "Busy",
      `${total.unpersistedBytes} bytes of files below "${path}" are in no store, ${wish}`,
    );
  }
}

/** Forgets queued changes of the mount, as if each was discarded. */
function giveUp(context: Context, mount: MountId, ops: readonly UfsOpId[]): void {
  if (ops.length > giveUpLimit) {
    refuse("InvalidArgument", `${ops.length} changes at once, wanted at most ${giveUpLimit}`);
  }
  for (const id of new Set(ops)) {
    const op = ufsOpOf(context.state, id);
    if (op?.mountId === mount) forgetOp(context, op);
  }
}
