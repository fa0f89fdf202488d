/**
 * CRC-32C (Castagnoli), the sum that LevelDB writes; `node:zlib` has the other polynomial only. Every byte of a state goes
 * through here before it is opened, hence sixteen bytes a step, read as words. Pure. */
const stepBytes = 16;
const isLittleEndian = new Uint8Array(new Int32Array([1]).buffer)[0] === 1;

/** For each byte, the sum of that byte followed by so many zero bytes. */
const tables = Array.from({ length: stepBytes }, () => new Int32Array(256));
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  tables[0]![byte] = crc;
}
for (let zeros = 1; zeros < stepBytes; zeros++) {
  for (let byte = 0; byte < 256; byte++) {
    const before = tables[zeros - 1]![byte]!;
    tables[zeros]![byte] = (before >>> 8) ^ tables[0]![before & 0xff]!;
  }
}
type Four = [Int32Array, Int32Array, Int32Array, Int32Array];
const [t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, ta, tb, tc, td, te, tf] = tables as [
  ...[...Four, ...Four],
  ...[...Four, ...Four],
];

/** Of the bytes [start, end), unsigned. */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length): number {
  // Words begin at a multiple of four of the memory behind the view.
  const wordsAt = start + (-(bytes.byteOffset + start) & 3);
  const steps = isLittleEndian ? Math.floor((end - wordsAt) / stepBytes) : 0;
  if (steps <= 0) return ~byByte(-1, bytes, start, end) >>> 0;
  let crc = byByte(-1, bytes, start, wordsAt);
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + wordsAt, steps * 4);
  for (let i = 0; i < words.length; i += 4) {
    const a = words[i]! ^ crc;
    const b = words[i + 1]!;
    const c = words[i + 2]!;
    const d = words[i + 3]!;
    crc =
      tf[a & 0xff]! ^
      te[(a >>> 8) & 0xff]! ^
      td[(a >>> 16) & 0xff]! ^
      tc[a >>> 24]! ^
      (tb[b & 0xff]! ^ ta[(b >>> 8) & 0xff]! ^ t9[(b >>> 16) & 0xff]! ^ t8[b >>> 24]!) ^
      (t7[c & 0xff]! ^ t6[(c >>> 8) & 0xff]! ^ t5[(c >>> 16) & 0xff]! ^ t4[c >>> 24]!) ^
      (t3[d & 0xff]! ^ t2[(d >>> 8) & 0xff]! ^ t1[(d >>> 16) & 0xff]! ^ t0[d >>> 24]!);
  }
  return ~byByte(crc, bytes, wordsAt + steps * stepBytes, end) >>> 0;
}

function byByte(before: number, bytes: Uint8Array, start: number, end: number): number {
  let crc = before;
  for (let at = start; at < end; at++) crc = (crc >>> 8) ^ t0[(crc ^ bytes[at]!) & 0xff]!;
  return crc;
}
