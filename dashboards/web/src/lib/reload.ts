//! How often the page may load itself again. Two gateways of different builds behind one address would
//! otherwise keep a wall reloading for ever. It must not read a clock or storage.

export const RELOAD_EVERY_MS = 60_000;

/** `last` and `now` are readings of one clock; null: never yet. A clock that was set back does not block it. */
export function mayReload(last: number | null, now: number): boolean {
  return last === null || !(Math.abs(now - last) < RELOAD_EVERY_MS);
}
