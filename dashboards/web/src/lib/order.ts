//! Which machine comes first and how many fit: who needs a person, then the configured order.
//! The sort is stable, so tiles move only when the need changes.

import { freshness } from "./freshness";
import type { Seen } from "./controller";
import type { Alarm, Execution, Machine } from "./types";

export type Look = "stop" | "fault" | "attention" | "unknown" | "running" | "calm";
/** The word and the sign of a tile: a state, or what stands in its place while there is none to tell. */
export type Headline = Execution | "conflict" | "values";

/** Nobody asked for its activity, and what it measures is fresh: neither a state nor missing data. Of the values of
 * the tile one is enough, for each of them says itself when it is missing. */
export function valuesOnly({ machine, at, now }: Seen): boolean {
  if (machine.execution !== "unknown" || machine.activity_from.length > 0) return false;
  const keys = machine.items.filter((item) => item.key);
  return (keys.length > 0 ? keys : machine.items).some((item) => !freshness(item, at, now).stale);
}

/** Unknown is never one thing: nothing is heard, or too much, or nothing was asked for. What has fallen silent
 * contradicts nobody. */
export function headline(seen: Seen): Headline {
  if (valuesOnly(seen)) return "values";
  const { execution, why, items, activity_from } = seen.machine;
  const speaks = () => items.some((item) => activity_from.includes(item.name) && !freshness(item, seen.at, seen.now).stale);
  return execution === "unknown" && why === "conflict" && speaks() ? "conflict" : execution;
}

/** Alarms of a machine that still ask for something: a minor one that a person has seen does not. */
export function urgent(alarms: Alarm[], machine: string): Alarm[] {
  const settled = (alarm: Alarm) => alarm.acked && alarm.severity === "low";
  return alarms.filter((alarm) => alarm.machine === machine && !settled(alarm));
}

/** 0 is the most urgent. */
export function need(seen: Seen, alarms: Alarm[]): number {
  const { machine } = seen;
  const phase = machine.stop?.phase;
  const own = urgent(alarms, machine.id);
  if (phase === "failed") return 0;
  if (machine.execution === "stopped" || phase === "tripping" || phase === "latched") return 1;
  if (own.some((alarm) => alarm.severity === "high" && alarm.active !== false)) return 2;
  if (machine.execution === "fault") return 3;
  if (own.length > 0) return 4;
  // A stop that nobody has heard of may or may not protect: that is not calm.
  if ((machine.execution === "unknown" && !valuesOnly(seen)) || phase === "unknown") return 5;
  if (machine.execution === "paused") return 6;
  if (machine.execution === "finished") return 7;
  return 8;
}

/** A stop that was commanded and is not confirmed, or that the meter contradicts: nothing about it may look done. */
export function stopFailed(machine: Machine): boolean {
  return machine.stop?.phase === "failed";
}

export function look(seen: Seen, alarms: Alarm[]): Look {
  const { machine } = seen;
  const rank = need(seen, alarms);
  if (rank <= 1) return "stop";
  // Nothing reads as normal or merely "attend" while nobody knows the state.
  if (machine.execution === "unknown" && !valuesOnly(seen)) return "unknown";
  if (rank <= 3) return "fault";
  if (rank === 4) return "attention";
  if (rank === 5) return "unknown";
  return machine.execution === "running" || machine.execution === "preparing" ? "running" : "calm";
}

export function byNeed<T>(entries: T[], seen: (entry: T) => Seen, alarms: Alarm[]): T[] {
  return entries
    .map((entry) => ({ entry, rank: need(seen(entry), alarms) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ entry }) => entry);
}

const WEIGHT = { critical: -1, high: 0, medium: 1, low: 2 };

/** Unacknowledged before acknowledged, then by severity, then the newest; of unknown age last. */
export function alarmOrder(alarms: Alarm[]): Alarm[] {
  const age = (alarm: Alarm) => alarm.for_ms ?? Number.MAX_SAFE_INTEGER;
  return alarms.toSorted(
    (a, b) =>
      Number(a.acked) - Number(b.acked) ||
      WEIGHT[a.severity] - WEIGHT[b.severity] ||
      age(a) - age(b),
  );
}

export interface Density { name: "wide" | "roomy" | "normal" | "dense" | "tiny"; width: number; height: number }

/** The smallest tile of each density, in CSS pixels, the largest first. */
export const DENSITIES: readonly Density[] = [
  { name: "wide", width: 440, height: 340 },
  { name: "roomy", width: 300, height: 236 },
  { name: "normal", width: 240, height: 172 },
  { name: "dense", width: 176, height: 108 },
  { name: "tiny", width: 132, height: 66 },
];
export const GAP = 10;

/** The largest tiles with which all machines fit into the space; on a phone one readable column that scrolls. */
export function fit(count: number, width: number, height: number): { density: Density["name"]; columns: number } {
  if (width < 600) return { density: count > 24 ? "tiny" : "normal", columns: count > 24 ? 2 : 1 };
  for (const tile of DENSITIES) {
    const columns = Math.max(1, Math.floor((width + GAP) / (tile.width + GAP)));
    const rows = Math.ceil(count / columns);
    if (rows * (tile.height + GAP) - GAP > height) continue;
    // As few columns as need no further row: the last row is as full as it can be.
    return { density: tile.name, columns: Math.ceil(count / Math.max(rows, 1)) || 1 };
  }
  return { density: "tiny", columns: Math.max(1, Math.floor((width + GAP) / (132 + GAP))) };
}
