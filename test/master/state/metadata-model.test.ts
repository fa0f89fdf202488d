/** Extended attributes, access control lists, device nodes and exchanges against a plain model, with refusals and replays. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { ErrorCode } from "../../../src/lib/errors.ts";
import { type InodeId, rootInodeId, type SessionId } from "../../../src/lib/ids.ts";
import { xattrOf } from "../../../src/master/state/queries.ts";
import {
  accessAclName,
  type Acl,
  aclOfMode,
  defaultAclName,
  encodeAcl,
} from "../../../src/rpc/acl.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import type { FileKind } from "../../../src/rpc/namespace.ts";
import { createCommand, Machine, requestOf } from "./machine-fixture.ts";

/** What the model knows of an inode; lists are by permissions: owner, user 7, group, mask, other. */
interface Node {
  readonly inode: InodeId;
  readonly kind: FileKind;
  mode: number;
  readonly rdev: number | undefined;
  readonly xattrs: Map<string, string>;
  access: number[] | undefined;
  defaults: number[] | undefined;
}

const name = fc.constantFrom("a", "b", "c");
const xattr = fc.constantFrom("user.x", "user.y", "trusted.x");
const digits = fc.array(fc.nat(7), { minLength: 5, maxLength: 5 });
const device = 8 * 2 ** 32 + 17;

const step = fc.oneof(
  fc.record({
    kind: fc.constant("create" as const),
    name,
    fileKind: fc.constantFrom<FileKind>("file", "directory", "fifo", "charDevice"),
    mode: fc.integer({ min: 0, max: 0o777 }),
    umask: fc.constantFrom(undefined, 0, 0o027),
    rdev: fc.constantFrom(undefined, device),
  }),
  fc.record({
    kind: fc.constant("set" as const),
    name,
    xattr,
    value: fc.string({ maxLength: 5 }),
    how: fc.constantFrom("set" as const, "create" as const, "replace" as const),
  }),
  fc.record({ kind: fc.constant("unset" as const), name, xattr }),
  fc.record({
    kind: fc.constant("chmod" as const),
    name,
    mode: fc.integer({ min: 0, max: 0o7777 }),
  }),
  fc.record({
    kind: fc.constant("setAcl" as const),
    name: fc.oneof(name, fc.constant(".")),
    isDefault: fc.boolean(),
    digits,
    isPlain: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant("unsetAcl" as const),
    name: fc.oneof(name, fc.constant(".")),
    isDefault: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("exchange" as const), name, to: name }),
  fc.record({ kind: fc.constant("remove" as const), name }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** The list as a value; `isPlain` says no more than a mode. */
function listOf([userObj, user, groupObj, mask, other]: readonly number[], isPlain: boolean): Acl {
  const base = aclOfMode((userObj! << 6) | (groupObj! << 3) | other!);
  if (isPlain) return base;
  return [
    base[0]!,
    { tag: "user", id: 7, permissions: user! },
    base[1]!,
    { tag: "mask", permissions: mask! },
    base[2]!,
  ];
}

class Model {
  /** All is in one directory, which has a default list at times. */
  readonly directory: Node;
  readonly names = new Map<string, Node>();

  constructor() {
    const lists = { access: undefined, defaults: undefined, rdev: undefined };
    const xattrs = new Map<string, string>();
    this.directory = { inode: rootInodeId, kind: "directory", mode: 0o755, xattrs, ...lists };
  }

  at(of: string): Node | undefined {
    return of === "." ? this.directory : this.names.get(of);
  }

  /** What the step should answer: a code, or undefined and the model is changed. `made`: the inode of a create. */
  apply(of: Step, made: InodeId | undefined): ErrorCode | undefined {
    if (of.kind === "create") return this.#create(of, made);
    const node = this.at(of.name);
    if (node === undefined) return "NotFound";
    switch (of.kind) {
      case "set":
        return this.#set(node, of);
      case "unset":
        if (isUserOfSpecial(node, of.xattr)) return "NotPermitted";
        return node.xattrs.delete(of.xattr) ? undefined : "NoData";
      case "chmod":
        chmod(node, of.mode);
        return undefined;
      case "setAcl":
        return setAcl(node, of);
      case "unsetAcl":
        if (of.isDefault && node.kind !== "directory") return "PermissionDenied";
        if (of.isDefault) node.defaults = undefined;
        else node.access = undefined;
        return undefined;
      case "exchange": {
        const other = this.names.get(of.to);
        if (other === undefined) return "NotFound";
        this.names.set(of.name, other);
        this.names.set(of.to, node);
        return undefined;
      }
      case "remove":
        this.names.delete(of.name);
        return undefined;
    }
  }

  #create(of: Extract<Step, { kind: "create" }>, made: InodeId | undefined): ErrorCode | undefined {
    if (this.names.has(of.name)) return "AlreadyExists";
    if (of.rdev !== undefined && of.fileKind !== "charDevice") return "InvalidArgument";
    const { defaults } = this.directory;
    const isDirectory = of.fileKind === "directory";
    const node: Node = {
      inode: made!,
      kind: of.fileKind,
      mode: defaults === undefined ? of.mode & ~(of.umask ?? 0) : 0,
      rdev: of.rdev,
      xattrs: new Map(),
      access: defaults === undefined ? undefined : [...defaults],
      defaults: isDirectory && defaults !== undefined ? [...defaults] : undefined,
    };
    if (defaults !== undefined) {
      const [userObj, , groupObj, mask, other] = defaults as [
        number,
        number,
        number,
        number,
        number,
      ];
      const shown = isNamed(defaults) ? mask : groupObj;
      chmod(node, ((userObj << 6) | (shown << 3) | other) & of.mode);
      if (!isNamed(defaults)) node.access = undefined;
    }
    this.names.set(of.name, node);
    return undefined;
  }

  #set(node: Node, of: Extract<Step, { kind: "set" }>): ErrorCode | undefined {
    if (isUserOfSpecial(node, of.xattr)) return "NotPermitted";
    const exists = node.xattrs.has(of.xattr);
    if (exists && of.how === "create") return "AlreadyExists";
    if (!exists && of.how === "replace") return "NoData";
    node.xattrs.set(of.xattr, of.value);
    return undefined;
  }
}

function isUserOfSpecial(node: Node, xattr: string): boolean {
  return xattr.startsWith("user.") && node.kind !== "file" && node.kind !== "directory";
}

/** Of five permissions the second, of a user, is -1 where the list says no more than a mode. */
function isNamed(permissions: readonly number[]): boolean {
  return permissions[1] !== -1;
}

function chmod(node: Node, mode: number): void {
  node.mode = mode;
  if (node.access === undefined) return;
  node.access[0] = (mode >> 6) & 7;
  node.access[isNamed(node.access) ? 3 : 2] = (mode >> 3) & 7;
  node.access[4] = mode & 7;
}

function setAcl(node: Node, of: Extract<Step, { kind: "setAcl" }>): ErrorCode | undefined {
  const { digits, isPlain, isDefault } = of;
  const permissions = isPlain ? [digits[0]!, -1, digits[2]!, -1, digits[4]!] : [...digits];
  if (isDefault) {
    if (node.kind !== "directory") return "PermissionDenied";
    node.defaults = permissions;
    return undefined;
  }
  node.access = isPlain ? undefined : permissions;
  const shown = isPlain ? digits[2]! : digits[3]!;
  node.mode = (node.mode & 0o7000) | (digits[0]! << 6) | (shown << 3) | digits[4]!;
  return undefined;
}

function commandOf(model: Model, of: Step): Command {
  const parent = rootInodeId;
  const inode = model.at(of.name)?.inode ?? (999_999 as InodeId);
  switch (of.kind) {
    case "create": {
      const { fileKind, mode, umask, rdev } = of;
      return createCommand(parent, of.name, { fileKind, mode, umask, rdev });
    }
    case "set":
      return { kind: "setXattr", inode, name: of.xattr, value: Buffer.from(of.value), how: of.how };
    case "unset":
      return { kind: "removeXattr", inode, name: of.xattr };
    case "chmod": {
      const none = { uid: undefined, gid: undefined, atime: undefined, mtime: undefined };
      return { kind: "setAttributes", inode, mode: of.mode, ...none };
    }
    case "setAcl": {
      const value = encodeAcl(listOf(of.digits, of.isPlain));
      return { kind: "setXattr", inode, name: aclNameOf(of), value, how: "set" };
    }
    case "unsetAcl":
      return { kind: "removeXattr", inode, name: aclNameOf(of) };
    case "exchange": {
      const names = { sourceName: of.name, targetName: of.to };
      const places = { sourceParent: parent, targetParent: parent };
      return { kind: "rename", ...places, ...names, noReplace: false, exchange: true };
    }
    case "remove":
      return { kind: "deleteTree", parent, name: of.name };
  }
}

function aclNameOf({ isDefault }: { readonly isDefault: boolean }): string {
  return isDefault ? defaultAclName : accessAclName;
}

function compare(machine: Machine, node: Node): void {
  const { mode, kind, rdev, xattrCount = 0 } = machine.inode(node.inode);
  assert.deepEqual({ mode, kind, rdev }, { mode: node.mode, kind: node.kind, rdev: node.rdev });
  const valueOf = (xattr: string) => {
    const value = xattrOf(machine.state, node.inode, xattr);
    return value === undefined ? undefined : Buffer.from(value).toString();
  };
  for (const [xattr, value] of node.xattrs) assert.equal(valueOf(xattr), value);
  const lists = [node.access, node.defaults];
  for (const [i, permissions] of lists.entries()) {
    const stored = xattrOf(machine.state, node.inode, i === 0 ? accessAclName : defaultAclName);
    const wanted = permissions && encodeAcl(listOf(permissions, !isNamed(permissions)));
    assert.deepEqual(stored && [...stored], wanted && [...wanted]);
  }
  const known = node.xattrs.size + lists.filter((list) => list !== undefined).length;
  assert.equal(xattrCount, known);
}

describe("metadata of inodes", () => {
  it("behave like a plain model, answer retries as before, leak nothing, and are equal on all masters", () => {
    const steps = fc.array(fc.record({ step, retries: fc.nat(1), reaps: fc.nat(4) }), {
      minLength: 1,
      maxLength: 40,
    });
    fc.assert(
      fc.property(steps, (run) => {
        const machine = Machine.make();
        const model = new Model();
        const session: SessionId = machine.openSession();
        for (const [sequence, { step: of, retries, reaps }] of run.entries()) {
          const request = requestOf([commandOf(model, of)], {
            session,
            sequence,
            acknowledgedBelow: sequence,
          });
          const result = machine.apply(request).results[0]![0]!;
          const made = result.ok ? result.status?.inode : undefined;
          const code = model.apply(of, made);
          assert.equal(result.ok ? undefined : result.code, code, JSON.stringify(of));
          for (let i = 0; i < retries; i++) {
            assert.deepEqual(machine.apply(request).replayed, [true]);
          }
          if (reaps === 0) reap(machine);
          for (const node of [model.directory, ...model.names.values()]) compare(machine, node);
        }
        reap(machine);
        const living = [model.directory, ...model.names.values()];
        const rows = living.reduce(
          (sum, { inode }) => sum + (machine.inode(inode).xattrCount ?? 0),
          0,
        );
        assert.equal(
          machine.state.entries("xattr/").length,
          rows,
          "attributes of the dead are left",
        );
        const other = new Machine();
        for (const entry of machine.entries) other.applyEntry(entry);
        assert.equal(other.state.hash(), machine.state.hash());
      }),
      { numRuns: 150 },
    );
  });
});

/** Takes away what is in the trash and in the garbage. */
function reap(machine: Machine): void {
  const directory = 2 as InodeId;
  const prefix = "edge/\0\0\0\0\0\0\0\x02/";
  const names = machine.state.entries(prefix).map(([key]) => key.slice(prefix.length));
  machine.done({ kind: "reapTrash", directory, names });
  const keys = machine.state.entries("garbage/").map(([key]) => key);
  machine.done({ kind: "reapGarbage", keys });
}
