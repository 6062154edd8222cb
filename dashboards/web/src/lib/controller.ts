//! What a machine's own controller tells, sorted out of its items: the job, the message, the contradiction with
//! the meter, and which items are left to be shown as values. It believes nothing that is not fresh and reckons
//! nothing on: a time left is what the machine last said, as long as that may still be believed.

import { freshness } from "./freshness";
import type { Execution, Item, Machine } from "./types";

/** A machine as it was told, and the moments of its telling and of looking at it. */
export interface Seen { machine: Machine; at: number; now: number }

export interface Job {
  /** The machine's own words; null when it tells none that may be believed. */
  name: string | null;
  /** 0–1; null when there is none to believe. */
  progress: number | null;
  /** Why there is no progress, of a machine that once told one. */
  why: string | null;
  /** Seconds; null when there are none to believe, or the job is not under way. */
  left: number | null;
  /** A machine that tells times left, but none now. */
  leftUnknown: boolean;
  layer: number | null;
  layers: number | null;
}

/** An item to be shown as a value, with the target that it strives for. */
export interface Shown { item: Item; target: Item | null }

/** A machine at rest may still tell of its last job; that is history, not what it does. */
const AT_WORK: readonly Execution[] = ["preparing", "running", "paused"];
const AT_REST: readonly Execution[] = ["off", "ready"];
/** Said elsewhere than among the values, always and while a job is shown. */
const SAID = ["execution", "controller.state", "controller.mode", "message"];
const SAID_OF_JOB = ["job.name", "progress", "job.left", "job.layer", "job.layers"];
const MEASURED = ["gauge", "counter"];

/** Never heard since the gateway's start: it has no age and no place among the values. */
export function unheard(item: Item): boolean {
  return item.value === null && item.age_ms === null;
}

function find(machine: Machine, name: string): Item | undefined {
  return machine.items.find((item) => item.name === name);
}

function fresh({ at, now }: Seen, item: Item | undefined): Item["value"] {
  return item === undefined || freshness(item, at, now).stale ? null : item.value;
}

function number(seen: Seen, name: string): number | null {
  const value = fresh(seen, find(seen.machine, name));
  return typeof value === "number" ? value : null;
}

/** The machine's own words under a name; null when it says none that may be believed. */
export function words(seen: Seen, name: string): string | null {
  const value = fresh(seen, find(seen.machine, name));
  return typeof value === "string" && value.trim() !== "" ? value : null;
}

/** The code of the fault that it is in; null when it is in none or tells none. */
export function faultCode(seen: Seen): number | null {
  const failed = seen.machine.execution === "fault" || seen.machine.execution === "stopped";
  return (failed ? number(seen, "fault.code") : null) || null;
}

/** The job that it is at, has just finished or failed at; null when there is none to speak of. */
export function job(seen: Seen): Job | null {
  const { machine, at, now } = seen;
  if (AT_REST.includes(machine.execution)) return null;
  const told = find(machine, "progress");
  const known = number(seen, "progress");
  const progress = known === null ? null : Math.min(1, Math.max(0, known));
  const why = told === undefined || unheard(told) ? null : freshness(told, at, now).why;
  const name = words(seen, "job.name");
  if (name === null && progress === null && why === null) return null;
  const working = AT_WORK.includes(machine.execution);
  const left = working ? number(seen, "job.left") : null;
  const leftItem = find(machine, "job.left");
  const leftUnknown = working && left === null && leftItem !== undefined && !unheard(leftItem);
  const [layer, layers] = [number(seen, "job.layer"), number(seen, "job.layers")];
  return { name, progress, why, left, leftUnknown, layer, layers };
}

/** Whole percent, rounded down: a job is not done before it is done. */
export function percent(progress: number): number {
  return Math.floor(progress * 100 + 1e-9);
}

/** What it draws: undefined where nothing measures it, null where that may not be believed. */
export function draws(seen: Seen): Item | null | undefined {
  const power = seen.machine.items.find(({ unit, kind }) => unit === "W" && kind === "gauge");
  return power === undefined || typeof fresh(seen, power) === "number" ? power : null;
}

/** Both sides of a contradiction: a key of the words and what goes into its places. */
export type Conflict =
  | { key: "conflict-controller"; says: Execution; power: Item | null }
  | { key: "conflict-backwards"; power: Item }
  | { key: "why-conflict" };

export function conflict(seen: Seen): Conflict | null {
  if (seen.machine.why !== "conflict") return null;
  const says = words(seen, "execution") as Execution | null;
  const known = (item: Item) => item.unit === "W" && typeof fresh(seen, item) === "number";
  const power = seen.machine.items.find(known) ?? null;
  if (says === "running" || says === "preparing") return { key: "conflict-controller", says, power };
  if (power !== null && Number(power.value) < 0) return { key: "conflict-backwards", power };
  return { key: "why-conflict" };
}

/** The items to be shown as values, in their order; a target stands with what strives for it. */
export function values(seen: Seen): Shown[] {
  const { machine } = seen;
  const said = job(seen) === null ? SAID : [...SAID, ...SAID_OF_JOB];
  const targetOf = ({ name }: Item) =>
    name.startsWith("temperature.target") ? undefined : find(machine, name.replace(/^temperature/, "temperature.target"));
  const heard = machine.items.filter((item) => !unheard(item));
  const pairs = heard.map((item) => {
    const target = item.name.startsWith("temperature") ? targetOf(item) : undefined;
    return { item, target: target === undefined || unheard(target) ? null : target };
  });
  const taken = new Set(pairs.map(({ target }) => target?.name));
  // A word that may no longer be believed is said nowhere else, so it is told here, with its reason.
  const elsewhere = (item: Item) =>
    taken.has(item.name) ||
    // Code 0 is no fault.
    (item.name === "fault.code" && (faultCode(seen) !== null || item.value === 0)) ||
    // A machine that has nothing to say says so in silence.
    (item.name === "message" && item.why === "sentinel") ||
    (said.includes(item.name) && (fresh(seen, item) !== null || item.name === "progress"));
  return pairs.filter(({ item }) => !elsewhere(item));
}

/** Those of the tile: words of the controller are none, believed or not. */
export function keyValues(seen: Seen): Shown[] {
  const said = [...SAID, ...SAID_OF_JOB];
  return values(seen).filter(({ item, target }) => (item.key || target?.key) && !said.includes(item.name));
}

/** The item whose last hour is worth a curve: a measured quantity, never a word or a switch. */
export function curve(shown: Shown[]): Item | undefined {
  return shown.map(({ item }) => item).find((item) => MEASURED.includes(item.kind) && item.unit !== "");
}
