import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hasCode, WeirError } from "../../src/lib/errors.ts";
import { LocalRunner } from "../../src/lineage/local-runner.ts";
import type { JobOutcome } from "../../src/lineage/runner.ts";
import type { Job } from "../../src/rpc/namespace.ts";

describe("a job as a local process", () => {
  let directory: string;
  const runner = new LocalRunner({ killGraceMs: 200 });
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-job-"));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  const run = async (
    argv: string[],
    options: Partial<Job> & {
      inputs?: string[];
      outputs?: number;
      signal?: AbortSignal;
    } = {},
  ): Promise<JobOutcome> => {
    const inputs: { path: string }[] = [];
    for (const [index, content] of (options.inputs ?? []).entries()) {
      inputs.push({ path: join(directory, `in-${index}`) });
      await writeFile(inputs[index]!.path, content);
    }
    const outputs = Array.from({ length: options.outputs ?? 0 }, (_, index) => ({
      path: join(directory, `out-${index}`),
    }));
    await mkdir(join(directory, "work"), { recursive: true });
    return runner.run({
      job: {
        argv,
        environment: options.environment ?? {},
        timeoutMs: options.timeoutMs ?? 20_000,
        captureStdout: options.captureStdout ?? false,
      },
      inputs,
      outputs,
      directory: join(directory, "work"),
      signal: options.signal ?? new AbortController().signal,
    });
  };
  const output = (index: number) => readFile(join(directory, `out-${index}`), "utf8");
  const shell = (script: string) => ["/bin/sh", "-c", script];
  /** Whether a process whose id a job wrote down is still there. */
  const isAlive = async (file: string) => {
    const pid = Number(await readFile(join(directory, "work", file), "utf8"));
    assert(pid > 1);
    try {
      process.kill(pid, 0);
    } catch {
      return false;
    }
    // Killed, and nobody has waited for it yet.
    const status = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
    return status !== "" && !/\) [ZX] /.test(status);
  };
  const untilFile = async (file: string) => {
    for (let tries = 0; tries < 500; tries++) {
      const content = await readFile(join(directory, "work", file), "utf8").catch(() => "");
      if (content.endsWith("\n")) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.fail(`${file} did not come`);
  };
  const untilGone = async (file: string) => {
    for (let tries = 0; tries < 500; tries++) {
      if (!(await isAlive(file))) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.fail("the process is still there");
  };

  it("reads its inputs and writes its outputs by placeholder", async () => {
    const inputs = ["c\nb\n", "a\n"];
    const outcome = await run(["sort", "-o", "{out:0}", "{in:0}", "{in:1}"], {
      inputs,
      outputs: 1,
    });
    assert.equal(outcome.exitCode, 0);
    assert(outcome.durationMs >= 0);
    assert.equal(await output(0), "a\nb\nc\n");
  });

  it("takes {in} as all inputs where it is the whole argument, and as the only one within an argument", async () => {
    await run(["sort", "{in}", "--output={out}"], { inputs: ["2\n", "1\n", "3\n"], outputs: 1 });
    assert.equal(await output(0), "1\n2\n3\n");
    await assert.rejects(run(["cat", "x{in}"], { inputs: ["1", "2"] }), (thrown) =>
      hasCode(thrown, "InvalidArgument"),
    );
    await assert.rejects(run(["cat", "{in:1}"], { inputs: ["1"] }), (thrown) =>
      hasCode(thrown, "InvalidArgument"),
    );
  });

  it("has the paths in its environment, its own variables, and a directory of its own", async () => {
    const script = 'printf "%s %s %s" "$(cat "$WEIR_IN_0")" "$COLOUR" "$(pwd)" > "$WEIR_OUT_0"';
    await run(shell(script), { inputs: ["x"], outputs: 1, environment: { COLOUR: "red" } });
    assert.equal(await output(0), `x red ${join(directory, "work")}`);
  });

  it("gives arguments to the program as they are, without a shell", async () => {
    await run(["printf", "%s", "$(id) ; `x` * {y}"], { outputs: 1, captureStdout: true });
    assert.equal(await output(0), "$(id) ; `x` * {y}");
  });

  it("captures standard output as output 0, however long it is", async () => {
    await run(["head", "-c", "5000000", "/dev/zero"], { outputs: 1, captureStdout: true });
    assert.equal((await output(0)).length, 5_000_000);
  });

  it("L1: respects the exit code: a job that fails leaves no outputs", async () => {
    const outcome = await run(shell('echo half > "$WEIR_OUT_0"; echo broken >&2; exit 3'), {
      outputs: 1,
    });
    assert.equal(outcome.exitCode, 3);
    assert.equal(outcome.stderrTail, "broken\n");
    await assert.rejects(output(0));
  });

  it("L1: takes a missing output after exit 0 for a failure", async () => {
    await assert.rejects(
      run(shell("echo only one > $WEIR_OUT_0; echo hm >&2"), { outputs: 2 }),
      (thrown) => {
        assert(thrown instanceof WeirError);
        assert.match(thrown.message, /out-1".*hm/);
        return thrown.code === "JobFailed";
      },
    );
    await rm(join(directory, "out-0"));
    await assert.rejects(run(shell("ln -s /etc/passwd $WEIR_OUT_0"), { outputs: 1 }), (thrown) =>
      hasCode(thrown, "JobFailed"),
    );
  });

  it("L2: is not blocked by its own chatter, of which the end is kept", async () => {
    const chatter = "head -c 3000000 /dev/zero | tr '\\0' x";
    const outcome = await run(shell(`${chatter} >&2; ${chatter}; echo the end >&2; exit 1`));
    assert.equal(outcome.exitCode, 1);
    assert.match(outcome.stderrTail, /^…x+the end\n$/);
    assert(outcome.stderrTail.length < 10_000);
  });

  it("L2: is ended at its timeout with all that it started, even when it ignores SIGTERM", async () => {
    const script =
      'trap "" TERM; sh -c \'trap "" TERM; echo $$ > below; while :; do sleep 0.1; done\' & ' +
      "echo $$ > top; echo busy >&2; while :; do sleep 0.1; done";
    const outcome = await run(shell(script), { timeoutMs: 500 });
    assert.equal(outcome.exitCode, 124);
    assert.match(outcome.stderrTail, /busy\n\nEnded after 500 ms, its timeout/);
    await untilGone("top");
    await untilGone("below");
  });

  it("is ended when it is cancelled", async () => {
    const controller = new AbortController();
    const running = run(shell("echo $$ > pid; exec sleep 60"), { signal: controller.signal });
    await untilFile("pid");
    controller.abort();
    await assert.rejects(running, (thrown) => hasCode(thrown, "Cancelled"));
    await untilGone("pid");
    await assert.rejects(run(["true"], { signal: controller.signal }), (thrown) =>
      hasCode(thrown, "Cancelled"),
    );
  });

  it("does not wait for what the program left behind, and ends it", async () => {
    const outcome = await run(shell("sleep 60 & echo $! > pid; exit 0"));
    assert.equal(outcome.exitCode, 0);
    await untilGone("pid");
  });

  it("shows the signal that ended it as a status", async () => {
    assert.equal((await run(shell("kill -9 $$"))).exitCode, 137);
  });

  it("says clearly that there is no such program", async () => {
    await assert.rejects(run(["no-such-program-here"]), (thrown) => {
      assert(thrown instanceof WeirError);
      assert.match(thrown.message, /Cannot run "no-such-program-here": there is no such program/);
      return thrown.code === "JobFailed";
    });
    await assert.rejects(run([]), (thrown) => hasCode(thrown, "InvalidArgument"));
    assert.deepEqual(await readdir(join(directory, "work")), []);
  });
});
