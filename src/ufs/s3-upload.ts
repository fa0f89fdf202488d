/**
 * Putting a stream into one object: a single PUT up to 16 MiB, a multipart upload above. At most two parts are in memory,
 * one being filled while the other is sent.
 */
import type { CompletedPart, S3Client } from "@aws-sdk/client-s3";
import { needPermit, refuseIfAborted } from "./errors.ts";
import { assertLength } from "./paths.ts";

export const smallestPartBytes = 16 * 1024 ** 2;
/** What S3 allows in one upload. */
const maxParts = 10_000;

/** The size of all parts but the last, for an object of `size` bytes: equal sizes make equal etags. */
export function partBytesOf(size: number): number {
  const mebibytes = Math.ceil(size / maxParts / 1024 ** 2);
  return Math.max(smallestPartBytes, mebibytes * 1024 ** 2);
}

export interface Upload {
  readonly sdk: typeof import("@aws-sdk/client-s3");
  readonly client: S3Client;
  readonly bucket: string;
  readonly key: string;
  readonly metadata: Record<string, string>;
  readonly size: number;
  readonly signal: AbortSignal | undefined;
  readonly permit: (() => void) | undefined;
  /** Opens error messages. */
  readonly doing: string;
}

/** Resolves with the etag as the store says it; undefined when it says none. */
export async function upload(
  of: Upload,
  source: AsyncIterable<Uint8Array>,
): Promise<string | undefined> {
  const parts = cut(source, of);
  if (of.size > smallestPartBytes) return uploadParts(of, parts);
  const first = await parts.next();
  const body = first.done === true ? Buffer.alloc(0) : first.value;
  // The source must have ended: what is longer than announced is refused before anything is stored.
  if (first.done !== true) await parts.next();
  needPermit(of, of.doing);
  const { client, bucket, key, metadata } = of;
  const command = new of.sdk.PutObjectCommand({
    Bucket: bucket,
    Key: key,
    Metadata: metadata,
    Body: body,
  });
  return (await client.send(command, withSignal(of.signal))).ETag;
}

async function uploadParts(of: Upload, parts: AsyncIterable<Buffer>): Promise<string | undefined> {
  const { client, bucket, key, metadata } = of;
  const target = { Bucket: bucket, Key: key };
  const created = await client.send(
    new of.sdk.CreateMultipartUploadCommand({ ...target, Metadata: metadata }),
    withSignal(of.signal),
  );
  const uploadId = { ...target, UploadId: created.UploadId! };
  try {
    const completed: CompletedPart[] = [];
    let sending: Promise<CompletedPart> | undefined;
    try {
      for await (const part of parts) {
        if (sending !== undefined) completed.push(await sending);
        refuseIfAborted(of.signal, of.doing);
        sending = sendPart(of, { ...uploadId, PartNumber: completed.length + 1 }, part);
        // Awaited above or below; while the source is read, nobody listens yet.
        sending.catch(() => undefined);
      }
    } finally {
      // The part under way must not outlive the upload.
      if (sending !== undefined) completed.push(await sending);
    }
    needPermit(of, of.doing);
    const done = await client.send(
      new of.sdk.CompleteMultipartUploadCommand({
        ...uploadId,
        MultipartUpload: { Parts: completed },
      }),
      withSignal(of.signal),
    );
    return done.ETag;
  } catch (thrown) {
    // Without the signal: it may be why we are here. What cannot be aborted is for the bucket's lifecycle rule.
    await client.send(new of.sdk.AbortMultipartUploadCommand(uploadId)).catch(() => undefined);
    throw thrown;
  }
}

async function sendPart(
  of: Upload,
  part: { Bucket: string; Key: string; UploadId: string; PartNumber: number },
  body: Buffer,
): Promise<CompletedPart> {
  const command = new of.sdk.UploadPartCommand({ ...part, Body: body });
  const { ETag } = await of.client.send(command, withSignal(of.signal));
  return { ETag, PartNumber: part.PartNumber };
}

/** The source in parts of one size, each a buffer of its own; checks the length on the way. */
async function* cut(
  source: AsyncIterable<Uint8Array>,
  of: Upload,
): AsyncGenerator<Buffer, void, undefined> {
  const partBytes = partBytesOf(of.size);
  let total = 0;
  let part = Buffer.allocUnsafe(Math.min(partBytes, of.size));
  let filled = 0;
  for await (const chunk of source) {
    refuseIfAborted(of.signal, of.doing);
    if (total + chunk.length > of.size) assertLength(total + chunk.length, of.size, of.doing);
    total += chunk.length;
    let taken = 0;
    while (taken < chunk.length) {
      const piece = chunk.subarray(taken, taken + part.length - filled);
      part.set(piece, filled);
      taken += piece.length;
      filled += piece.length;
      if (filled < part.length) continue;
      yield part;
      part = Buffer.allocUnsafe(Math.min(partBytes, of.size - total + chunk.length - taken));
      filled = 0;
    }
  }
  assertLength(total, of.size, of.doing);
}

function withSignal(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}
