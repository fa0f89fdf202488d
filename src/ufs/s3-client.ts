/** The client of a store from the options of its mount. */
import type { S3Client, S3ClientConfig } from "@aws-sdk/client-s3";
import { WeirError } from "../lib/errors.ts";

/** The client library, which takes a second to load: only a process that opens a bucket does. */
export type Sdk = typeof import("@aws-sdk/client-s3");

/**
 * The library warns on standard error, with its first client in a process, of versions of Node that releases to come
 * will not run on. Ours is of a fixed version, so operators could only wonder. Its own switch is on while `make` runs:
 * what else is in this process, or is started by it, sees the environment as it was.
 */
function withoutVersionWarning<T>(make: () => T): T {
  const { env } = process;
  const before = env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED;
  env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = before ?? "true";
  try {
    return make();
  } finally {
    if (before === undefined) delete env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED;
  }
}

const connectionTimeoutMs = 5000;
/** Silence on a connection after which a request is given up. */
const silenceTimeoutMs = 30_000;
/** @throws WeirError `InvalidArgument` for options that make no sense */
export function clientOf(
  { S3Client }: Sdk,
  options: Readonly<Record<string, string>>,
  uri: string,
): S3Client {
  const { endpoint, region, accessKey, secretKey, sessionToken, pathStyle } = options;
  const refuse = (why: string) => new WeirError("InvalidArgument", `Cannot use ${uri}: ${why}`);
  if ((accessKey === undefined) !== (secretKey === undefined)) {
    throw refuse("one of accessKey and secretKey is missing, wanted both or none");
  }
  if (pathStyle !== undefined && pathStyle !== "true" && pathStyle !== "false") {
    throw refuse(`pathStyle is "${pathStyle}", wanted true or false`);
  }
  if (endpoint !== undefined && !/^https?:\/\/[^/?#@]+\/?$/.test(endpoint)) {
    throw refuse('the endpoint is no address such as "http://127.0.0.1:7480"');
  }
  const config: S3ClientConfig = {
    // The default for stores that know no regions.
    region: region ?? "us-east-1",
    ...(endpoint === undefined ? {} : { endpoint }),
    forcePathStyle: pathStyle === undefined ? endpoint !== undefined : pathStyle === "true",
    ...(accessKey === undefined
      ? {}
      : {
          credentials: {
            accessKeyId: accessKey,
            secretAccessKey: secretKey!,
            ...(sessionToken === undefined ? {} : { sessionToken }),
          },
        }),
    maxAttempts: 4,
    // Checksums beyond what the protocol asks for are unknown to many stores.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: {
      connectionTimeout: connectionTimeoutMs,
      socketTimeout: silenceTimeoutMs,
      httpAgent: { keepAlive: true, maxSockets: 64 },
      httpsAgent: { keepAlive: true, maxSockets: 64 },
    },
  };
  return withoutVersionWarning(() => new S3Client(config));
}
