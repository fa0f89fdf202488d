/** Copying a large object within the store, part by part: no byte passes through here. */
import type { CompletedPart, S3Client } from "@aws-sdk/client-s3";

export async function copyParts(
  sdk: typeof import("@aws-sdk/client-s3"),
  client: S3Client,
  target: { readonly Bucket: string; readonly Key: string },
  source: { readonly CopySource: string; readonly CopySourceIfMatch: string },
  of: {
    readonly size: number;
    readonly partBytes: number;
    readonly metadata: Record<string, string>;
  },
): Promise<void> {
  const { UploadId } = await client.send(
    new sdk.CreateMultipartUploadCommand({ ...target, Metadata: of.metadata }),
  );
  try {
    const parts: CompletedPart[] = [];
    for (let offset = 0; offset < of.size; offset += of.partBytes) {
      const last = Math.min(offset + of.partBytes, of.size) - 1;
      const PartNumber = parts.length + 1;
      const { CopyPartResult } = await client.send(
        new sdk.UploadPartCopyCommand({
          ...target,
          ...source,
          UploadId,
          PartNumber,
          CopySourceRange: `bytes=${offset}-${last}`,
        }),
      );
      parts.push({ ETag: CopyPartResult?.ETag, PartNumber });
    }
    const MultipartUpload = { Parts: parts };
    await client.send(
      new sdk.CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload }),
    );
  } catch (thrown) {
    await client
      .send(new sdk.AbortMultipartUploadCommand({ ...target, UploadId }))
      .catch(() => undefined);
    throw thrown;
  }
}
