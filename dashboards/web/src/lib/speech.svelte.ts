//! The language in use and everything said in it. Wishes in order: ?lang=, the last choice, the browser.

import en from "../words/en.ftl?raw";
import zh from "../words/zh-CN.ftl?raw";
import { seenBy } from "./cause";
import { conflict, draws, type Seen } from "./controller";
import { duration, reading, roughly, toGo, whole } from "./format";
import { headline } from "./order";
import type { Item, Machine, Words } from "./types";
import { choose, named, parse, speaker, type Language } from "./words";

const CATALOGUES = { en: parse(en), "zh-CN": parse(zh) };
const KEPT = "andon-language";

function kept(): string | null {
  // A browser that forbids storage throws; a remembered language is not worth a blank wall.
  try { return localStorage.getItem(KEPT); } catch { return null; }
}

class Speech {
  language = $state<Language>(
    choose([new URLSearchParams(location.search).get("lang"), kept(), ...navigator.languages]),
  );
  #speak = $derived(speaker(CATALOGUES[this.language], CATALOGUES.en));

  say = (key: string, places?: Record<string, string | number>): string => this.#speak(key, places);

  name = (words: Words | null, otherwise: string): string => named(words, this.language, otherwise);

  lasting = (ms: number, brief = false): string => (brief ? roughly : duration)(ms, (unit) => this.say(unit));

  /** "power.active.l1" → "Power L1", "temperature.tube" → "Temperature tube", "激光管温度". */
  item = (name: string): string => {
    const words = name.split(".");
    for (let n = words.length; n > 0; n -= 1) {
      const key = `item-${words.slice(0, n).join("_")}`;
      if (this.say(key) === key) continue;
      return words.slice(n).reduce((item, word) => {
        const part = this.#part(word);
        return part === null ? `${item} ${word.toUpperCase()}` : this.say("item-at", { item, part });
      }, this.say(key));
    }
    return name;
  };

  /** "temperature.nozzle-2" → "Nozzle 2"; the whole name where it names no place. */
  place = (name: string): string => {
    const part = this.#part(name.split(".").at(-1) ?? "");
    return part === null ? this.item(name) : part.charAt(0).toUpperCase() + part.slice(1);
  };

  #part(word: string): string | null {
    const [, place = word, nth = ""] = /^(.+)-(\d)$/.exec(word) ?? [];
    const part = this.say(`part-${place}`);
    return part === `part-${place}` ? null : `${part} ${nth}`.trim();
  }

  /** "its condition still holds" → the key refusal-its_condition_still_holds; unknown sentences stay as they are. */
  refusal = (why: string): string => {
    const key = `refusal-${why.replaceAll(" ", "_")}`;
    const said = this.say(key);
    return said === key ? why : said;
  };

  /** What an alarm's rule saw, "power.active unknown (timeout), execution running", in the language of the page. */
  cause = (cause: string, machines: readonly Machine[]): string => seenBy(cause, machines.map(({ id }) => id), {
    item: this.item, say: this.say, name: (id) => this.name(machines.find((each) => each.id === id)?.name ?? null, id),
  });

  value = (item: Item): { text: string; unit: string } => {
    if (item.value === null) return { text: "–", unit: "" };
    if (typeof item.value === "number") {
      const lasts = item.unit === "s" && !item.name.startsWith("hours.");
      if (lasts) return { text: this.lasting(item.value * 1000), unit: "" };
      return reading(item.name, item.value, item.unit, this.language);
    }
    if (typeof item.value === "boolean") return { text: this.say(item.value ? "on" : "off"), unit: "" };
    return { text: item.value, unit: "" };
  };

  /** "205 → 210 °C"; a heater whose target is 0 is switched off: "53 °C → off". */
  approach = (item: Item, target: Item, believed: boolean): { text: string; unit: string } => {
    if (typeof item.value !== "number") return this.value(item);
    const known = believed && typeof target.value === "number" ? target.value : null;
    const actual = whole(item.value, this.language);
    if (known === 0) return { text: actual, unit: `${item.unit} → ${this.say("off")}` };
    return { text: `${actual} → ${known === null ? "?" : whole(known, this.language)}`, unit: item.unit };
  };

  /** "1 h 12 min left". */
  left = (seconds: number): string => {
    const time = toGo(seconds, (unit) => this.say(unit));
    return time === null ? this.say("left-soon") : this.say("left", { time });
  };

  /** Why a machine's state is unknown; of a contradiction both sides, unless there is no room for them. */
  why = (seen: Seen, brief = false): string => {
    const found = brief ? null : conflict(seen);
    if (found === null) return this.say(`why-${seen.machine.why}`);
    if (found.key === "why-conflict") return this.say(found.key);
    const measured = found.power === null ? null : this.value(found.power);
    const power = measured === null ? this.say("execution-off") : `${measured.text}\u00a0${measured.unit}`;
    const says = found.key === "conflict-controller" ? this.say(`execution-${found.says}`) : "";
    return this.say(found.key, { says, power });
  };

  /** Of a machine whose stop has failed: what it still draws, and what its own signals say of it. */
  unstopped = (seen: Seen): string => {
    const state = this.say(`execution-${headline(seen)}`);
    const power = draws(seen);
    if (power === undefined) return this.say("unstopped", { state });
    if (power === null) return this.say("unstopped-unmeasured", { state });
    const { text, unit } = this.value(power);
    return this.say("unstopped-draws", { state, power: `${text}\u00a0${unit}` });
  };

  switch = (): void => {
    this.language = this.language === "en" ? "zh-CN" : "en";
    try { localStorage.setItem(KEPT, this.language); } catch { /* kept for this page only */ }
  };
}

export const speech = new Speech();
