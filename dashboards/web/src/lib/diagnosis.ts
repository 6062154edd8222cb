//! What the gateway knows of itself (GET /api/v1/diagnostics), as types, and what a person is to see of it first.
//! Durations are milliseconds as of the gateway's answer; null and absent mean that nobody knows.

import type { ClockStanding } from "./types";

export interface Requests {
  answered: number; timeout: number; garbled: number; refused: number; disconnected: number; parted: number; late: number; retries: number;
}

export interface Unit {
  source: string;
  unit_id: string;
  standing: "not_asked" | "bus_down" | "online" | "suspect" | "quarantined" | "slow";
  why: string | null;
  requests: Requests;
  turnaround_ms: number | null;
  worst_age_ms: number | null;
  skipped_rounds: number;
  holes: number;
  last_answer_age_ms: number | null;
}

export interface Bus {
  id: string;
  up: boolean;
  why: string | null;
  /** 0–1, of the last minute. */
  occupancy: number;
  /** Of the units that answer; what is left out is counted in the two below. */
  worst_age_ms: number | null;
  /** The value that was oldest by its own period: 1 as a rule, above 2 one was missed. */
  latest: { source: string; item: string; period_ms: number; age_ms: number; periods: number } | null;
  units_silent: number;
  /** The others are only written to. */
  units_polled: number;
  items_unread: number;
  skipped_rounds: number;
  skipped_share: number | null;
  /** So much of it that somebody should look. */
  skipping: boolean;
  stray_bytes: number;
  units: Unit[];
}

export interface Device {
  source: string;
  protocol: string;
  state: "down" | "silent" | "answering";
  why: string | null;
  errors: number;
  last_answer_age_ms: number | null;
}

export interface Diagnostics {
  process: { version: string; uptime_ms: number; cpu_ms: number; resident_bytes: number | null; resident_peak_bytes: number | null };
  clock: { anchored: boolean; kernel_synchronised: boolean; trusted: boolean; standing: ClockStanding };
  buses: Bus[];
  devices: Device[];
  engine: {
    readings_per_second: number | null; turn_mean_ms: number | null; turn_longest_ms: number;
    telemetry_queue: { filled: number; room: number } | null;
  };
  journal: {
    written: number; bytes: number; dropped: number; events_dropped: number; recycled_unread: number; quarantined: number;
    failing: string | null; consumers: { consumer: string; stream: string; behind: number }[];
  } | null;
  history: {
    failing: string | null; bytes: number | null; oldest_ms: number | null; samples: number; undated: number; passed_over: number; damaged: number;
    /** Days whose merge has failed, and why. */
    unmerged: number; unmerged_why: string | null;
  } | null;
  mqtt: {
    up: boolean; why: string | null; confirmed_by: "recorder" | "puback" | null; in_flight: number; published_again: number; unconfirmed: number;
  } | null;
  store: { up: boolean; why: string | null; committed: number; dead_letters: number; behind: number } | null;
  boards: { connected: number; dropped: number; missed: number } | null;
}

/** How often the page asks. */
export const ASK_EVERY_MS = 2_000;
/** Three answers that did not come: what is shown may no longer be believed. */
export const STALE_AFTER_MS = 3 * ASK_EVERY_MS;
/** A line in use for so long has no room for what a failure costs. */
export const CROWDED = 0.8;

/** Whether figures received at `at` may no longer be believed at `now`. */
export function stale(at: number, now: number): boolean {
  return now - at > STALE_AFTER_MS;
}

export type Mark = "well" | "watch" | "bad" | "unknown";

export function markOfUnit(unit: Unit): Mark {
  return ({ online: "well", suspect: "watch", slow: "watch", quarantined: "bad", not_asked: "unknown", bus_down: "unknown" } as const)[unit.standing] ?? "unknown";
}

export function markOfDevice(device: Device): Mark {
  if (device.state === "down") return "bad";
  return device.state === "silent" || device.why !== null ? "watch" : "well";
}

const URGENCY: Record<Mark, number> = { bad: 0, watch: 1, unknown: 2, well: 3 };

/** The worst first; within a mark in the order of the configuration. */
export function worstFirst<T>(all: T[], mark: (one: T) => Mark): T[] {
  return all.toSorted((a, b) => URGENCY[mark(a)] - URGENCY[mark(b)]);
}

/** What became of requests that failed, the most frequent first: [word, count]. */
export function failures(requests: Requests): [string, number][] {
  const kinds = ["timeout", "garbled", "refused", "disconnected"] as const;
  const found = kinds.map((kind): [string, number] => [kind, requests[kind]]);
  return found.filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
}

/** One digit below ten; what a digit cannot show is less than it, and never nothing. */
export function milliseconds(ms: number): string {
  if (ms < 0.1) return "< 0.1";
  return ms < 10 ? ms.toFixed(1) : String(Math.round(ms));
}

/** Seconds with one digit after the point below ten; null for what is told in its largest unit. */
export function tenths(ms: number): string | null {
  return ms < 9_950 ? (ms / 1000).toFixed(1) : null;
}

export function asked(requests: Requests): number {
  return requests.answered + requests.parted + requests.timeout + requests.garbled + requests.refused + requests.disconnected;
}

/** An answer of the gateway, or null for what is none. */
export function readDiagnostics(told: unknown): Diagnostics | null {
  const whole = typeof told === "object" && told !== null && "buses" in told && "process" in told && "engine" in told;
  return whole ? (told as Diagnostics) : null;
}
