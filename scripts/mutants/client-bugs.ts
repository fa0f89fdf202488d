/** Bugs of what clients cache: what is served although it is superseded, or older than it may be. */
import type { Mutant } from "./mutant.ts";

const cache = ["test/client/metadata-cache.test.ts"];
const ages = ["test/client/answer-age.test.ts"];
const feed = ["test/client/change-feed.test.ts"];

export const clientMutants: readonly Mutant[] = [
  {
    name: "keeps the result of a command although a later change was told before",
    file: "src/client/metadata-cache.ts",
    find: "const isNews = index > this.#lastChange(status.inode).index;",
    replace: "const isNews = index > 0;",
    suites: cache,
  },
  {
    name: "keeps the name that a command made although its entry was told before",
    file: "src/client/metadata-cache.ts",
    find: "const isNews = index > this.#lastChange(key).index;",
    replace: "const isNews = index >= this.#lastChange(key).index;",
    suites: cache,
  },
  {
    name: "counts the age of what is cached from its arrival",
    file: "src/client/metadata-cache.ts",
    find: "map.set(key, held);",
    replace: "map.set(key, { ...held, askedMs: this.#clock.monotonicMs() });",
    suites: cache,
  },
  {
    name: "counts the age of a repeated command from its last try",
    file: "src/client/session.ts",
    find: "return { index: indexOfPosition(position), askedMs, position, results };",
    replace:
      "return { index: indexOfPosition(position), askedMs: open.lastHeardMs, position, results };",
    suites: ages,
  },
  {
    name: "takes a layout for as old as its arrival",
    file: "src/client/layouts.ts",
    find: "{ index: appliedIndex, askedMs }",
    replace: "{ index: appliedIndex, askedMs: this.#clock.monotonicMs() }",
    suites: ages,
  },
  {
    name: "confirms the feed with an answer that overtook changes",
    file: "src/client/change-feed.ts",
    find: "told.confirm(feedIndex ?? appliedIndex, askedMs);",
    replace: "told.confirm(0, askedMs);",
    suites: feed,
  },
  {
    name: "waits for the feed to tell of entries that change nothing",
    file: "src/client/change-feed.ts",
    find: "told.confirm(feedIndex ?? appliedIndex, askedMs);",
    replace: "told.confirm(appliedIndex, askedMs);",
    suites: feed,
  },
  {
    name: "says of the feed that it tells of entries without changes",
    file: "src/master/services/change-feed.ts",
    find: `    if (changes.size === 0) return;
    this.#lastTold = index;`,
    replace: `    this.#lastTold = index;
    if (changes.size === 0) return;`,
    suites: ["test/master/services/change-feed.test.ts"],
  },
  {
    name: "leaves out changes where several entries make one item",
    file: "src/master/services/change-feed.ts",
    find: "      if (notes > maxItemNotes) break;\n      ({ index, changes } = next);",
    replace: "      ({ index, changes } = next);\n      if (notes > maxItemNotes) break;",
    suites: ["test/master/services/change-feed.test.ts"],
  },
];
