/**
 * A process of a simulated machine: Node's event loop, with a clock that runs at a speed of its own. A turn runs the
 * timers that are due, then what came from sockets and files, then the callbacks of `setImmediate`; so a process that was
 * stopped for a while runs late timers before it reads what waits for it, as the real one does.
 *
 * Once killed it does nothing any more.
 */
import type { Clock } from "../../src/lib/clock.ts";
import type { World } from "./world.ts";

export class SimulatedProcess implements Clock {
  readonly #world: World;
  /** Speed of its clock against the simulated time. */
  readonly #speed: number;
  readonly #startMs: number;
  #jumpedMs = 0;
  #pausedUntilMs = 0;
  #isAlive = true;
  #isTurnDue = false;
  #timers: (() => void)[] = [];
  #arrived: (() => void)[] = [];
  #immediates: (() => void)[] = [];

  constructor(world: World, speed: number) {
    this.#world = world;
    this.#speed = speed;
    this.#startMs = world.timeline.nowMs;
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }
  get isPaused(): boolean {
    return this.#pausedUntilMs > this.#world.timeline.nowMs;
  }

  monotonicMs(): number {
    return (this.#world.timeline.nowMs - this.#startMs) * this.#speed + this.#jumpedMs;
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.monotonicMs();
  }

  after(delayMs: number, callback: () => void): () => void {
    let isWanted = true;
    this.#world.timeline.after(delayMs / this.#speed, () => {
      if (!isWanted || !this.#isAlive) return;
      this.#timers.push(() => {
        if (isWanted) callback();
      });
      // The loop sleeps until the next timer: it wakes with it.
      if (this.isPaused) this.#wake();
      else this.#turn();
    });
    return () => {
      isWanted = false;
    };
  }

  /** `setImmediate`. */
  afterPoll(callback: () => void): void {
    this.#immediates.push(callback);
    this.#wake();
  }

  /** Something came from outside: it is read in the next turn. */
  arrive(callback: () => void): void {
    if (!this.#isAlive) return;
    this.#arrived.push(callback);
    this.#wake();
  }

  /** Resolves after about `delayMs`, like a call to the operating system. */
  wait(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#world.timeline.after(delayMs, () => {
        this.arrive(() => {
          this.#world.stir();
          resolve();
        });
      });
    });
  }

  /** Stops it, like SIGSTOP. */
  pause(ms: number): void {
    this.#pausedUntilMs = this.#world.timeline.nowMs + ms;
  }

  resume(): void {
    if (!this.isPaused) return;
    this.#pausedUntilMs = 0;
    this.#isTurnDue = false;
    this.#wake();
  }

  /** Its clock goes forward all at once, as after the sleep of a machine. */
  jump(ms: number): void {
    this.#jumpedMs += ms;
  }

  kill(): void {
    this.#isAlive = false;
    this.#timers = [];
    this.#arrived = [];
    this.#immediates = [];
  }

  #wake(): void {
    if (this.#isTurnDue || !this.#isAlive) return;
    this.#isTurnDue = true;
    const { timeline } = this.#world;
    timeline.after(Math.max(0, this.#pausedUntilMs - timeline.nowMs), () => {
      if (!this.#isTurnDue || !this.#isAlive) return;
      this.#isTurnDue = false;
      if (this.isPaused) this.#wake();
      else this.#turn();
    });
  }

  #turn(): void {
    if (this.#timers.length > 0) {
      // Promises that a timer settles, which is rare, may wait for the next event that stirs.
      const due = this.#timers;
      this.#timers = [];
      this.#run(due);
    }
    if (this.#arrived.length > 0) {
      const arrived = this.#arrived;
      this.#arrived = [];
      this.#run(arrived);
    }
    if (this.#immediates.length > 0) {
      const immediates = this.#immediates;
      this.#immediates = [];
      this.#run(immediates);
    }
  }

  #run(callbacks: (() => void)[]): void {
    for (const callback of callbacks) if (this.#isAlive) callback();
  }
}
