/**
 * The namespace against a store that is changed from outside and from here, with side effects and listings under way for
 * any time: names that were made here and not touched outside never vanish, what was deleted here never comes back, and
 * once all is quiet the namespace is the store, with what is not in it yet.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { DirectoryLoader } from "../../../src/master/services/directory-loader.ts";
import type { UfsOp } from "../../../src/master/state/model.ts";
import { isMoot, touchesPath } from "../../../src/master/state/queries.ts";
import type { Command, UfsEntry } from "../../../src/rpc/commands.ts";
import type { Task, TaskResult } from "../../../src/rpc/tasks.ts";
import { createCommand, entryOf, nameOf, parentOf } from "../state/machine-fixture.ts";
import { LeaderFixture, ObservedMachine } from "./leader-fixture.ts";

type ListTask = Extract<Task, { kind: "listDirectory" }>;

const paths = ["/a", "/b", "/c", "/s/a", "/s/b", "/s/c"];
/** Fewer than the names of a directory: listings have several pages. */
const pageLength = 2;

type Step =
  | { readonly kind: "make" | "keep" | "remove" | "put" | "take"; readonly path: string }
  | { readonly kind: "move"; readonly path: string; readonly to: string }
  | { readonly kind: "sync"; readonly directory: "/" | "/s" }
  | { readonly kind: "syncName"; readonly path: string }
  | { readonly kind: "execute" | "end" | "look" | "tell" };

const path = fc.constantFrom(...paths);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constantFrom("make", "keep", "remove", "put", "take"), path }),
  fc.record({ kind: fc.constant("move" as const), path, to: path }),
  fc.record({ kind: fc.constant("sync" as const), directory: fc.constantFrom("/", "/s") }),
  fc.record({ kind: fc.constant("syncName" as const), path }),
  fc.record({ kind: fc.constantFrom("execute", "end", "look", "tell") }),
  fc.record({ kind: fc.constantFrom("look", "tell") }),
);

/** Lets all go on that needs no time. */
async function turn(): Promise<void> {
  for (let i = 0; i < 6; i++) await new Promise((resolve) => setImmediate(resolve));
}

class World {
  readonly fixture = new LeaderFixture(ObservedMachine.start({ rootLoaded: false }));
  readonly loader: DirectoryLoader;
  /** Files of the store by their path, each with what tells it apart. */
  readonly store = new Map<string, string>();
  /** Made or moved here, and untouched from outside since. */
  readonly mine = new Set<string>();
  /** Put into the store from outside, as it is there. */
  readonly foreign = new Set<string>();
  /** Removed here, and made by nobody since. */
  readonly removed = new Set<string>();
  readonly #asked: { task: ListTask; answer: (result: TaskResult) => void; result?: TaskResult }[] =
    [];
  #executed: { op: UfsOp; fingerprint: string | undefined } | undefined;
  #prints = 0;
  /** Workers answer at once. */
  isQuiet = false;

  constructor() {
    const { machine, dispatcher, propose, reign, clock } = this.fixture;
    this.loader = new DirectoryLoader({
      reader: machine.state,
      appliedIndex: () => machine.index,
      dispatcher,
      propose,
      isMoving: (_mount, at) => machine.pending().some((op) => op.moves && touchesPath(op, at)),
      reign,
      clock,
      clusterTimeMs: () => ++this.#now,
      logger: silentLogger,
      syncWaitMs: 1000,
      ahead: { directories: 0, names: 0 },
    });
    this.fixture.worker(
      "lister",
      (task) =>
        new Promise((answer) => {
          assert(task.kind === "listDirectory");
          if (this.isQuiet) answer(this.#list(task));
          else this.#asked.push({ task, answer });
        }),
      64,
    );
  }
  #now = 0;

  #list({ taskId, path: at, after = "", only }: ListTask): TaskResult {
    const below = at === "" ? "/" : `/${at}/`;
    const entries: UfsEntry[] = [...this.store]
      .filter(([each]) => each.startsWith(below) && !each.slice(below.length).includes("/"))
      .map(([each, fingerprint]) => entryOf(nameOf(each), { fingerprint }));
    if (at === "") entries.push(entryOf("s", { kind: "directory", size: 0 }));
    if (only !== undefined) {
      const found = entries.filter(({ name }) => name === only);
      return { kind: "listed", taskId, entries: found, last: false, only: true };
    }
    const later = entries
      .filter(({ name }) => name > after)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    const last = later.length <= pageLength;
    return { kind: "listed", taskId, entries: later.slice(0, pageLength), last };
  }

  async take(of: Step): Promise<void> {
    const { machine } = this.fixture;
    const ignored = () => undefined;
    const never = new AbortController().signal;
    switch (of.kind) {
      case "make":
      case "keep":
        this.#make(of.path, of.kind === "keep");
        break;
      case "remove":
        if (this.#run({ kind: "unlink", ...this.#place(of.path), held: false })) {
          this.mine.delete(of.path);
          this.#isRemoved(of.path);
        }
        break;
      case "move":
        this.#move(of.path, of.to);
        break;
      case "put":
        this.store.set(of.path, this.#print());
        this.foreign.add(of.path);
        this.#touched(of.path);
        break;
      case "take":
        this.foreign.delete(of.path);
        if (this.store.delete(of.path)) this.#touched(of.path);
        break;
      case "sync": {
        const directory = machine.at(of.directory).id;
        const since = this.#now + 1;
        void this.loader.sync(directory, { since, waitMs: 1000 }, never).catch(ignored);
        break;
      }
      case "syncName": {
        const directory = machine.at(parentOf(of.path)).id;
        void this.loader.syncName(directory, nameOf(of.path), never).catch(ignored);
        break;
      }
      case "execute":
        this.#execute();
        break;
      case "end":
        this.#end();
        break;
      case "look": {
        const next = this.#asked.find(({ result }) => result === undefined);
        if (next !== undefined) next.result = this.#list(next.task);
        break;
      }
      case "tell": {
        const at = this.#asked.findIndex(({ result }) => result !== undefined);
        const [told] = at < 0 ? [] : this.#asked.splice(at, 1);
        told?.answer(told.result!);
        break;
      }
    }
    await turn();
    this.check();
  }

  check(): void {
    const { machine } = this.fixture;
    for (const each of this.mine) assert(machine.exists(each), `${each} vanished`);
    for (const each of this.removed) assert(!machine.exists(each), `${each} came back`);
  }

  #place(of: string): { parent: typeof rootInodeId; name: string } {
    return { parent: this.fixture.machine.at(parentOf(of)).id, name: nameOf(of) };
  }

  #run(command: Command): boolean {
    return this.fixture.machine.run(command).ok;
  }

  #print(): string {
    return `print ${String(++this.#prints)}`;
  }

  #make(of: string, isKeptHere: boolean): void {
    const { parent, name } = this.#place(of);
    const writeType = isKeptHere ? "MUST_CACHE" : "ASYNC_THROUGH";
    if (this.#run(createCommand(parent, name, { writeType }))) this.#isMine(of);
  }

  #isMine(of: string): void {
    this.removed.delete(of);
    this.mine.add(of);
  }

  #move(from: string, to: string): void {
    if (from === to) return;
    const [source, target] = [this.#place(from), this.#place(to)];
    const done = this.#run({
      kind: "rename",
      sourceParent: source.parent,
      sourceName: source.name,
      targetParent: target.parent,
      targetName: target.name,
      noReplace: false,
    });
    if (!done) return;
    if (this.mine.has(from)) this.#isMine(to);
    else {
      // The store may have lost it, and then cannot have it there either.
      this.mine.delete(to);
      this.removed.delete(to);
    }
    this.mine.delete(from);
    this.#isRemoved(from);
  }

  /** What somebody else has there was hidden by what was here, and is shown in its place. */
  #isRemoved(of: string): void {
    if (!this.foreign.has(of)) this.removed.add(of);
  }

  /** Somebody else has changed it in the store, and what is on its way from here may carry that along. */
  #touched(of: string): void {
    const touched = [of];
    for (const { action } of this.fixture.machine.pending()) {
      if (action.kind === "rename" && touched.includes(`/${action.from}`)) {
        touched.push(`/${action.to}`);
      }
    }
    for (const each of touched) {
      this.mine.delete(each);
      this.removed.delete(each);
    }
  }

  /** The next side effect reaches the store; nobody is told yet. */
  #execute(): void {
    if (this.#executed !== undefined) return;
    const { machine } = this.fixture;
    const [op] = machine.pending();
    if (op === undefined) return;
    let fingerprint: string | undefined;
    const { action } = op;
    if (action.kind === "persist" && !isMoot(machine.state, op)) {
      fingerprint = this.#print();
      this.store.set(`/${action.path}`, fingerprint);
      this.foreign.delete(`/${action.path}`);
    } else if (action.kind === "delete") {
      this.store.delete(`/${action.path}`);
      this.foreign.delete(`/${action.path}`);
    } else if (action.kind === "rename") {
      const moved = this.store.get(`/${action.from}`);
      if (moved !== undefined) this.store.set(`/${action.to}`, moved);
      this.store.delete(`/${action.from}`);
      if (this.foreign.delete(`/${action.from}`)) this.foreign.add(`/${action.to}`);
    }
    this.#executed = { op, fingerprint };
  }

  #end(): void {
    if (this.#executed === undefined) return;
    const { op, fingerprint } = this.#executed;
    this.fixture.machine.ufsDone(op.id, fingerprint === undefined ? {} : { fingerprint });
    this.#executed = undefined;
  }

  /** All that is under way ends, and what is in the store is looked at once more. */
  async settle(): Promise<void> {
    const { machine } = this.fixture;
    this.isQuiet = true;
    for (const { task, answer, result } of this.#asked.splice(0))
      answer(result ?? this.#list(task));
    while (machine.pending().length > 0 || this.#executed !== undefined) {
      this.#execute();
      this.#end();
    }
    const never = new AbortController().signal;
    for (const directory of ["/", "/s"]) {
      const { id } = machine.at(directory);
      const since = this.#now + 1;
      const { isDone } = await this.loader.sync(id, { since, waitMs: 60_000_000 }, never);
      assert(isDone);
    }
    this.check();
    for (const each of paths) {
      const known = machine.exists(each) ? machine.at(each) : undefined;
      const stored = this.store.get(each);
      if (stored !== undefined && known?.persistence === "persisted") {
        assert.equal(known.source?.fingerprint, stored, `${each} is shown as it was`);
      } else if (stored !== undefined) {
        assert(known !== undefined, `${each} is not shown`);
      } else {
        assert.notEqual(known?.persistence, "persisted", `${each} is gone and shown`);
      }
    }
  }
}

describe("a store that is changed from both sides", function () {
  this.timeout(120_000);

  it("is shown as it is once all is quiet, and meanwhile nothing vanishes or comes back", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        const world = new World();
        try {
          world.isQuiet = true;
          await world.loader.load(rootInodeId, new AbortController().signal);
          await world.loader.load(world.fixture.machine.at("/s").id, new AbortController().signal);
          world.isQuiet = false;
          for (const each of steps) await world.take(each);
          await world.settle();
        } finally {
          world.fixture.end();
        }
      }),
      { numRuns: 150 },
    );
  });
});
