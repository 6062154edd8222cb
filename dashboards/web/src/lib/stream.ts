//! What the stream has told so far, as a value: `reduce` takes one message, `look` takes the passing of time.
//! It must not read a clock or the network; `now` is always performance.now() of the caller, in milliseconds.
//! Once covered, only a fresh picture uncovers: a tick proves that the line lives, not that the page is whole.

import type { Alarm, Gateway, Kind, Machine, Picture, Tick } from "./types";

/** Two missed ticks of 5 s: after this long in silence the page may no longer be believed. */
export const COVER_AFTER_MS = 10_000;

export interface Received<T> { told: T; at: number }

export interface Board {
  site: Picture["site"] | null;
  machines: Received<Machine>[];
  /** What the kinds of the machines have in common; it never changes while a gateway runs. */
  kinds: Record<string, Kind>;
  alarms: Received<Alarm[]>;
  gateway: Received<Gateway> | null;
  build: string | null;
  /** The last sign of life: a picture or a tick. */
  beat: number;
  covered: boolean;
  /** Set once the gateway serves another board than the one running; the page must load itself again. */
  outdated: boolean;
}

export type Message =
  | { event: "picture"; told: Picture }
  | { event: "machine"; told: Machine }
  | { event: "alarms"; told: Alarm[] }
  | { event: "gateway"; told: Gateway }
  | { event: "tick"; told: Tick };

export function blank(now: number): Board {
  return {
    site: null, machines: [], kinds: {}, alarms: { told: [], at: now }, gateway: null,
    build: null, beat: now, covered: true, outdated: false,
  };
}

export function reduce(before: Board, message: Message, now: number): Board {
  // Time passes first: a message that arrives after the limit must not hide that there was a gap.
  const board = look(before, now);
  switch (message.event) {
    case "picture":
      return start(board, message.told, now);
    case "machine": {
      const at = board.machines.findIndex((known) => known.told.id === message.told.id);
      if (at < 0) return board;
      return { ...board, machines: board.machines.with(at, { told: message.told, at: now }) };
    }
    case "alarms":
      return { ...board, alarms: { told: message.told, at: now } };
    case "gateway":
      return { ...board, gateway: { told: message.told, at: now } };
    case "tick":
      return tick(board, message.told, now);
  }
}

/** The same board at a later moment: covered when nothing has beaten for too long. */
export function look(board: Board, now: number): Board {
  return !board.covered && now - board.beat > COVER_AFTER_MS ? { ...board, covered: true } : board;
}

/** Covers at once, for when the page knows that it has slept. */
export function cover(board: Board): Board {
  return { ...board, covered: true };
}

function start(board: Board, told: Picture, now: number): Board {
  return {
    site: told.site,
    machines: told.machines.map((machine) => ({ told: machine, at: now })),
    kinds: told.kinds ?? {},
    alarms: { told: told.alarms, at: now },
    gateway: { told: told.gateway, at: now },
    build: board.build ?? told.gateway.build,
    beat: now,
    covered: false,
    outdated: board.build !== null && board.build !== told.gateway.build,
  };
}

function tick(board: Board, told: Tick, now: number): Board {
  if (board.covered || board.gateway === null) return board;
  const gateway = { ...board.gateway.told, now_ms: told.now_ms, clock: told.clock, clock_standing: told.clock_standing };
  return {
    ...board,
    gateway: { told: gateway, at: now },
    beat: now,
    outdated: board.outdated || told.build !== board.build,
  };
}

/** Words of the stream's JSON, or null for what is not a message: a broken line must not break the page. */
export function read(event: string, text: string): Message | null {
  try {
    const told: unknown = JSON.parse(text);
    if (typeof told !== "object" || told === null) return null;
    if (event === "picture" && !("machines" in told && "gateway" in told)) return null;
    return { event, told } as Message;
  } catch {
    return null;
  }
}

/** How long to wait before attempt `n` (from 0): doubling from 0.5 s to 10 s, and half of it by chance. */
export function backoff(n: number, chance: number): number {
  const full = Math.min(10_000, 500 * 2 ** Math.min(n, 10));
  return full / 2 + (full / 2) * chance;
}
