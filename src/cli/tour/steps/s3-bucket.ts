/** The step of --s3: a bucket of a real S3 server as a mount: read like a directory, written to, checked with the plain SDK. */
import { lstatSync } from "node:fs";
import { cp, mkdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { bytesText, countText, durationText } from "../../output.ts";
import { startS3 } from "../../start/s3-server.ts";
import { chooseSample, filesBelow, measureTree } from "../data.ts";
import { expectEqual, type Step } from "../step.ts";

const bucket = "weir-tour";
const sampleFiles = 100;

export const s3Bucket: Step = {
  title: "A bucket, mounted",
  async run(tour) {
    const { runner, scratch, data, mount, cluster, signal } = tour;
    const access = await startS3(cluster.layout, signal);
    process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";
    const { S3Client, CreateBucketCommand, PutObjectCommand, GetObjectCommand } = await import(
      "@aws-sdk/client-s3"
    );
    const s3 = new S3Client({
      endpoint: access.endpoint,
      region: "us-east-1",
      forcePathStyle: true,
      credentials: { accessKeyId: access.accessKey, secretAccessKey: access.secretKey },
    });
    try {
      await s3.send(new CreateBucketCommand({ Bucket: bucket }));
      // A store has no links and no empty directories: the sample is its regular files.
      const sample = join(scratch, "s3-sample");
      for (const name of await chooseSample(data, sampleFiles)) {
        await mkdir(sample, { recursive: true });
        await cp(join(data, name), join(sample, name), {
          recursive: true,
          filter: (path) => !lstatSync(path).isSymbolicLink(),
        });
      }
      for await (const { path } of filesBelow(sample)) {
        // As bytes, not as a stream: the SDK sends only those again when the server is not quite up yet.
        const Body = await readFile(path);
        await s3.send(new PutObjectCommand({ Bucket: bucket, Key: relative(sample, path), Body }));
      }
      const size = await measureTree(sample);
      await runner.weir([
        ...["fs", "mount", "/bucket", `s3://${bucket}`],
        ...["--option", `endpoint=${access.endpoint}`, "--option", "pathStyle=true"],
        ...["--option", "region=us-east-1", "--option", `accessKey=${access.accessKey}`],
        ...["--option", `secretKey=${access.secretKey}`],
      ]);
      const copy = mount === undefined ? join(scratch, "s3-copy") : join(mount, "bucket");
      const startedMs = performance.now();
      if (mount === undefined) await runner.weir(["fs", "get", "--recursive", "/bucket", copy]);
      await runner.run("diff", ["-r", sample, copy]);
      const readMs = performance.now() - startedMs;

      const text = join(scratch, "text");
      await runner.weir(["fs", "put", text, "/bucket/written"]);
      await runner.weir(["fs", "persist", "--wait", "/bucket/written"]);
      const object = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: "written" }));
      const stored = Buffer.from(await object.Body!.transformToByteArray());
      const same = stored.equals(await readFile(text)) ? "equal" : "different";
      expectEqual(
        "the object in the bucket and the file written",
        same,
        "equal",
        cluster.layout.logs,
      );
      return [
        `${countText(size.files)} objects, ${bytesText(size.bytes)}: no difference, in ${durationText(readMs)}`,
        "a file written through Weir is equal in the bucket",
      ];
    } finally {
      s3.destroy();
    }
  },
};
