//! The one connection to the gateway and the one clock of the page. It owns the EventSource, feeds `reduce`, and
//! reconnects itself: the browser's own retry gives up on some errors and never notices a half-open line.

import { mayReload } from "./reload";
import { backoff, blank, cover, COVER_AFTER_MS, look, read, reduce } from "./stream";
import type { Board, Message } from "./stream";

const EVENTS: Message["event"][] = ["picture", "machine", "alarms", "gateway", "tick"];
const BEAT_MS = 500;
/** The monotonic clock stands still while some computers sleep; the wall clock tells that it did. */
const SLEPT_MS = 10_000;
const RELOADED = "andon-reloaded";

/** Loads the page again if its last time is long enough ago; the time survives the reload, not the tab. */
function reload(): void {
  const wall = Date.now();
  try {
    const last = sessionStorage.getItem(RELOADED);
    if (!mayReload(last === null ? null : Number(last), wall)) return;
    sessionStorage.setItem(RELOADED, String(wall));
  } catch {
    // Nothing can be remembered here, so the age of the page is all that bounds the rate.
    if (!mayReload(0, performance.now())) return;
  }
  location.reload();
}

class Live {
  board = $state.raw<Board>(blank(performance.now()));
  now = $state(performance.now());
  #source: EventSource | null = null;
  #attempt = 0;
  #tried = performance.now();
  #retry: ReturnType<typeof setTimeout> | undefined;
  #wall = Date.now();
  #passed = performance.now();

  start(): void {
    this.#connect();
    setInterval(() => this.#pass(), BEAT_MS);
  }

  #connect(): void {
    this.#source?.close();
    this.#tried = performance.now();
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
    if (this.board.outdated) reload();
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
    // A line that was opened and then says nothing never fails by itself.
    const mute = this.#source !== null && now - this.#tried > COVER_AFTER_MS;
    if (this.board.covered && (!was || mute)) this.#again();
    if (this.board.outdated) reload();
  }
}

export const live = new Live();
