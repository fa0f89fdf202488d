/** The S3 server of `--s3`: a script of the checkout starts and stops it, its state lies below `.weir/s3`. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { WeirError } from "../../lib/errors.ts";
import type { Layout } from "./layout.ts";
import { freePorts } from "./ports.ts";

export interface S3Access {
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

const run = promisify(execFile);
const startLimitMs = 180_000;
const stopLimitMs = 5000;

/** @throws WeirError `NotSupported` where this is no checkout, `Unavailable` when the server does not come up */
export async function startS3(layout: Layout, signal: AbortSignal): Promise<S3Access> {
  const script = scriptPath();
  if (script === undefined) {
    throw new WeirError(
      "NotSupported",
      "Cannot start an S3 server: scripts/s3-server.sh belongs to the checkout of Weir",
    );
  }
  const [port] = await freePorts(1);
  let told: string;
  try {
    const options = { timeout: startLimitMs, signal };
    told = (await run(script, ["start", layout.s3, String(port)], options)).stdout;
  } catch (cause) {
    const said = ((cause as { stderr?: string }).stderr ?? "").trim();
    throw new WeirError(
      "Unavailable",
      `Cannot start an S3 server: ${said === "" ? String(cause) : said.split("\n").slice(-3).join(" / ")}`,
      { cause },
    );
  }
  const value = (name: string) => new RegExp(`^${name}=(.*)$`, "m").exec(told)?.[1] ?? "";
  return {
    endpoint: value("S3_ENDPOINT"),
    accessKey: value("S3_ACCESS_KEY"),
    secretKey: value("S3_SECRET_KEY"),
  };
}

/** Ends the server whose state lies in this layout, if there is one. */
export async function stopS3(layout: Layout): Promise<void> {
  const script = scriptPath();
  if (script === undefined || !existsSync(layout.s3)) return;
  await run(script, ["stop", layout.s3], { timeout: stopLimitMs }).catch(() => undefined);
}

function scriptPath(): string | undefined {
  const up = import.meta.url.endsWith(".js") ? "../../../../" : "../../../";
  const path = fileURLToPath(new URL(`${up}scripts/s3-server.sh`, import.meta.url));
  return existsSync(path) ? path : undefined;
}
