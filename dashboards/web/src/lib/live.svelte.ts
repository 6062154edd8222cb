//! The one connection to the gateway and the one clock of the page. It owns the EventSource, feeds `reduce`, and
//! reconnects itself: the browser's own retry gives up on some errors and never notices a half-open line.

import { backoff, blank, cover, look, read, reduce, type Board, type Message } from "./stream";

const EVENTS: Message["event"][] = ["picture", "machine", "alarms", "gateway", "tick"];
const BEAT_MS = 500;
/** The monotonic clock stands still while some computers sleep; the wall clock tells that it did. */
const SLEPT_MS = 10_000;

class Live {
  board = $state.raw<Board>(blank(performance.now()));
  now = $state(performance.now());
  #source: EventSource | null = null;
  #attempt = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #wall = Date.now();
  #passed = performance.now();

  start(): void {
    this.#connect();
    setInterval(() => this.#pass(), BEAT_MS);
  }

  #connect(): void {
    this.#source?.close();
    const source = new EventSource("/api/v1/events");
    this.#source = source;
    for (const event of EVENTS) {
      source.addEventListener(event, (heard) => this.#hear(event, String((heard as MessageEvent).data)));
    }
    source.onerror = () => this.#again();
  }

  #again(): void {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), backoff(this.#attempt, Math.random()));
    this.#attempt += 1;
  }

  #hear(event: string, text: string): void {
    const message = read(event, text);
    if (message === null) return;
    if (event === "picture") this.#attempt = 0;
    this.now = performance.now();
    this.board = reduce(this.board, message, this.now);
    if (this.board.outdated) location.reload();
  }

  #pass(): void {
    const wall = Date.now();
    const now = performance.now();
    const slept = wall - this.#wall - (now - this.#passed) > SLEPT_MS;
    this.#wall = wall;
    this.#passed = now;
    this.now = now;
    const was = this.board.covered;
    this.board = slept ? cover(this.board) : look(this.board, now);
    if (!was && this.board.covered) this.#again();
  }
}

export const live = new Live();
