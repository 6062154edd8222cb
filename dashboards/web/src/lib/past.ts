//! The gateway's long history as the board asks for it and reads it. An answer that is not one is none.

import { gaps } from "./sparkline";
import type { Bucket, Item } from "./types";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** What may be looked back on, by the key of its word. */
export const SPANS = { hour: HOUR_MS, day: DAY_MS, week: 7 * DAY_MS, month: 30 * DAY_MS, year: 365 * DAY_MS } as const;
export type Span = keyof typeof SPANS;
/** Steps of a curve: about one for two pixels of the dialog. */
const STEPS = 300;
/** Half of what the gateway rounds coverage to. */
const LEAST_COVERAGE = 5e-5;

export interface Past { from_ms: number; to_ms: number; buckets: Bucket[]; gaps: [number, number][] }

/** What is known of a stretch of time, in numbers. */
export interface Digest { min: number; mean: number; max: number; /** 0–1 */ known: number }

/** The items that have a past to be drawn: numbers, not words or switches. */
export function drawable(items: Item[]): Item[] {
  return items.filter((item) => item.kind === "gauge" || item.kind === "counter");
}

export function question(machine: string, item: string, span: Span, now_ms: number): string {
  const asked = { machine, item, from: String(now_ms - SPANS[span]), to: String(now_ms), buckets: String(STEPS) };
  return `/api/v1/history?${new URLSearchParams(asked)}`;
}

/** The answer about one series; null when it has none. */
export function readPast(told: unknown): Past | null {
  const { from_ms, to_ms, series } = (told ?? {}) as { from_ms?: unknown; to_ms?: unknown; series?: { buckets?: unknown }[] };
  const buckets = Array.isArray(series) ? series[0]?.buckets : undefined;
  if (typeof from_ms !== "number" || typeof to_ms !== "number" || !Array.isArray(buckets)) return null;
  return { from_ms, to_ms, buckets: buckets as Bucket[], gaps: gaps(buckets as Bucket[]) };
}

/** Null when nothing is known. Each step counts as much as is known of it; one of which hardly a moment is known says so
 * in its coverage, which the gateway rounds to nothing. */
export function digest(buckets: Bucket[]): Digest | null {
  const known = buckets.filter((bucket) => bucket !== null);
  if (known.length === 0) return null;
  const weigh = ({ coverage }: NonNullable<Bucket>) => Math.max(coverage, LEAST_COVERAGE);
  const covered = known.reduce((sum, bucket) => sum + weigh(bucket), 0);
  return {
    min: Math.min(...known.map(({ min }) => min)),
    max: Math.max(...known.map(({ max }) => max)),
    mean: known.reduce((sum, bucket) => sum + bucket.mean * weigh(bucket), 0) / covered,
    known: covered / buckets.length,
  };
}

/** A share that is never rounded to all or to nothing. */
export function share(known: number): string {
  if (known > 0 && known < 0.01) return "<1";
  return String(Math.floor(known * 100 + 1e-9));
}
