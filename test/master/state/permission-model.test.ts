/** Commands of several users on random trees, against rules that are written down once more, as plainly as they can be. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { ErrorCode } from "../../../src/lib/errors.ts";
import { type InodeId, rootInodeId } from "../../../src/lib/ids.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import type { Caller } from "../../../src/rpc/namespace.ts";
import { createCommand, Machine, requestOf } from "./machine-fixture.ts";

/** A node of the model; names of one file share it. */
interface Node {
  inode: InodeId;
  mode: number;
  uid: number;
  gid: number;
  readonly children: Map<string, Node> | undefined;
}

type By = Caller | undefined;

const callers: readonly By[] = [
  undefined,
  { uid: 1, gid: 10, groups: [30] },
  { uid: 2, gid: 20, groups: [30] },
  { uid: 3, gid: 10, groups: [] },
];
const by = fc.constantFrom(...callers);
const name = fc.constantFrom("a", "b", "c");
const place = fc.array(name, { maxLength: 2 });
/** Modes that let in and keep out, with and without the special bits. */
const mode = fc
  .tuple(
    fc.constantFrom(0, 0, 0, 0o1000, 0o2000, 0o4000, 0o6000, 0o3000),
    fc.constantFrom(0o777, 0o775, 0o755, 0o770, 0o733, 0o711, 0o700, 0o666, 0o077, 0o200, 0o400),
  )
  .map(([special, bits]) => special | bits);
const id = fc.constantFrom(undefined, 1, 2, 3, 10, 20, 30);

const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constantFrom("file", "mkdir"), by, at: place, name, mode }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom("unlink", "rmdir", "deleteTree"),
      by,
      at: place,
      name,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom("rename", "link"),
      by,
      at: place,
      name,
      to: place,
      toName: name,
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("chmod"), by, at: place, mode }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("chown"), by, at: place, uid: id, gid: id }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom("touch", "truncate"), by, at: place }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const groupsOf = (caller: Caller) => [caller.gid, ...caller.groups];
const has = (of: Node, bits: number) => (of.mode & bits) === bits;

function can(who: By, of: Node, rights: string): boolean {
  if (who === undefined) return true;
  const letters = ["x", "w", "r"];
  const digit = who.uid === of.uid ? 2 : groupsOf(who).includes(of.gid) ? 1 : 0;
  return letters.every((letter, i) => !rights.includes(letter) || has(of, 1 << (3 * digit + i)));
}

const owns = (who: By, of: Node) => who === undefined || who.uid === of.uid;
const belongs = (who: Caller, gid: number) => groupsOf(who).includes(gid);

/** The first refusal among several, each with whether it applies. */
function firstOf(...refusals: readonly (readonly [boolean, ErrorCode])[]): ErrorCode | undefined {
  return refusals.find(([applies]) => applies)?.[1];
}

/** A name goes or is replaced: what its directory says. */
function removal(who: By, directory: Node, child: Node): ErrorCode | undefined {
  const isSticky = has(directory, 0o1000) && !owns(who, directory) && !owns(who, child);
  return firstOf([!can(who, directory, "w"), "PermissionDenied"], [isSticky, "NotPermitted"]);
}

/** Nobody runs with the rights of one user what another one made of it. */
function loseSetId(who: By, of: Node): void {
  if (who === undefined || of.children !== undefined) return;
  if (has(of, 0o2010)) of.mode &= ~0o2000;
  of.mode &= ~0o4000;
}

class Tree {
  readonly root: Node = { inode: rootInodeId, mode: 0o777, uid: 0, gid: 0, children: new Map() };

  /** Where a walk ends: at the last directory of it, or with `isLast` at whatever has the last name. */
  at(path: readonly string[], isLast = false): Node {
    let at = this.root;
    for (const [i, part] of path.entries()) {
      const child = at.children!.get(part);
      if (child === undefined) break;
      if (child.children === undefined) return isLast && i === path.length - 1 ? child : at;
      at = child;
    }
    return at;
  }

  contains(above: Node, below: Node): boolean {
    return (
      above === below ||
      [...(above.children?.values() ?? [])].some((child) => this.contains(child, below))
    );
  }

  nodes(from = this.root): Node[] {
    const below = [...(from.children?.values() ?? [])];
    return [from, ...below.flatMap((child) => this.nodes(child))];
  }

  /** What the step is answered; undefined: it is done, in the model too. */
  expect(of: Step, made: () => InodeId): ErrorCode | undefined {
    switch (of.kind) {
      case "file":
      case "mkdir":
        assert.ok("name" in of && "mode" in of);
        return this.#make(of, made);
      case "unlink":
      case "rmdir":
      case "deleteTree":
        assert.ok("name" in of);
        return this.#remove(of.kind, of.by, this.at(of.at), of.name);
      case "rename":
      case "link":
        assert.ok("to" in of);
        return of.kind === "rename" ? this.#rename(of) : this.#link(of);
      case "chmod":
      case "chown":
      case "touch":
      case "truncate":
        return this.#change(of, this.at(of.at, true));
    }
  }

  #make(
    of: { kind: string; by: By; at: readonly string[]; name: string; mode: number },
    made: () => InodeId,
  ): ErrorCode | undefined {
    const at = this.at(of.at);
    const refusal = firstOf(
      [!can(of.by, at, "x"), "PermissionDenied"],
      [at.children!.has(of.name), "AlreadyExists"],
      [!can(of.by, at, "w"), "PermissionDenied"],
    );
    if (refusal !== undefined) return refusal;
    const isDirectory = of.kind === "mkdir";
    const inherits = has(at, 0o2000);
    const [uid, gid] = of.by === undefined ? [1000, 1000] : [of.by.uid, of.by.gid];
    const node: Node = {
      inode: made(),
      mode: of.mode,
      uid,
      gid: inherits ? at.gid : gid,
      children: isDirectory ? new Map() : undefined,
    };
    const runsAsStrangers = of.by !== undefined && !belongs(of.by, node.gid) && has(node, 0o2010);
    if (runsAsStrangers && !isDirectory) node.mode &= ~0o2000;
    if (inherits && isDirectory) node.mode |= 0o2000;
    at.children!.set(of.name, node);
    return undefined;
  }

  #remove(kind: string, who: By, at: Node, childName: string): ErrorCode | undefined {
    const child = at.children!.get(childName);
    if (!can(who, at, "x")) return "PermissionDenied";
    if (child === undefined) return "NotFound";
    const refusal = removal(who, at, child);
    if (refusal !== undefined) return refusal;
    const isFull = (child.children?.size ?? 0) > 0;
    const wrong = firstOf(
      [kind === "unlink" && child.children !== undefined, "IsDirectory"],
      [kind === "rmdir" && child.children === undefined, "NotDirectory"],
      [isFull && (kind === "rmdir" || who !== undefined), "NotEmpty"],
    );
    if (wrong === undefined) at.children!.delete(childName);
    return wrong;
  }

  #link(of: Move): ErrorCode | undefined {
    const child = this.at(of.at).children!.get(of.name);
    const to = this.at(of.to);
    if (!can(of.by, to, "x")) return "PermissionDenied";
    if (child === undefined) return "NotFound";
    const isPlain = !has(child, 0o4000) && !has(child, 0o2010);
    const mayHold = owns(of.by, child) || (isPlain && can(of.by, child, "rw"));
    const refusal = firstOf(
      [child.children !== undefined, "NotPermitted"],
      [to.children!.has(of.toName), "AlreadyExists"],
      [!mayHold, "NotPermitted"],
      [!can(of.by, to, "w"), "PermissionDenied"],
    );
    if (refusal === undefined) to.children!.set(of.toName, child);
    return refusal;
  }

  #rename(of: Move): ErrorCode | undefined {
    const [from, to] = [this.at(of.at), this.at(of.to)];
    const child = from.children!.get(of.name);
    const target = to.children!.get(of.toName);
    if (!can(of.by, from, "x") || !can(of.by, to, "x")) return "PermissionDenied";
    if (child === undefined) return "NotFound";
    if (target === child) return undefined;
    if (child.children !== undefined && this.contains(child, to)) return "InvalidArgument";
    const moved = child.children !== undefined && from !== to;
    const refusal =
      removal(of.by, from, child) ??
      (target === undefined
        ? firstOf([!can(of.by, to, "w"), "PermissionDenied"])
        : removal(of.by, to, target)) ??
      firstOf([moved && !can(of.by, child, "w"), "PermissionDenied"]);
    if (refusal !== undefined) return refusal;
    const wrong = target === undefined ? undefined : misfit(child, target);
    if (wrong !== undefined) return wrong;
    from.children!.delete(of.name);
    to.children!.set(of.toName, child);
    return undefined;
  }

  #change(of: Extract<Step, { kind: string }>, on: Node): ErrorCode | undefined {
    const who = of.by;
    if (of.kind === "chmod") {
      assert.ok("mode" in of);
      if (!owns(who, on)) return "NotPermitted";
      const isStranger = who !== undefined && !belongs(who, on.gid);
      on.mode = isStranger ? of.mode & ~0o2000 : of.mode;
      return undefined;
    }
    if (of.kind === "touch") {
      return firstOf([!owns(who, on) && !can(who, on, "w"), "PermissionDenied"]);
    }
    if (of.kind === "truncate") {
      if (on.children !== undefined) return "IsDirectory";
      if (!can(who, on, "w")) return "PermissionDenied";
      loseSetId(who, on);
      return undefined;
    }
    assert.ok("uid" in of);
    const { uid, gid } = of;
    if (who !== undefined) {
      const keepsUid = uid === undefined || (owns(who, on) && uid === on.uid);
      const keepsGid =
        gid === undefined || (owns(who, on) && (gid === on.gid || belongs(who, gid)));
      if (!keepsUid || !keepsGid) return "NotPermitted";
    }
    if (uid !== undefined || gid !== undefined) loseSetId(who, on);
    on.uid = uid ?? on.uid;
    on.gid = gid ?? on.gid;
    return undefined;
  }
}

interface Move {
  readonly by: By;
  readonly at: readonly string[];
  readonly name: string;
  readonly to: readonly string[];
  readonly toName: string;
}

function misfit(child: Node, target: Node): ErrorCode | undefined {
  return firstOf(
    [child.children !== undefined && target.children === undefined, "NotDirectory"],
    [child.children === undefined && target.children !== undefined, "IsDirectory"],
    [(target.children?.size ?? 0) > 0, "NotEmpty"],
  );
}

function commandOf(tree: Tree, of: Step, size: number): Command {
  const parent = tree.at(of.at).inode;
  const none = undefined;
  const attributes = {
    kind: "setAttributes" as const,
    inode: tree.at(of.at, true).inode,
    mode: none,
    uid: none,
    gid: none,
    atime: none,
    mtime: none,
  };
  switch (of.kind) {
    case "file":
    case "mkdir": {
      assert.ok("name" in of && "mode" in of);
      const owner = of.by === undefined ? {} : { uid: of.by.uid, gid: of.by.gid };
      const fileKind = of.kind === "mkdir" ? "directory" : "file";
      return createCommand(parent, of.name, { fileKind, mode: of.mode, ...owner });
    }
    case "unlink":
      assert.ok("name" in of);
      return { kind: "unlink", parent, name: of.name, held: false };
    case "rmdir":
    case "deleteTree":
      assert.ok("name" in of);
      return { kind: of.kind, parent, name: of.name };
    case "rename":
    case "link": {
      assert.ok("to" in of);
      const target = tree.at(of.to).inode;
      const inode = tree.at(of.at).children!.get(of.name)?.inode ?? (999_999 as InodeId);
      if (of.kind === "link") return { kind: "link", inode, parent: target, name: of.toName };
      return {
        kind: "rename",
        sourceParent: parent,
        sourceName: of.name,
        targetParent: target,
        targetName: of.toName,
        noReplace: false,
      };
    }
    case "truncate":
      return { kind: "truncate", inode: attributes.inode, size };
    case "touch":
      return { ...attributes, touch: true };
    case "chmod":
      assert.ok("mode" in of);
      return { ...attributes, mode: of.mode };
    case "chown":
      assert.ok("uid" in of);
      return { ...attributes, uid: of.uid, gid: of.gid };
  }
}

describe("permissions", () => {
  it("are those of plain rules, whoever asks for what, and equal on all masters", function () {
    this.timeout(60_000);
    const steps = fc.array(step, { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(steps, (run) => {
        const machine = Machine.make();
        const tree = new Tree();
        machine.done({ ...commandOf(tree, chmodRoot, 0) });
        const session = machine.openSession();
        for (const [sequence, of] of run.entries()) {
          const request = requestOf([commandOf(tree, of, sequence + 1)], {
            session,
            sequence,
            acknowledgedBelow: sequence,
            caller: of.by,
          });
          const result = machine.apply(request).results[0]![0]!;
          const made = () => (result.ok ? result.status!.inode : (0 as InodeId));
          const code = tree.expect(of, made);
          const seen = result.ok ? undefined : result.code;
          assert.equal(seen, code, `${JSON.stringify(of)} → ${JSON.stringify(result)}`);
        }
        for (const node of tree.nodes()) {
          const { mode: bits, uid, gid } = machine.inode(node.inode);
          assert.deepEqual([bits, uid, gid], [node.mode, node.uid, node.gid]);
        }
        const other = new Machine();
        for (const entry of machine.entries) other.applyEntry(entry);
        assert.equal(other.state.hash(), machine.state.hash());
      }),
      { numRuns: 150 },
    );
  });
});

const chmodRoot: Step = { kind: "chmod", by: undefined, at: [], mode: 0o777 };
