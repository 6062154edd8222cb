//! Whether a value may still be believed. Its age only grows between messages: silence makes it stale here,
//! without any event. It must not compare wall clocks.

import type { Item } from "./types";

export interface Fresh {
  /** Milliseconds since the device was read; null when it never was. */
  age: number | null;
  stale: boolean;
  /** Why there is no value to believe, as a word of the gateway; null when there is one. */
  why: string | null;
}

export function freshness(item: Item, received: number, now: number): Fresh {
  const age = item.age_ms === null ? null : item.age_ms + Math.max(0, now - received);
  if (item.value === null) return { age, stale: true, why: item.why ?? "not_yet" };
  if (age === null || age > item.stale_after_ms) return { age, stale: true, why: "stale" };
  return { age, stale: false, why: null };
}
