/**
 * The client of the "creates" workload: makes files of unique names in one directory and lists it, one operation after
 * the other, and records what it was answered. Each page of a listing is an operation: it is a read of one moment, the
 * listing as a whole is not. Its model is in creates-model.ts.
 */
import type { Random } from "../../src/lib/clock.ts";
import { knownCode, WeirError } from "../../src/lib/errors.ts";
import { type InodeId, maxCommandsPerEntry } from "../../src/lib/ids.ts";
import type { Session } from "../../src/client/session.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import type { MasterConnection } from "../../src/rpc/master-connection.ts";
import type { Operation, Result } from "../history.ts";
import type { CreatesInput, CreatesOutput } from "./creates-model.ts";

export interface CreatesOptions {
  readonly client: number;
  readonly session: Session;
  readonly masters: MasterConnection;
  readonly directory: InodeId;
  readonly random: Random;
  /** Of `process.hrtime`: no operation is begun after it. */
  readonly untilNs: bigint;
  readonly record: (operation: Operation<CreatesInput, CreatesOutput>) => void;
}

const listDeadlineMs = 10_000;
/** Names in a page; at most what masters give. */
const pageSize = 5000;
/** One operation in so many is a listing. */
const listEvery = 12;

export async function runCreates(options: CreatesOptions): Promise<void> {
  for (let i = 0; process.hrtime.bigint() < options.untilNs; i++) {
    if (options.random.below(listEvery) === 0) await listAll(options);
    else await perform(options, { kind: "create", name: `c${options.client}-${i}` });
  }
}

/** Lists the directory, page by page, until one of them fails; true when all of it was listed. */
export async function listAll(options: CreatesOptions): Promise<boolean> {
  let after: string | undefined;
  for (;;) {
    const { kind, ...answered } = await perform(options, { kind: "list", after });
    const output = kind === "ok" && "output" in answered ? answered.output : undefined;
    if (output?.kind !== "listed") return false;
    if (output.more !== true) return true;
    after = output.names.at(-1);
  }
}

/** Does one operation and records it. */
async function perform(
  options: CreatesOptions,
  input: CreatesInput,
): Promise<Result<CreatesOutput>> {
  const calledNs = process.hrtime.bigint();
  const result = await answer(() =>
    input.kind === "list" ? listPage(options, input.after) : create(options, input.name),
  );
  const returnedNs = process.hrtime.bigint();
  options.record({ client: options.client, input, calledNs, returnedNs, result });
  return result;
}

type Answer = Extract<Result<CreatesOutput>, { kind: "ok" }>;

async function answer(call: () => Promise<Answer>): Promise<Result<CreatesOutput>> {
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof WeirError)) throw error;
    return { kind: error.outcome === "unknown" ? "unknown" : "failed", code: error.code };
  }
}

async function create({ session, directory }: CreatesOptions, name: string): Promise<Answer> {
  const { results, position } = await session.mutate([
    {
      ...{ kind: "create", parent: directory, name, fileKind: "file", mode: 0o644 },
      ...{ uid: 0, gid: 0, target: undefined, lease: false, exclusive: true },
      writeType: "MUST_CACHE",
    },
  ]);
  const [result] = results;
  if (result === undefined || !result.ok || result.status === undefined) {
    const code = result?.ok === false ? knownCode(result.code) : "Internal";
    // Nobody else uses this name: an answer that it exists means that it was made twice.
    throw new WeirError(code, `Cannot create "${name}": answered ${code}`);
  }
  return { kind: "ok", position, output: { kind: "created", inode: result.status.inode } };
}

async function listPage(
  { masters, directory }: CreatesOptions,
  after: string | undefined,
): Promise<Answer> {
  const request = { directory, after, limit: pageSize, consistency: "linearizable" } as const;
  const { appliedIndex, entries, more } = await masters.call(masterApi.list, request, {
    deadlineMs: listDeadlineMs,
    idempotent: true,
  });
  return {
    kind: "ok",
    position: (appliedIndex + 1) * maxCommandsPerEntry - 1,
    output: { kind: "listed", names: entries.map((entry) => entry.name), more },
  };
}
