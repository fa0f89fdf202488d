/** Bugs of the mount table, and of who is told what is in it. */
import type { Mutant } from "./mutant.ts";

const proofs = ["test/master/services/worker-proofs.test.ts"];
const table = ["test/master/state/mounts.test.ts"];

export const mountMutants: readonly Mutant[] = [
  {
    name: "takes a proof a second time",
    file: "src/master/services/worker-proofs.ts",
    find: "if (known !== undefined) known.nonce = undefined;",
    replace: "",
    suites: proofs,
  },
  {
    name: "tells credentials to who only asked for a nonce",
    file: "src/master/services/worker-proofs.ts",
    find: "known = { nonce: undefined, isProved: false };",
    replace: "known = { nonce: undefined, isProved: true };",
    suites: proofs,
  },
  {
    name: "sends a call that was cancelled before the connection was introduced",
    file: "src/rpc/client.ts",
    find: "if (this.#pending.has(id)) this.#connection.send",
    replace: "this.#connection.send",
    suites: proofs,
  },
  {
    name: "mounts a store over a part of another one that is written",
    file: "src/master/state/mount-commands.ts",
    find: "if (command.overlap !== true) needStoresOfItsOwn(context, stores);",
    replace: "",
    suites: table,
  },
  {
    name: "unmounts what has content that is in no store",
    file: "src/master/state/mount-commands.ts",
    find: "if (total.unpersistedBytes > 0) {",
    replace: "if (total.unpersistedBytes < 0) {",
    suites: table,
  },
  {
    name: "overlooks what the entry wrote when it asks for a total",
    file: "src/master/state/usage-ledger.ts",
    find: `    this.#settle();
    return this.#settledBelow(of);`,
    replace: "    return this.#settledBelow(of);",
    suites: table,
  },
  {
    name: "gives up the changes of another mount",
    file: "src/master/state/mount-commands.ts",
    find: "if (op?.mountId === mount) forgetOp(context, op);",
    replace: "if (op !== undefined) forgetOp(context, op);",
    suites: table,
  },
];
