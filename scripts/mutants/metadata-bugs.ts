/** Bugs of attributes, access control lists, exchanges and times. */
import type { Mutant } from "./mutant.ts";

const lists = ["test/master/state/xattr.test.ts", "test/master/state/metadata-model.test.ts"];
const exchanges = ["test/master/state/exchange.test.ts"];
const times = ["test/master/state/times.test.ts"];

export const metadataMutants: readonly Mutant[] = [
  {
    name: "leaves the access list as it was when the mode changes",
    file: "src/master/state/namespace-commands.ts",
    find: "  if (mode !== undefined) chmodList(context, of, mode);\n",
    replace: "",
    suites: lists,
  },
  {
    name: "leaves the attributes of what is reaped",
    file: "src/master/state/reap-commands.ts",
    find: "  dropXattrs(context, of);\n",
    replace: "",
    suites: lists,
  },
  {
    name: "takes a directory with attributes away at once, and them never",
    file: "src/master/state/links.ts",
    find: "if (child.xattrCount === undefined) {",
    replace: "if (child.id > 0) {",
    suites: lists,
  },
  {
    name: "grants by inheritance what the maker did not ask for",
    file: "src/rpc/acl.ts",
    find: "modeOfAcl(defaults, mode) & (mode | 0o7000)",
    replace: "modeOfAcl(defaults, mode) & 0o7777",
    suites: ["test/rpc/acl.test.ts"],
  },
  {
    name: "moves a directory into itself by an exchange",
    file: "src/master/state/exchange.ts",
    find: 'if (second.inode.kind === "directory") {',
    replace: 'if (second.inode.kind === "fifo") {',
    suites: exchanges,
  },
  {
    name: "has a store rename one object over the other that it changes places with",
    file: "src/master/state/ufsops.ts",
    find: "  move(first, path, between, { directories: [first.link.parent] });\n",
    replace: "",
    suites: exchanges,
  },
  {
    name: "lets a listing have its word on a name that waits for its object",
    file: "src/master/state/ufsops.ts",
    find: "move(first, between, other, { arrival: second.link });",
    replace: "move(first, between, other, {});",
    suites: exchanges,
  },
  {
    name: "takes what lies between two places for what a dead write left behind",
    file: "src/ufs/local.ts",
    find: "if (!isExchangePath(name)) await removeAbandoned",
    replace: "await removeAbandoned",
    suites: ["test/ufs/local.test.ts"],
  },
  {
    name: "forgets the ctime in the rule of relatime",
    file: "src/rpc/relatime.ts",
    find: "if (!isLater(atime, mtime) || !isLater(atime, ctime)) return true;",
    replace: "if (!isLater(atime, mtime)) return true;",
    suites: times,
  },
];
