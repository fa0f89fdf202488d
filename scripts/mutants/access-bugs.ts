/** Bugs of permissions: what somebody may do who should not, or may not who should. */
import type { Mutant } from "./mutant.ts";

const rules = ["test/rpc/access.test.ts"];
const commands = [
  "test/master/state/permissions.test.ts",
  "test/master/state/permission-model.test.ts",
];
const identities = ["test/master/services/identities.test.ts"];
const reads = ["test/master/services/read-rights.test.ts"];
const callers = ["test/client/callers.test.ts"];

export const accessMutants: readonly Mutant[] = [
  {
    name: "adds up what several groups of a list grant by halves",
    file: "src/rpc/access.ts",
    find: "return groups.some(({ permissions }) => allows(permissions & mask));",
    replace: "return allows(groups.reduce((sum, { permissions }) => sum | permissions, 0) & mask);",
    suites: rules,
  },
  {
    name: "does not mask what a list grants to a user",
    file: "src/rpc/access.ts",
    find: "return allows(user.permissions & mask);",
    replace: "return allows(user.permissions);",
    suites: rules,
  },
  {
    name: "lets an owner in by the bits of his group",
    file: "src/rpc/access.ts",
    find: "const shift = caller.uid === of.uid ? 6 : isMember(caller, of.gid) ? 3 : 0;",
    replace: "const shift = isMember(caller, of.gid) ? 3 : caller.uid === of.uid ? 6 : 0;",
    suites: rules,
  },
  {
    name: "lets anybody remove names from a sticky directory",
    file: "src/master/state/permissions.ts",
    find: "if (!isKeptBySticky(context.caller, directory, child)) return;",
    replace: "if (child.id > 0) return;",
    suites: commands,
  },
  {
    name: "moves directories that their mover may not write",
    file: "src/master/state/permissions.ts",
    find: `source.kind === "directory" && sourceParent.id !== targetParent.id`,
    replace: `source.kind === "directory" && sourceParent.id > targetParent.id`,
    suites: commands,
  },
  {
    name: "makes inodes for whom the command says",
    file: "src/master/state/permissions.ts",
    find: "if (made.uid !== caller.uid) {",
    replace: "if (made.uid < 0) {",
    suites: commands,
  },
  {
    name: "removes a tree as a whole for who may remove its name",
    file: "src/master/state/namespace-commands.ts",
    find: "if (context.caller !== undefined && (child.childCount > 0 || !child.loaded)) {",
    replace: "if (context.caller !== undefined && child.childCount < 0) {",
    suites: commands,
  },
  {
    name: "keeps setuid on what somebody else has written",
    file: "src/master/state/permissions.ts",
    find: "return hasSetId && context.caller !== undefined ? withoutSetId(of) : of.mode;",
    replace: "return hasSetId && context.level < 0 ? withoutSetId(of) : of.mode;",
    suites: commands,
  },
  {
    name: "takes uid 0 for the superuser where it is to be nobody",
    file: "src/master/services/identities.ts",
    find: `if (squash === "root" && sent.uid === 0) return { uid, gid, groups: [] };`,
    replace: `if (squash === "root" && sent.uid < 0) return { uid, gid, groups: [] };`,
    suites: identities,
  },
  {
    name: "believes a client's groups where a table has them",
    file: "src/master/services/identities.ts",
    find: "if (this.#groupsOf === undefined) return sent;",
    replace: "if (sent.gid >= 0) return sent;",
    suites: identities,
  },
  {
    name: "walks through directories that the caller may not search",
    file: "src/master/state/queries.ts",
    find: "at = lookup(reader, at.inode.id, part, caller);",
    replace: "at = lookup(reader, at.inode.id, part);",
    suites: reads,
  },
  {
    name: "tells the names in a directory to who may only search it",
    file: "src/master/services/serve-namespace.ts",
    find: "const needed = permission.read | permission.execute;",
    replace: "const needed = permission.execute;",
    suites: reads,
  },
  {
    name: "takes the word of anybody that he has opened a file",
    file: "src/master/services/read-rights.ts",
    find: "(opened && isOwner(caller, of))",
    replace: "opened",
    suites: reads,
  },
  {
    name: "tells cached names to callers who may not search the directory",
    file: "src/client/inode-client.ts",
    find: "(this.#caller === undefined || (await this.#maySearch(parent)))",
    replace: "(this.#caller !== null || (await this.#maySearch(parent)))",
    suites: callers,
  },
  {
    name: "decides from a cached mode where a list does",
    file: "src/client/inode-client.ts",
    find: "return status.hasAcl !== true && mayAccess",
    replace: "return mayAccess",
    suites: callers,
  },
  {
    name: "opens a file that is being written here to callers who may not read it",
    file: "src/client/inode-client.ts",
    find: "if (asks !== undefined) await this.#freshStatus(inode, asks);\n      status = shared.status;",
    replace: "status = shared.status;",
    suites: callers,
  },
];
