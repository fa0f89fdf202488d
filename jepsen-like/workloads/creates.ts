/**
 * The client of the "creates" workload: makes files of unique names in one directory and lists it, one operation after
 * the other, and records what it was answered. Its model is in creates-model.ts.
 */
import type { Random } from "../../src/lib/clock.ts";
import { WeirError } from "../../src/lib/errors.ts";
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
/** One operation in so many is a listing. */
const listEvery = 12;

export async function runCreates(options: CreatesOptions): Promise<void> {
  for (let i = 0; process.hrtime.bigint() < options.untilNs; i++) {
    const input: CreatesInput =
      options.random.below(listEvery) === 0
        ? { kind: "list" }
        : { kind: "create", name: `c${options.client}-${i}` };
    const calledNs = process.hrtime.bigint();
    const result = await answer(() =>
      input.kind === "list" ? listAll(options) : create(options, input.name),
    );
    const returnedNs = process.hrtime.bigint();
    options.record({ client: options.client, input, calledNs, returnedNs, result });
  }
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
    const code = result?.ok === false ? result.code : "Internal";
    // Nobody else uses this name: an answer that it exists means that it was made twice.
    throw new WeirError(code, `Cannot create "${name}": answered ${code}`);
  }
  return { kind: "ok", position, output: { kind: "created", inode: result.status.inode } };
}

async function listAll({ masters, directory }: CreatesOptions): Promise<Answer> {
  const page = {
    directory,
    after: undefined,
    limit: 100_000,
    consistency: "linearizable",
  } as const;
  const { appliedIndex, entries, more } = await masters.call(masterApi.list, page, {
    deadlineMs: listDeadlineMs,
    idempotent: true,
  });
  if (more) throw new WeirError("NotSupported", "Cannot check a listing of several pages");
  return {
    kind: "ok",
    position: (appliedIndex + 1) * maxCommandsPerEntry - 1,
    output: { kind: "listed", names: entries.map((entry) => entry.name) },
  };
}
