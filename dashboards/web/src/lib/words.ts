//! The board's languages: a reader for the part of Fluent (.ftl) that the catalogues use, so that the gateway can
//! read the same files. One-line messages with `{ $name }` places; no selectors, no terms.

import type { Words } from "./types";

export type Catalogue = ReadonlyMap<string, string>;
export type Language = "en" | "zh-CN";
export type Say = (key: string, places?: Record<string, string | number>) => string;

export function parse(ftl: string): Catalogue {
  const found = new Map<string, string>();
  for (const line of ftl.split("\n")) {
    const [, key, text] = /^([a-z][A-Za-z0-9_-]*) = (.+)$/.exec(line) ?? [];
    if (key !== undefined && text !== undefined) found.set(key, text);
  }
  return found;
}

/** A key that no catalogue has is shown as it is: visible, and never an invented word. Where `$count` is one, a
 *  language that has an own message for that, KEY-one, uses it. */
export function speaker(catalogue: Catalogue, fallback: Catalogue): Say {
  const found = (key: string, one: boolean) =>
    [catalogue, fallback].map((it) => (one ? it.get(`${key}-one`) : undefined) ?? it.get(key)).find((said) => said !== undefined) ?? key;
  return (key, places = {}) =>
    found(key, String(places["count"]) === "1").replace(/\{ \$(\w+) \}/g, (whole, name: string) =>
      String(places[name] ?? whole),
    );
}

/** The first of the wishes that can be met. */
export function choose(wishes: readonly (string | null | undefined)[]): Language {
  for (const wish of wishes) {
    if (wish?.toLowerCase().startsWith("zh")) return "zh-CN";
    if (wish?.toLowerCase().startsWith("en")) return "en";
  }
  return "en";
}

/** A bilingual name of the configuration; any other language is better than no name. */
export function named(words: Words | null, language: Language, otherwise: string): string {
  if (words === null) return otherwise;
  return words[language] ?? words[language.slice(0, 2)] ?? words["en"] ?? Object.values(words)[0] ?? otherwise;
}
