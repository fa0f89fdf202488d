/** What a bench has started and written goes with it also when somebody ends it before its time. */

/**
 * Calls `cleanUp` on SIGINT and SIGTERM, and ends the process in the same turn, so that nothing is begun behind it; until
 * the returned function is called.
 */
export function onInterruption(cleanUp: () => void): () => void {
  const onSignal = (signal: NodeJS.Signals) => {
    process.stderr.write(`Cannot finish: ended by ${signal}\n`);
    try {
      cleanUp();
    } finally {
      process.exit(1);
    }
  };
  const signals = ["SIGINT", "SIGTERM"] as const;
  for (const signal of signals) process.on(signal, onSignal);
  return () => {
    for (const signal of signals) process.off(signal, onSignal);
  };
}
