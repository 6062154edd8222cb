//! What an alarm's rule saw, as the engine writes it ("power.active unknown (timeout), saw.execution running"), in
//! the words of the page. Pure. What it does not know the form of stays as it was written.

import type { Say } from "./words";

export interface Names {
  item: (name: string) => string;
  /** Of a machine, for people. */
  name: (id: string) => string;
  say: Say;
}

/** The engine's coarse words, as the board calls them. */
const ACTIVITY: Record<string, string> = { idle: "ready", run: "running" };

/** `machines` are the ids of those that there are: another machine than the alarm's stands before its item. */
export function seenBy(cause: string, machines: readonly string[], names: Names): string {
  return cause.split(", ").map((part) => {
    const owner = machines.find((id) => part.startsWith(`${id}.`));
    const own = owner === undefined ? part : part.slice(owner.length + 1);
    const said = told(own, names);
    return said === null ? part : owner === undefined ? said : `${names.name(owner)}: ${said}`;
  }).join(", ");
}

function told(part: string, { item, say }: Names): string | null {
  const [, name, rest] = /^([a-z0-9._-]+) (.+)$/.exec(part) ?? [];
  if (name === undefined || rest === undefined) return null;
  if (name === "execution" || name === "activity") {
    const key = `execution-${(name === "activity" ? ACTIVITY[rest] : undefined) ?? rest}`;
    return say(key) === key ? null : say(key);
  }
  if (item(name) === name) return null;
  const [, why] = /^unknown \(([a-z_]+)\)$/.exec(rest) ?? [];
  if (why === undefined) return `${item(name)} ${rest === "on" || rest === "off" ? say(rest) : rest}`;
  const key = `why-${why}`;
  return say(key) === key ? null : say("cause-unknown", { item: item(name), why: say(key) });
}
