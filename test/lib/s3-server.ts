/**
 * A real S3 server for tests, started by the first that asks and ended with the process. `WEIR_TEST_S3` (an endpoint)
 * names one that runs already, with the keys of scripts/s3-server.sh.
 */
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

export interface S3Server {
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

const script = join(import.meta.dirname, "../../scripts/s3-server.sh");
let started: Promise<S3Server> | undefined;

/** Rejects with what is missing and how to get it. A first start may install packages: allow some minutes. */
export function s3Server(): Promise<S3Server> {
  started ??= start();
  return started;
}

async function start(): Promise<S3Server> {
  const running = process.env["WEIR_TEST_S3"];
  if (running !== undefined && running !== "") {
    return { endpoint: running, accessKey: "weir-test-key", secretKey: "weir-test-secret" };
  }
  const directory = mkdtempSync(join(tmpdir(), "weir-s3-"));
  process.once("exit", () => {
    execFileSync(script, ["stop", directory], { stdio: "ignore" });
    rmSync(directory, { recursive: true, force: true });
  });
  const { stdout } = await promisify(execFile)(script, ["start", directory]);
  const said = new Map(stdout.split("\n").map((line) => line.split(/=(.*)/s) as [string, string]));
  return {
    endpoint: said.get("S3_ENDPOINT")!,
    accessKey: said.get("S3_ACCESS_KEY")!,
    secretKey: said.get("S3_SECRET_KEY")!,
  };
}
