//! The language in use and everything said in it. Wishes in order: ?lang=, the last choice, the browser.

import en from "../words/en.ftl?raw";
import zh from "../words/zh-CN.ftl?raw";
import { duration, quantity } from "./format";
import type { Item, Words } from "./types";
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

  lasting = (ms: number): string => duration(ms, (unit) => this.say(unit));

  /** "power.active.l1" → "Power L1", "temperature.tube" → "Temperature tube". */
  item = (name: string): string => {
    const words = name.split(".");
    for (let n = words.length; n > 0; n -= 1) {
      const key = `item-${words.slice(0, n).join("_")}`;
      if (this.say(key) === key) continue;
      const rest = words.slice(n).map((word) => {
        const part = this.say(`part-${word}`);
        return part === `part-${word}` ? word.toUpperCase() : part;
      });
      return [this.say(key), ...rest].join(" ");
    }
    return name;
  };

  /** "its condition still holds" → the key refusal-its_condition_still_holds; unknown sentences stay as they are. */
  refusal = (why: string): string => {
    const key = `refusal-${why.replaceAll(" ", "_")}`;
    const said = this.say(key);
    return said === key ? why : said;
  };

  value = (item: Item): { text: string; unit: string } => {
    if (item.value === null) return { text: "–", unit: "" };
    if (typeof item.value === "number") return quantity(item.value, item.unit, this.language);
    if (typeof item.value === "boolean") return { text: this.say(item.value ? "on" : "off"), unit: "" };
    return { text: item.value, unit: "" };
  };

  switch = (): void => {
    this.language = this.language === "en" ? "zh-CN" : "en";
    try { localStorage.setItem(KEPT, this.language); } catch { /* kept for this page only */ }
  };
}

export const speech = new Speech();
