/**
 * What the namespace ought to be, as plainly as it can be said: files and directories with names, without stores, leases,
 * versions or times. It executes each command of the committed log and says what it must have answered.
 */
import type { ErrorCode } from "../../src/lib/errors.ts";
import { rootInodeId } from "../../src/lib/ids.ts";
import type { Command, CommandResult } from "../../src/rpc/commands.ts";

/** What a command must answer: a code, or that it is done; undefined where this model does not know. */
export type Expected = ErrorCode | "done" | undefined;

interface Node {
  readonly isDirectory: boolean;
  mode: number;
  /** Of a directory: children by name. */
  readonly children: Map<string, number>;
  /** Of a directory: where it is; undefined for the root, and for one that was removed with all below. */
  parent: number | undefined;
  nlink: number;
}

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

export class PlainTree {
  #nodes = new Map<number, Node>([
    [
      rootInodeId,
      { isDirectory: true, mode: 0o755, children: new Map(), parent: undefined, nlink: 2 },
    ],
  ]);

  /** The child of that name, if there is one. */
  child(parent: number, name: string): number | undefined {
    return this.#nodes.get(parent)?.children.get(name);
  }

  mode(inode: number): number | undefined {
    return this.#nodes.get(inode)?.mode;
  }

  /** Directories that can be reached from the root, with the names in each. */
  directories(): ReadonlyMap<number, ReadonlyMap<string, number>> {
    const found = [...this.#nodes].filter(
      ([id, { isDirectory }]) => isDirectory && this.#isInTree(id),
    );
    return new Map(found.map(([id, { children }]) => [id, children]));
  }

  copy(): PlainTree {
    const copy = new PlainTree();
    const nodes = [...this.#nodes].map(
      ([id, node]) => [id, { ...node, children: new Map(node.children) }] as const,
    );
    copy.#nodes = new Map(nodes);
    return copy;
  }

  /** Executes a command; `result` is what the product answered, and gives a new inode its number. */
  execute(command: Command, result: CommandResult): Expected {
    const { kind } = command;
    if (kind === "create") return this.#create(command, result);
    if (kind === "link") return this.#link(command);
    if (kind === "unlink" || kind === "rmdir" || kind === "deleteTree")
      return this.#remove(command);
    if (kind === "rename") return this.#rename(command);
    if (kind === "setAttributes") return this.#setAttributes(command);
    return undefined;
  }

  #directory(id: number): Node | ErrorCode {
    const node = this.#nodes.get(id);
    if (node === undefined) return "NotFound";
    return node.isDirectory ? node : "NotDirectory";
  }

  #isInTree(id: number): boolean {
    let at: number | undefined = id;
    while (at !== undefined && at !== rootInodeId) at = this.#nodes.get(at)?.parent;
    return at === rootInodeId;
  }

  #create(command: Of<"create">, result: CommandResult): Expected {
    const { parent: at, name, fileKind, mode, exclusive } = command;
    const parent = this.#directory(at);
    const existing = this.child(at, name);
    if (existing !== undefined && !exclusive && fileKind === "file") {
      return this.#nodes.get(existing)!.isDirectory ? "IsDirectory" : "done";
    }
    if (typeof parent === "string") return parent;
    if (existing !== undefined) return "AlreadyExists";
    if (!this.#isInTree(at)) return "NotFound";
    const made = result.ok ? result.status?.inode : undefined;
    // One that was taken back: no name can be told of it.
    const id = made ?? -1 - this.#nodes.size;
    const isDirectory = fileKind === "directory";
    parent.children.set(name, id);
    const nlink = isDirectory ? 2 : 1;
    this.#nodes.set(id, { isDirectory, mode, children: new Map(), parent: at, nlink });
    return "done";
  }

  #link({ inode, parent: at, name }: Of<"link">): Expected {
    const parent = this.#directory(at);
    if (typeof parent === "string") return parent;
    const node = this.#nodes.get(inode);
    if (node === undefined) return "NotFound";
    if (node.isDirectory) return "NotPermitted";
    if (node.nlink === 0) return "NotFound";
    if (parent.children.has(name)) return "AlreadyExists";
    if (!this.#isInTree(at)) return "NotFound";
    parent.children.set(name, inode);
    node.nlink++;
    return "done";
  }

  #remove({ parent: at, name, kind }: Of<"unlink" | "rmdir" | "deleteTree">): Expected {
    const parent = this.#directory(at);
    if (typeof parent === "string") return parent;
    const id = parent.children.get(name);
    const node = id === undefined ? undefined : this.#nodes.get(id);
    if (id === undefined || node === undefined) return "NotFound";
    if (kind === "unlink" && node.isDirectory) return "IsDirectory";
    if (kind === "rmdir" && !node.isDirectory) return "NotDirectory";
    if (kind === "rmdir" && node.children.size > 0) return "NotEmpty";
    this.#drop(id, node, parent, name, kind === "rmdir");
    return "done";
  }

  #drop(id: number, node: Node, parent: Node, name: string, isGone: boolean): void {
    parent.children.delete(name);
    if (!node.isDirectory) node.nlink--;
    else if (isGone) this.#nodes.delete(id);
    else node.parent = undefined;
  }

  #rename(command: Of<"rename">): Expected {
    const { sourceParent, sourceName, targetParent, targetName, noReplace } = command;
    const from = this.#directory(sourceParent);
    if (typeof from === "string") return from;
    const to = this.#directory(targetParent);
    if (typeof to === "string") return to;
    if (!this.#isInTree(sourceParent) || !this.#isInTree(targetParent)) return "NotFound";
    const sourceId = from.children.get(sourceName);
    if (sourceId === undefined) return "NotFound";
    const source = this.#nodes.get(sourceId)!;
    const targetId = to.children.get(targetName);
    if (targetId !== undefined && noReplace) return "AlreadyExists";
    if (targetId === sourceId) return "done";
    if (source.isDirectory && this.#isInside(targetParent, sourceId)) return "InvalidArgument";
    if (targetId !== undefined) {
      const target = this.#nodes.get(targetId)!;
      if (source.isDirectory && !target.isDirectory) return "NotDirectory";
      if (!source.isDirectory && target.isDirectory) return "IsDirectory";
      if (target.children.size > 0) return "NotEmpty";
      this.#drop(targetId, target, to, targetName, true);
    }
    from.children.delete(sourceName);
    to.children.set(targetName, sourceId);
    if (source.isDirectory) source.parent = targetParent;
    return "done";
  }

  #isInside(id: number, above: number): boolean {
    let at: number | undefined = id;
    while (at !== undefined && at !== above) at = this.#nodes.get(at)?.parent;
    return at === above;
  }

  #setAttributes({ inode, mode }: Of<"setAttributes">): Expected {
    const node = this.#nodes.get(inode);
    if (node === undefined) return "NotFound";
    // Without a name it may be there for as long as somebody holds it.
    if (!node.isDirectory && node.nlink === 0) return undefined;
    if (mode !== undefined) node.mode = mode;
    return "done";
  }
}
