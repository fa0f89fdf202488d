/** Runs a check of the state over rows from anywhere, at a pace, and gives its findings paths. */
import { type InodeId, rootInodeId } from "../../lib/ids.ts";
import { decode } from "../../lib/schema.ts";
import { inodeKey, parentKey } from "../state/keys.ts";
import * as model from "../state/model.ts";
import type { KeyRange, KeyValue } from "../store/types.ts";
import type { Finding } from "../../rpc/fsck-items.ts";
import { cures, type Found } from "./finding.ts";
import { groupOf, type Reading, StateCheck, type StateCheckOptions } from "./state-check.ts";

/** The rows of one state, which does not change while they are read. */
export interface RowSource {
  /** Log index that it is of. */
  readonly index: number;
  /** Rows of a range in the order of their keys, in pages. */
  rows(range: KeyRange): AsyncIterable<readonly KeyValue[]>;
}

export interface RunOptions {
  readonly source: RowSource;
  /** Called after so many rows more were read: resolves when the next ones may be. */
  readonly pace: (rows: number) => Promise<void>;
  readonly holders?: StateCheckOptions["holders"];
  /** Findings that are given; of more, only the number. */
  readonly limit: number;
}

export interface CheckResult {
  readonly findings: readonly Finding[];
  /** All findings, those that were not kept included. */
  readonly found: number;
  readonly inodes: number;
  /** Rows that were read, each as often as it was. */
  readonly rows: number;
}

/** Rows between two calls of `pace`: a millisecond or so. */
const rowsPerStep = 250;
/** Rows between two tellings of how far it is. */
const rowsPerProgress = 50_000;
/** Directories of a path that are looked for; paths that are longer are shown by their end. */
const deepest = 256;

/** Yields the number of rows read, now and then. */
export async function* runCheck(options: RunOptions): AsyncGenerator<number, CheckResult> {
  const { source, limit } = options;
  const kept: Found[] = [];
  let found = 0;
  const check = new StateCheck({
    index: source.index,
    holders: options.holders,
    report: (each) => {
      found++;
      if (kept.length < limit) kept.push(each);
    },
  });
  let rows = 0;
  let told = 0;
  for (const reading of check.readings()) {
    if (reading === undefined) {
      await options.pace(0);
      continue;
    }
    for await (const count of read(source, reading)) {
      rows += count;
      await options.pace(count);
      if (rows - told < rowsPerProgress) continue;
      told = rows;
      yield rows;
    }
  }
  const findings: Finding[] = [];
  for (const each of kept) {
    const path = each.inode === undefined ? undefined : await pathOf(source, each.inode);
    findings.push({ ...each, path, cure: cures[each.check] });
  }
  return { findings, found, inodes: check.inodeCount, rows };
}

interface Head {
  readonly range: number;
  readonly pages: AsyncIterator<readonly KeyValue[]>;
  page: readonly KeyValue[];
  place: number;
  /** Of the row at `place`. */
  group: string;
}

/** Hands all rows of the ranges to a reading, merged as it wants them; yields after each step how many rows that were. */
async function* read(source: RowSource, reading: Reading): AsyncGenerator<number, void> {
  let heads: Head[] = [];
  for (const [range, each] of reading.ranges.entries()) {
    const pages = source.rows(each)[Symbol.asyncIterator]();
    const head: Head = { range, pages, page: [], place: 0, group: "" };
    if (await advance(head)) heads.push(head);
  }
  let count = 0;
  try {
    while (heads.length > 0) {
      let least = heads[0]!;
      for (const head of heads) if (head.group < least.group) least = head;
      const [key, value] = least.page[least.place]!;
      reading.row(least.range, key, value);
      least.place++;
      if (least.place < least.page.length) least.group = groupOf(least.page[least.place]![0]);
      else if (!(await advance(least))) heads = heads.filter((head) => head !== least);
      if (++count < rowsPerStep) continue;
      yield count;
      count = 0;
    }
    yield count;
  } finally {
    for (const { pages } of heads) await pages.return?.();
  }
}

/** Goes on to the next page; false at the end. */
async function advance(head: Head): Promise<boolean> {
  for (;;) {
    const next = await head.pages.next();
    if (next.done === true) return false;
    if (next.value.length === 0) continue;
    head.page = next.value;
    head.place = 0;
    head.group = groupOf(next.value[0]![0]);
    return true;
  }
}

/** The path of an inode by its first name; undefined where none leads to it from the root. */
async function pathOf(source: RowSource, inode: InodeId): Promise<string | undefined> {
  const parts: string[] = [];
  let at = inode;
  for (let depth = 0; at !== rootInodeId; depth++) {
    const link = depth < deepest ? await firstLink(source, at) : undefined;
    if (link === undefined) return undefined;
    parts.push(link.name);
    at = link.parent;
  }
  return `/${parts.reverse().join("/")}`;
}

async function firstLink(source: RowSource, inode: InodeId): Promise<model.Link | undefined> {
  try {
    const own = await valueOf(source, inodeKey(inode));
    const link = own === undefined ? undefined : decode(model.inode, own, "inode").link;
    if (link !== undefined) return link;
    const several = await valueOf(source, parentKey(inode));
    return several === undefined ? undefined : decode(model.links, several, "links")[0];
  } catch {
    // What is damaged has no path that could be told; the finding says that it is.
    return undefined;
  }
}

async function valueOf(source: RowSource, key: string): Promise<Uint8Array | undefined> {
  for await (const page of source.rows({ from: key, to: `${key}\0` })) {
    for (const [found, value] of page) if (found === key) return value;
  }
  return undefined;
}

/** A check of rows in memory, at once; without paths. */
export function checkRows(
  rows: readonly KeyValue[],
  options: Omit<StateCheckOptions, "report">,
): Found[] {
  const found: Found[] = [];
  const check = new StateCheck({ ...options, report: (each) => found.push(each) });
  const sorted = rows.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  for (const reading of check.readings()) {
    if (reading === undefined) continue;
    const own = reading.ranges.flatMap(({ from, to }, range) =>
      sorted
        .filter(([key]) => key >= from && key < to)
        .map(([key, value]) => ({ range, key, value, group: groupOf(key) })),
    );
    own.sort((a, b) => (a.group < b.group ? -1 : a.group > b.group ? 1 : a.range - b.range));
    for (const { range, key, value } of own) reading.row(range, key, value);
  }
  return found;
}
