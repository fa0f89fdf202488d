/** Text for people, cut where what it quotes was long. Pure. */

/** Characters that a quoted path or value keeps: enough to tell which it was. */
export const longestQuote = 256;

/** `text` of at most `length` characters: its beginning, its end, and between them how many were left out. */
export function shortened(text: string, length = longestQuote): string {
  if (text.length <= length) return text;
  const gap = `[… ${String(text.length)} characters …]`;
  const kept = Math.max(length - gap.length, 2);
  const tail = Math.floor(kept / 4);
  return text.slice(0, kept - tail) + gap + text.slice(text.length - tail);
}

/** A name or path of bytes, quoted: as UTF-8 where it is UTF-8, and cut where it is long. */
export function quoted(path: string): string {
  return JSON.stringify(Buffer.from(shortened(path, longestQuote), "latin1").toString("utf8"));
}
