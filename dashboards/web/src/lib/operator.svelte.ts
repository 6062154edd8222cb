//! The person at the board, and the one order that they may have open. Name and token live as long as the tab
//! and nowhere else. One order at a time; none while the page is covered, for then nobody sees what it does.

import { failure, isToken, type Failure } from "./answer";
import { live } from "./live.svelte";
import type { Alarm } from "./types";

export type Deed = "acknowledge" | "reset";
export interface Person { by: string; token: string }

const KEPT = "andon-person";
/** The gateway gives up on its engine after 3 s. */
const ANSWER_MS = 8_000;

function kept(): Person | null {
  try {
    const { by, token } = JSON.parse(sessionStorage.getItem(KEPT) ?? "null") as Person;
    return typeof by === "string" && typeof token === "string" ? { by, token } : null;
  } catch {
    return null;
  }
}

function keep(person: Person | null): void {
  try {
    if (person === null) sessionStorage.removeItem(KEPT);
    else sessionStorage.setItem(KEPT, JSON.stringify(person));
  } catch { /* kept for this page only */ }
}

async function post(alarm: string, deed: Deed, person: Person, reason: string): Promise<Failure | null> {
  if (!isToken(person.token)) return failure(401, "");
  try {
    const answer = await fetch(`/api/v1/alarms/${encodeURIComponent(alarm)}/${deed}`, {
      method: "POST",
      headers: { authorization: `Bearer ${person.token}`, "content-type": "application/json" },
      body: JSON.stringify(deed === "reset" ? { by: person.by, reason } : { by: person.by }),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    const told = answer.ok ? null : ((await answer.json().catch(() => null)) as { error?: unknown } | null);
    return failure(answer.status, typeof told?.error === "string" ? told.error : "");
  } catch {
    return failure(0, "");
  }
}

class Operator {
  person = $state.raw<Person | null>(kept());
  /** The order that a person is being asked about. */
  open = $state.raw<{ deed: Deed; alarm: Alarm } | null>(null);
  failed = $state.raw<Failure | null>(null);
  busy = $state(false);
  /** The last order that was carried out, to be read aloud. */
  done = $state.raw<Deed | null>(null);

  /** A press on an alarm: carried out at once when nothing is left to ask. */
  press(deed: Deed, alarm: Alarm): void {
    if (this.busy) return;
    this.failed = null;
    if (deed === "acknowledge" && this.person !== null) void this.send(deed, alarm, this.person, "");
    else this.open = { deed, alarm };
  }

  async send(deed: Deed, alarm: Alarm, person: Person, reason: string): Promise<void> {
    if (this.busy || live.board.covered) return;
    [this.busy, this.failed, this.done] = [true, null, null];
    const failed = await post(alarm.id, deed, person, reason);
    this.busy = false;
    // A wrong token is forgotten, the name is not.
    this.#become(failed?.key === "order-token" ? { ...person, token: "" } : person);
    this.failed = failed;
    this.open = failed === null ? null : { deed, alarm };
    if (failed === null) this.done = deed;
  }

  drop(): void {
    this.open = null;
    this.failed = null;
  }

  leave(): void {
    this.drop();
    this.#become(null);
  }

  #become(person: Person | null): void {
    this.person = person;
    keep(person);
  }
}

export const operator = new Operator();
