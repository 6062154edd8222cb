//! Numbers and durations as a person reads them. It changes the presentation only: a value keeps its meaning,
//! and more digits are never shown than the unit deserves.

const DIGITS: Record<string, number> = {
  W: 0, kW: 2, Wh: 0, kWh: 1, V: 1, A: 2, Hz: 2, "°C": 1, s: 0, "mm/min": 0, rpm: 0, g: 0, mm: 1, Pa: 0, ppm: 0, "µg/m³": 0, dB: 0, dBm: 0, lx: 0, "%": 0,
  kPa: 1, m: 2, mA: 2, h: 0,
};
const KILO: Record<string, string> = { W: "kW", Wh: "kWh", Pa: "kPa" };
/** Items that are read in another unit than the one they are kept in: unit and divisor. */
const READ_IN: readonly [RegExp, string, number][] = [
  [/^filament\.used$/, "m", 1000],
  [/^loop\./, "mA", 0.001],
  [/^hours\./, "h", 3600],
];

export interface Shown { text: string; unit: string }

export function quantity(value: number, unit: string, locale: string): Shown {
  if (unit === "1" || unit === "ratio") return quantity(value * 100, "%", locale);
  const kilo = KILO[unit];
  if (kilo !== undefined && Math.abs(value) >= 1000) return quantity(value / 1000, kilo, locale);
  const digits = DIGITS[unit] ?? (Number.isInteger(value) ? 0 : 2);
  // -0 would read as a direction.
  const rounded = Number(value.toFixed(digits)) + 0;
  const text = new Intl.NumberFormat(locale, {
    minimumFractionDigits: digits, maximumFractionDigits: digits,
  }).format(rounded === 0 ? 0 : rounded);
  return { text, unit };
}

/** The value of an item in the unit that a person reads it in. */
export function reading(name: string, value: number, unit: string, locale: string): Shown {
  // Radios tell either their level, which is below zero, or a share of the best.
  if (name === "signal") return quantity(value, value < 0 ? "dBm" : "%", locale);
  const [, other, divisor] = READ_IN.find(([pattern]) => pattern.test(name)) ?? [null, unit, 1];
  return quantity(value / divisor, other, locale);
}

/** A temperature on its way to a target, in whole degrees. */
export function whole(value: number, locale: string): string {
  return new Intl.NumberFormat(locale).format(Math.round(value) + 0);
}

/** A time to go in hours and minutes: no machine knows its own to the second. Null: less than a minute. */
export function toGo(seconds: number, unit: (name: "d" | "h" | "min") => string): string | null {
  const [d, h, min] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (d > 0) return `${d} ${unit("d")} ${h} ${unit("h")}`;
  if (h > 0) return `${h} ${unit("h")} ${min} ${unit("min")}`;
  return min > 0 ? `${min} ${unit("min")}` : null;
}

/** A duration in its two largest units: "12 s", "3 min 05 s", "2 h 04 min", "3 d 4 h". */
export function duration(ms: number, unit: (name: "d" | "h" | "min" | "s") => string): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  const pad = (n: number) => String(n).padStart(2, "0");
  const [d, h, min] = [Math.floor(s / 86_400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d > 0) return `${d} ${unit("d")} ${h} ${unit("h")}`;
  if (h > 0) return `${h} ${unit("h")} ${pad(min)} ${unit("min")}`;
  if (min > 0) return `${min} ${unit("min")} ${pad(s % 60)} ${unit("s")}`;
  return `${s} ${unit("s")}`;
}

/** A duration in its largest unit, for where there is no room: "12 s", "3 min", "2 h", "3 d". */
export function roughly(ms: number, unit: (name: "d" | "h" | "min" | "s") => string): string {
  const s = Math.max(0, Math.floor(ms / 1000));
  const [seconds, name] = ([[86_400, "d"], [3600, "h"], [60, "min"]] as const).find(([least]) => s >= least) ?? [1, "s"] as const;
  return `${Math.floor(s / seconds)} ${unit(name)}`;
}

/** The time of day at the site, 24 h; null when the gateway does not know it. */
export function timeOfDay(ms: number | null, zone: string, locale: string): string | null {
  if (ms === null) return null;
  return atSite(ms, zone, locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}

/** A moment at the site: with its minute, or only its day. */
export function momentOf(ms: number, minutes: boolean, zone: string, locale: string): string {
  const day = { year: "numeric", month: "short", day: "numeric" } as const;
  return atSite(ms, zone, locale, minutes ? { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" } : day);
}

function atSite(ms: number, zone: string, locale: string, style: Intl.DateTimeFormatOptions): string {
  try {
    return new Intl.DateTimeFormat(locale, { ...style, timeZone: zone }).format(ms);
  } catch {
    return new Intl.DateTimeFormat(locale, { ...style, timeZone: "UTC" }).format(ms) + " UTC";
  }
}
