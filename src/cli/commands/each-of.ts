/** Work on many things, several at a time. */

const sideBySide = 8;

/**
 * Calls `work` for each item, several at a time, after `inOrder` was awaited for it; the first error ends it, when what
 * is under way has ended.
 */
export async function eachOf<T>(
  items: AsyncIterable<T>,
  work: (item: T) => Promise<void>,
  inOrder: (item: T) => Promise<void>,
): Promise<void> {
  const running = new Set<Promise<void>>();
  let failure: { error: unknown } | undefined;
  for await (const item of items) {
    await inOrder(item);
    const one: Promise<void> = work(item)
      .catch((error: unknown) => {
        failure ??= { error };
      })
      .finally(() => running.delete(one));
    running.add(one);
    if (running.size >= sideBySide) await Promise.race(running);
    if (failure !== undefined) break;
  }
  await Promise.all(running);
  if (failure !== undefined) throw failure.error;
}
