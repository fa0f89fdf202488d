/** How the CLI speaks: tables and figures for people, JSON for programs. The only place that knows of columns. */

export interface Output {
  readonly json: boolean;
  /** Whether people read along, so that colours help. */
  readonly colour: boolean;
  write(text: string): void;
}

/** The output of a command over a stream. */
export function outputTo(
  stream: { write(text: string): unknown; isTTY?: boolean },
  options: { json: boolean; environment: Readonly<Record<string, string | undefined>> },
): Output {
  return {
    json: options.json,
    colour: stream.isTTY === true && (options.environment["NO_COLOR"] ?? "") === "",
    write: (text) => void stream.write(text),
  };
}

/** One answer: as JSON on one line, or as what `text` makes of it. */
export function answer<T>(output: Output, value: T, text: (value: T) => string): void {
  if (output.json) output.write(`${JSON.stringify(value)}\n`);
  else {
    const shown = text(value);
    output.write(shown === "" || shown.endsWith("\n") ? shown : `${shown}\n`);
  }
}

/** Rows under headings; numbers are aligned to the right. Without rows, only the headings. */
export function table(
  headings: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): string {
  const cells = rows.map((row) => row.map(String));
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...cells.map((row) => widthOf(row[column] ?? ""))),
  );
  const numeric = headings.map(
    (_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === "number"),
  );
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => {
        const padding = " ".repeat(widths[column]! - widthOf(cell));
        return numeric[column] ? padding + cell : cell + padding;
      })
      .join("  ")
      .trimEnd();
  return `${[headings, ...cells].map(line).join("\n")}\n`;
}

/** Characters, counted as code points. */
function widthOf(text: string): number {
  return Array.from(text).length;
}

/** Lines of `name  value`, for one thing. */
export function sheet(fields: readonly (readonly [string, string | number | undefined])[]): string {
  const shown = fields.filter(([, value]) => value !== undefined);
  const width = Math.max(0, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `${name.padEnd(width)}  ${String(value)}\n`).join("");
}

/** Bytes in decimal units with three digits: `98.9 MB`. */
export function bytesText(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]!}`;
}

/** A duration in the unit that reads best: `14 ms`, `2.31 s`, `3 min 5 s`. */
export function durationText(durationMs: number): string {
  if (durationMs < 10) return `${durationMs.toFixed(1)} ms`;
  if (durationMs < 1000) return `${durationMs.toFixed(0)} ms`;
  if (durationMs < 120_000) return `${(durationMs / 1000).toFixed(2)} s`;
  const seconds = Math.round(durationMs / 1000);
  return `${String(Math.floor(seconds / 60))} min ${String(seconds % 60)} s`;
}

/** Bytes per second: `412 MB/s`. */
export function rateText(byteCount: number, durationMs: number): string {
  return `${bytesText((byteCount / Math.max(durationMs, 0.001)) * 1000)}/s`;
}

/** An integer with commas between thousands: `4,367`. */
export function countText(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** A number of things: `1 file`, `4,367 files`. */
export function countOf(count: number, one: string, many = `${one}s`): string {
  return `${countText(count)} ${count === 1 ? one : many}`;
}

const colours = { green: 32, red: 31, dim: 2, bold: 1 } as const;

export function paint(output: Output, colour: keyof typeof colours, text: string): string {
  return output.colour ? `\u001b[${String(colours[colour])}m${text}\u001b[0m` : text;
}
