//! The gateway's HTTP contract as types, and nothing else. Durations are milliseconds measured by the
//! gateway when it sent the message; whoever receives one adds its own monotonic elapsed time.

export type Words = Record<string, string>;
export type Link = "up" | "down" | "off";
export type Execution =
  | "off" | "ready" | "preparing" | "running" | "paused" | "finished" | "fault" | "stopped" | "unknown";
/** Why the time is believed, or not. */
export type ClockStanding = "synced" | "trusted" | "anchored" | "unsynced";
export type Severity = "critical" | "high" | "medium" | "low";

export interface Item {
  name: string;
  kind: "gauge" | "counter" | "flag" | "text";
  unit: string;
  value: number | boolean | string | null;
  why: string | null;
  age_ms: number | null;
  stale_after_ms: number;
  key: boolean;
}

export interface Stop {
  output: string;
  /** `unknown`: the engine has not spoken of it yet. */
  phase: "unknown" | "armed" | "tripping" | "latched" | "failed";
  level: "C0" | "C1" | "C2" | "C3" | null;
  /** The id of the alarm that tripped it. */
  cause: string | null;
  trouble: string | null;
}

/** What machines of a kind have in common. */
export interface Kind {
  name: Words;
  hazards: Words[];
}

export interface Machine {
  id: string;
  name: Words;
  kind: string;
  execution: Execution;
  activity: string;
  why: string | null;
  /** The items that its activity is told from; without any nothing ever tells it. */
  activity_from: string[];
  in_state_ms: number | null;
  items: Item[];
  stop: Stop | null;
}

export interface Alarm {
  id: string;
  machine: string | null;
  severity: Severity;
  active: boolean | null;
  acked: boolean;
  latched: boolean;
  /** Null when it was raised before the gateway's computer last started. */
  for_ms: number | null;
  /** What was compared; may be empty. */
  cause: string;
  /** Null when its rule has left the configuration. */
  message: Words | null;
  /** The output, when this is a stop that has failed: no rule's alarm, and ended by no person. */
  stop: string | null;
}

export interface Unit {
  source: string;
  /** Modbus unit id, or the twelve digits of a DL/T 645 meter. */
  unit_id: number | string;
  state: "not_asked" | "bus_down" | "online" | "suspect" | "quarantined" | "slow";
  why: string | null;
  errors: number;
}

export interface Bus {
  id: string;
  state: Link;
  why: string | null;
  occupancy: number | null;
  units: Unit[];
}

export interface Device {
  source: string;
  protocol: string;
  state: "down" | "silent" | "answering";
  /** May be there although it answers. */
  why: string | null;
  errors: number;
}

export interface Gateway {
  version: string;
  build: string;
  clock: "synced" | "unsynced";
  clock_standing: ClockStanding;
  now_ms: number | null;
  mqtt: { state: Link; why: string | null; behind: number; confirmed_by: "recorder" | "puback" | null };
  store: { state: Link; why: string | null; behind: number };
  journal: { state: "ok" | "failing"; dropped: number; quarantined: number };
  buses: Bus[];
  devices: Device[];
  viewers: { connected: number; dropped: number; missed: number };
}

export interface Picture {
  v: number;
  seq: number;
  site: { id: string; name: Words; time_zone: string };
  gateway: Gateway;
  machines: Machine[];
  /** By the machines' `kind`; `other` has none. */
  kinds: Record<string, Kind>;
  alarms: Alarm[];
}

export interface Tick {
  seq: number;
  now_ms: number | null;
  build: string;
  clock: "synced" | "unsynced";
  clock_standing: ClockStanding;
}

export type Bucket = { min: number; max: number; mean: number; coverage: number } | null;
export interface History { v: number; span_ms: number; step_ms: number; unit: string; buckets: Bucket[] }
