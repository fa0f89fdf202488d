/** CPU time of processes, all their threads together, as the kernel counts it (Linux). */
import { readFile } from "node:fs/promises";

/** Length of a kernel clock tick in µs: USER_HZ is 100 on every Linux of today. */
const tickUs = 10_000;

/** User and system time of a process so far, in µs, in steps of 10 ms; 0 where the kernel does not tell. */
export async function cpuUs(pid: number): Promise<number> {
  let stat: string;
  try {
    stat = await readFile(`/proc/${String(pid)}/stat`, "latin1");
  } catch {
    return 0;
  }
  // The name of the program, in parentheses, may hold spaces (proc(5)): the fields are counted behind it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * tickUs;
}
