/** The namespace against a plain tree in the heap, and masters against each other. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { ErrorCode } from "../../../src/lib/errors.ts";
import { type InodeId, rootInodeId, type SessionId } from "../../../src/lib/ids.ts";
import { listDirectory } from "../../../src/master/services/listings.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import { createCommand, Machine, requestOf } from "./machine-fixture.ts";

/** A node of the model; names of one file share it. */
interface Node {
  readonly inode: InodeId;
  readonly children: Map<string, Node> | undefined;
}

const names = ["a", "b", "c"];
const name = fc.constantFrom(...names);
/** A directory by a walk of names from the root, as far as there are directories. */
const place = fc.array(name, { maxLength: 3 });

const step = fc.oneof(
  fc.record({
    kind: fc.constantFrom("create", "mkdir", "unlink", "rmdir", "deleteTree"),
    at: place,
    name,
  }),
  fc.record({
    kind: fc.constant("rename"),
    at: place,
    name,
    to: place,
    toName: name,
    how: fc.constantFrom("replace", "noReplace", "exchange"),
  }),
  fc.record({ kind: fc.constant("link"), at: place, name, to: place, toName: name }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

class Tree {
  readonly root: Node = { inode: rootInodeId, children: new Map() };

  directory(path: readonly string[]): Node {
    let at = this.root;
    for (const part of path) {
      const child = at.children!.get(part);
      if (child?.children === undefined) break;
      at = child;
    }
    return at;
  }

  contains(above: Node, below: Node): boolean {
    if (above === below) return true;
    return [...(above.children?.values() ?? [])].some((child) => this.contains(child, below));
  }
}

/** What the step should answer: a code, or undefined and the tree is changed. */
function expect(tree: Tree, of: Step, made: () => InodeId | undefined): ErrorCode | undefined {
  const at = tree.directory(of.at);
  const child = at.children!.get(of.name);
  switch (of.kind) {
    case "create":
    case "mkdir":
      if (child !== undefined) return "AlreadyExists";
      at.children!.set(of.name, {
        inode: made()!,
        children: of.kind === "mkdir" ? new Map() : undefined,
      });
      return undefined;
    case "unlink":
      if (child === undefined) return "NotFound";
      if (child.children !== undefined) return "IsDirectory";
      break;
    case "rmdir":
      if (child === undefined) return "NotFound";
      if (child.children === undefined) return "NotDirectory";
      if (child.children.size > 0) return "NotEmpty";
      break;
    case "deleteTree":
      if (child === undefined) return "NotFound";
      break;
    case "link":
      return "to" in of ? expectLink(tree, of, child) : undefined;
    case "rename":
      return "how" in of ? expectRename(tree, of, at, child) : undefined;
  }
  at.children!.delete(of.name);
  return undefined;
}

interface Move {
  readonly name: string;
  readonly to: readonly string[];
  readonly toName: string;
}

function expectLink(tree: Tree, of: Move, child: Node | undefined): ErrorCode | undefined {
  if (child === undefined) return "NotFound";
  if (child.children !== undefined) return "NotPermitted";
  const to = tree.directory(of.to);
  if (to.children!.has(of.toName)) return "AlreadyExists";
  to.children!.set(of.toName, child);
  return undefined;
}

function expectRename(
  tree: Tree,
  of: Move & { readonly how: string },
  from: Node,
  child: Node | undefined,
): ErrorCode | undefined {
  const to = tree.directory(of.to);
  const target = to.children!.get(of.toName);
  if (child === undefined) return "NotFound";
  if (target === undefined && of.how === "exchange") return "NotFound";
  if (target !== undefined && of.how === "noReplace") return "AlreadyExists";
  if (target === child) return undefined;
  if (child.children !== undefined && tree.contains(child, to)) return "InvalidArgument";
  if (of.how === "exchange") {
    if (target!.children !== undefined && tree.contains(target!, from)) return "InvalidArgument";
    from.children!.set(of.name, target!);
    to.children!.set(of.toName, child);
    return undefined;
  }
  if (target !== undefined) {
    if (child.children !== undefined && target.children === undefined) return "NotDirectory";
    if (child.children === undefined && target.children !== undefined) return "IsDirectory";
    if ((target.children?.size ?? 0) > 0) return "NotEmpty";
  }
  from.children!.delete(of.name);
  to.children!.set(of.toName, child);
  return undefined;
}

function commandOf(tree: Tree, of: Step): Command {
  const at = tree.directory(of.at);
  const parent = at.inode;
  switch (of.kind) {
    case "create":
      return createCommand(parent, of.name);
    case "mkdir":
      return createCommand(parent, of.name, { fileKind: "directory" });
    case "unlink":
      return { kind: "unlink", parent, name: of.name, held: false };
    case "rmdir":
    case "deleteTree":
      return { kind: of.kind, parent, name: of.name };
    case "link":
    case "rename":
      assert.ok("to" in of);
      return moveOf(tree, of);
  }
}

function moveOf(
  tree: Tree,
  of: Move & { readonly at: readonly string[]; readonly how?: string },
): Command {
  const at = tree.directory(of.at);
  const target = tree.directory(of.to).inode;
  if (of.how === undefined) {
    // A missing source has no inode: one that was never made stands for it.
    const inode = at.children!.get(of.name)?.inode ?? (999_999 as InodeId);
    return { kind: "link", inode, parent: target, name: of.toName };
  }
  return {
    kind: "rename",
    sourceParent: at.inode,
    sourceName: of.name,
    targetParent: target,
    targetName: of.toName,
    noReplace: of.how === "noReplace",
    ...(of.how === "exchange" ? { exchange: true } : {}),
  };
}

async function compare(machine: Machine, node: Node): Promise<void> {
  const { entries, more } = await listDirectory(machine.state, node.inode, {
    after: undefined,
    limit: 10,
  });
  assert.equal(more, false);
  const expected = [...node.children!].sort(([a], [b]) => (a < b ? -1 : 1));
  assert.deepEqual(
    entries.map((entry) => [entry.name, entry.status.inode, entry.status.kind === "directory"]),
    expected.map(([key, child]) => [key, child.inode, child.children !== undefined]),
  );
  for (const child of node.children!.values()) {
    if (child.children !== undefined) await compare(machine, child);
  }
}

describe("the namespace", () => {
  it("behaves like a plain tree, answers retries as before, and is equal on all masters", async function () {
    this.timeout(60_000);
    const steps = fc.array(fc.record({ step, retries: fc.nat(1), settles: fc.nat(5) }), {
      minLength: 1,
      maxLength: 40,
    });
    await fc.assert(
      fc.asyncProperty(steps, async (run) => {
        const machine = Machine.make();
        const tree = new Tree();
        const session: SessionId = machine.openSession();
        for (const [sequence, { step: of, retries, settles }] of run.entries()) {
          const request = requestOf([commandOf(tree, of)], {
            session,
            sequence,
            acknowledgedBelow: sequence,
          });
          const applied = machine.apply(request);
          const result = applied.results[0]![0]!;
          const made = result.ok ? result.status?.inode : undefined;
          const code = expect(tree, of, () => made);
          assert.equal(result.ok ? undefined : result.code, code, JSON.stringify(of));
          for (let i = 0; i < retries; i++) {
            assert.deepEqual(machine.apply(request).replayed, [true]);
          }
          if (settles === 0) machine.settle();
        }
        await compare(machine, tree.root);
        const other = new Machine();
        for (const entry of machine.entries) other.applyEntry(entry);
        assert.equal(other.state.hash(), machine.state.hash());
      }),
      { numRuns: 60 },
    );
  });
});
