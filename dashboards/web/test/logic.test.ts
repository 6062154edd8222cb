//! What a person in front of the board would notice, tested without a browser.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { shape } from "../src/lib/kinds";
import { freshness } from "../src/lib/freshness";
import { duration, quantity, roughly, timeOfDay } from "../src/lib/format";
import { failure, isToken } from "../src/lib/answer";
import { alarmOrder, byNeed, fit, headline, look as lookOf, need, DENSITIES, GAP } from "../src/lib/order";
import { contrast, distance, VISIONS } from "../src/lib/palette";
import { mayReload } from "../src/lib/reload";
import { draw } from "../src/lib/sparkline";
import { backoff, blank, look as pass, read, reduce } from "../src/lib/stream";
import type { Alarm, Execution, Item, Machine, Picture } from "../src/lib/types";
import { seenBy } from "../src/lib/cause";
import { choose, named, parse, speaker } from "../src/lib/words";

const item = (over: Partial<Item> = {}): Item => ({ name: "power.active", kind: "gauge", unit: "W", value: 5, why: null, age_ms: 300, stale_after_ms: 5000, key: true, ...over });
const machine = (id: string, execution: Execution, over: Partial<Machine> = {}): Machine => ({ id, name: { en: id }, kind: "x", execution, activity: "idle", why: null, activity_from: ["power.active"], in_state_ms: 0, items: [], stop: null, ...over });
const told = (machine: Machine, now = 0) => ({ machine, at: 0, now });
const look = (machine: Machine, alarms: Alarm[], now = 0) => lookOf(told(machine, now), alarms);
const alarm = (over: Partial<Alarm> = {}): Alarm => ({ id: "a", machine: "m", severity: "high", active: true, acked: false, latched: false, for_ms: 1, cause: "", message: {}, stop: null, ...over });
const picture = (build = "b1", machines: Machine[] = [machine("m", "ready")]): Picture => ({
  v: 1, seq: 1, site: { id: "s", name: {}, time_zone: "UTC" }, machines, kinds: { laser: { name: { en: "Laser cutter" }, hazards: [{ en: "Flames", zh: "明火" }] } }, alarms: [],
  gateway: { version: "0", build, clock: "synced", clock_standing: "synced", now_ms: 1, mqtt: { state: "off", why: null, behind: 0, confirmed_by: null }, store: { state: "off", why: null, behind: 0 }, journal: { state: "ok", dropped: 0, quarantined: 0 }, buses: [], devices: [], viewers: { connected: 1, dropped: 0, missed: 0 } },
});
const tick = (build = "b1") => ({ event: "tick", told: { seq: 2, now_ms: 2, build, clock: "synced", clock_standing: "synced" } }) as const;

describe("stream", () => {
  const alive = reduce(blank(0), { event: "picture", told: picture() }, 0);
  test("covered until the first picture", () => {
    expect(blank(0).covered).toBe(true);
    expect(alive.covered).toBe(false);
  });
  test("silence covers after 10 s; a machine's message is no sign of life", () => {
    const heard = reduce(alive, { event: "machine", told: machine("m", "running") }, 9_000);
    expect(heard.machines[0]?.told.execution).toBe("running");
    expect(pass(heard, 10_000).covered).toBe(false);
    expect(pass(heard, 10_001).covered).toBe(true);
  });
  test("a tick keeps it live but never uncovers; a picture does", () => {
    expect(pass(reduce(alive, tick(), 8_000), 17_000).covered).toBe(false);
    const late = reduce(alive, tick(), 10_001);
    expect(late.covered).toBe(true);
    expect(reduce(late, { event: "picture", told: picture() }, 10_002).covered).toBe(false);
  });
  test("another build asks for a reload, by tick or by picture", () => {
    expect(reduce(alive, tick("b2"), 1).outdated).toBe(true);
    expect(reduce(alive, { event: "picture", told: picture("b2") }, 1).outdated).toBe(true);
    expect(reduce(alive, tick(), 1).outdated).toBe(false);
  });
  test("garbage is not a message, an unknown machine changes nothing", () => {
    for (const text of ["", "{", "null", "7"]) expect(read("tick", text)).toBeNull();
    expect(read("picture", "{}")).toBeNull();
    expect(reduce(alive, { event: "machine", told: machine("x", "off") }, 1).machines).toHaveLength(1);
  });
  test("the hazards of a kind stay while its machines change", () => {
    const later = reduce(alive, { event: "machine", told: machine("m", "running") }, 1);
    expect(named(later.kinds["laser"]?.hazards[0] ?? null, "zh-CN", "")).toBe("明火");
  });
  test("back-off is bounded and jittered", () => {
    expect(backoff(0, 0)).toBe(250);
    expect(backoff(99, 1)).toBe(10_000);
    expect(backoff(99, 0)).toBe(5_000);
  });
});

test("a value grows old without any event", () => {
  expect(freshness(item(), 1000, 5700)).toEqual({ age: 5000, stale: false, why: null });
  expect(freshness(item(), 1000, 5701)).toMatchObject({ stale: true, why: "stale" });
  expect(freshness(item({ value: null, why: "timeout" }), 0, 0)).toMatchObject({ stale: true, why: "timeout" });
  expect(freshness(item({ value: null, age_ms: null }), 0, 9)).toEqual({ age: null, stale: true, why: "not_yet" });
});

test("who needs a person comes first, the rest as configured", () => {
  const all = [machine("a", "running"), machine("b", "unknown"), machine("m", "ready"), machine("f", "fault"), machine("s", "stopped"), machine("z", "off")];
  expect(byNeed(all, (m) => told(m), [alarm()]).map((m) => m.id)).toEqual(["s", "m", "f", "b", "a", "z"]);
  expect(look(machine("m", "unknown"), [alarm()])).toBe("unknown");
  expect(look(machine("m", "off"), [alarm({ active: false })])).toBe("attention");
});

test("a machine of which only values were asked for is without data once those are old, and never healthy", () => {
  const meter = machine("m", "unknown", { activity_from: [], items: [item(), item({ name: "voltage", key: false })] });
  expect([headline(told(meter)), look(meter, []), need(told(meter), [])]).toEqual(["values", "calm", 8]);
  expect([headline(told(meter, 4701)), look(meter, [], 4701), need(told(meter, 4701), [])]).toEqual(["unknown", "unknown", 5]);
  const silent = machine("m", "unknown", { activity_from: [], items: [item({ value: null, why: "timeout" }), item({ name: "voltage", key: false })] });
  expect([headline(told(silent)), look(silent, [])]).toEqual(["unknown", "unknown"]);
  expect(headline(told(machine("m", "unknown", { activity_from: [] })))).toBe("unknown");
  expect(headline(told(machine("m", "unknown", { items: [item()] })))).toBe("unknown");
  expect(look(meter, [alarm()])).toBe("fault");
});

test("signals that contradict each other are a conflict, not missing data", () => {
  const torn = told(machine("m", "unknown", { why: "conflict", items: [item({ value: -40 })] }));
  expect([headline(torn), lookOf(torn, []), need(torn, [])]).toEqual(["conflict", "unknown", 5]);
  expect(headline({ ...torn, now: 4701 })).toBe("unknown");
});

test("a minor alarm that a person has seen asks for nothing; a graver one still does", () => {
  const seen = (severity: Alarm["severity"]) => look(machine("m", "running"), [alarm({ severity, acked: true })]);
  expect([seen("low"), seen("medium"), seen("high")]).toEqual(["running", "attention", "fault"]);
  expect(look(machine("m", "running"), [alarm({ severity: "low" })])).toBe("attention");
});

test("a stop that nobody has heard of is not calm", () => {
  const stop = { output: "o", phase: "unknown", level: null, cause: null, trouble: null } as const;
  expect(look(machine("m", "running", { stop }), [])).toBe("unknown");
  expect(look(machine("m", "running", { stop: { ...stop, phase: "armed" } }), [])).toBe("running");
});

test("a stop that failed comes before every alarm of a rule", () => {
  const all = [alarm({ id: "hot" }), alarm({ id: "stop:cut", severity: "critical", stop: "cut", for_ms: 99 })];
  expect(alarmOrder(all).map(({ id }) => id)).toEqual(["stop:cut", "hot"]);
});

test("alarms of unknown age come after the others of their kind", () => {
  const all = [alarm({ id: "x", for_ms: null }), alarm({ id: "y", for_ms: null }), alarm({ id: "old", for_ms: 9 }), alarm({ id: "new" }), alarm({ id: "low", severity: "low" })];
  expect(alarmOrder(all).map(({ id }) => id)).toEqual(["new", "old", "x", "y", "low"]);
});

test("the page reloads itself at most once in a minute, whatever the clock does", () => {
  expect(mayReload(null, 5)).toBe(true);
  expect(mayReload(1_000, 60_999)).toBe(false);
  expect(mayReload(1_000, 61_000)).toBe(true);
  expect(mayReload(90_000_000, 1_000)).toBe(true);
  expect(mayReload(NaN, 1_000)).toBe(true);
});

test("every answer to an order has words; only success is success", () => {
  const en = parse(readFileSync(new URL("../src/words/en.ftl", import.meta.url), "utf8"));
  expect(failure(204, "")).toBeNull();
  for (const status of [0, 400, 401, 403, 404, 408, 409, 413, 500, 503, 504, 507]) {
    expect(en.has(failure(status, "")?.key ?? ""), String(status)).toBe(true);
  }
  expect(failure(507, "not saved")?.key).toBe("order-unsaved");
  expect(failure(409, "it still holds")).toEqual({ key: "order-refused", why: "it still holds" });
  expect([isToken("0af3"), isToken("令牌"), isToken("a b"), isToken("")]).toEqual([true, false, false, false]);
});

test("4 to 60 machines fit a wall without scrolling; 200 use the smallest tile", () => {
  for (let n = 4; n <= 60; n += 1) {
    const { density, columns } = fit(n, 1888, 880);
    const height = DENSITIES.find((tile) => tile.name === density)?.height ?? Infinity;
    expect(Math.ceil(n / columns) * (height + GAP) - GAP).toBeLessThanOrEqual(880);
  }
  expect(fit(200, 1888, 880).density).toBe("tiny");
  expect(fit(8, 390, 800)).toEqual({ density: "normal", columns: 1 });
  // Three rows of four, and not two of five and a lonely one.
  expect(fit(11, 1408, 700)).toEqual({ density: "normal", columns: 4 });
});

test("numbers carry the digits their unit deserves", () => {
  expect(quantity(1523.4, "W", "en")).toEqual({ text: "1.52", unit: "kW" });
  expect(quantity(46.24, "W", "en")).toEqual({ text: "46", unit: "W" });
  expect(quantity(-0.2, "W", "en").text).toBe("0");
  expect(quantity(0.5, "1", "en")).toEqual({ text: "50", unit: "%" });
  expect(duration(734_000, (u) => u)).toBe("12 min 14 s");
  expect(duration(7_440_000, (u) => u)).toBe("2 h 04 min");
  expect([59_999, 734_000, 7_440_000, 172_800_000].map((ms) => roughly(ms, (u) => u))).toEqual(["59 s", "12 min", "2 h", "2 d"]);
  expect(timeOfDay(0, "Asia/Shanghai", "en")).toBe("08:00:00");
  expect(timeOfDay(0, "No/Where", "en")).toBe("00:00:00 UTC");
});

test("a gap in the history stays a gap", () => {
  const b = { min: 1, max: 2, mean: 1.5, coverage: 1 };
  expect(draw([b, b, null, b], "W").line.match(/M/g)).toHaveLength(2);
  expect(draw([null, null], "W")).toEqual({ line: "", band: "", low: 0, high: 0 });
});

test("a voltage is drawn in its own range, a power against nothing at all", () => {
  const b = { min: 228, max: 232, mean: 230, coverage: 1 };
  const edges = (unit: string) => { const { low, high } = draw([b, b], unit); return [low, high]; };
  expect([edges("V"), edges("W"), edges("Wh")]).toEqual([[227, 233], [0, 232], [218, 242]]);
});

describe("words", () => {
  const text = (name: string) => readFileSync(new URL(`../src/words/${name}.ftl`, import.meta.url), "utf8");
  const [en, zh] = [parse(text("en")), parse(text("zh-CN"))];
  const places = (said = "") => (said.match(/\{ \$\w+ \}/g) ?? []).sort();
  test("both catalogues have the same keys and places, and every line is read", () => {
    const many = [...en.keys()].filter((key) => !key.endsWith("-one"));
    expect([...zh.keys()].sort()).toEqual(many.sort());
    for (const key of many) expect(places(zh.get(key)), key).toEqual(places(en.get(key)));
    for (const key of en.keys()) if (key.endsWith("-one")) expect(many, key).toContain(key.slice(0, -4));
    for (const name of ["en", "zh-CN"]) expect(parse(text(name)).size).toBe(text(name).split("\n").filter((line) => line && !line.startsWith("#")).length);
  });
  test("every reason the gateway knows has words, as has every state", () => {
    const value = readFileSync(new URL("../../../gateway/engine/src/value.rs", import.meta.url), "utf8");
    const reasons = [...value.matchAll(/Self::\w+ => "([a-z_]+)"/g)].map((found) => found[1]);
    expect(reasons).toContain("timeout");
    for (const word of reasons) expect(en.has(`why-${word}`), word).toBe(true);
    const view = readFileSync(new URL("../../../gateway/src/http/view.rs", import.meta.url), "utf8");
    const phases = /enum PhaseView \{([^}]*)\}/.exec(view)?.[1] ?? "";
    const named = [...phases.matchAll(/^ {4}(\w+),$/gm)].map(([, name]) => name?.toLowerCase());
    expect(named).toContain("unknown");
    for (const phase of named) expect(en.has(`stop-${phase}`), phase).toBe(true);
  });
  test("every item that a machine can have, and every place of one, has words", () => {
    const list = readFileSync(new URL("../../../gateway/engine/src/item.rs", import.meta.url), "utf8");
    const bases = [...list.matchAll(/^ {4}Base\("([a-z0-9.]+)"/gm)].map(([, name]) => name ?? "");
    expect(bases).toContain("temperature.target");
    for (const base of bases) expect(en.has(`item-${base.replaceAll(".", "_")}`), base).toBe(true);
    const places = [...(/const PLACES[^;]*;/.exec(list)?.[0] ?? "").matchAll(/"([a-z]+)"/g)].map(([, name]) => name);
    expect(places).toContain("nozzle");
    for (const place of places) expect(en.has(`part-${place}`), place).toBe(true);
  });
  test("every refusal of the engine has words", () => {
    const source = (name: string) => readFileSync(new URL(`../../../gateway/engine/src/${name}.rs`, import.meta.url), "utf8");
    const reset = /pub fn reset\(&mut self\)[^]*?\n {4}\}/.exec(source("alarm"))?.[0] ?? "";
    const refusals = [...reset.matchAll(/Err\("([^"]+)"\)/g), ...source("engine/protection").matchAll(/self\.refuse\(index, "([^"]+)"/g)].map(([, why]) => why ?? "");
    expect(refusals.length).toBeGreaterThanOrEqual(5);
    // The board never sends a reset without a reason.
    for (const why of refusals.filter((said) => said !== "a reset needs a reason")) expect(en.has(`refusal-${why.replaceAll(" ", "_")}`), why).toBe(true);
  });
  test("only C3 speaks of power off, and nothing of an e-stop", () => {
    for (const level of ["none", "C0", "C1", "C2"]) expect(en.get(`level-${level}`)).not.toMatch(/power/i);
    for (const said of en.values()) expect(said).not.toMatch(/e-stop/i);
  });
  test("one of a thing is told in the singular, in a language that has one", () => {
    expect(speaker(en, en)("diag-holes", { count: 1 })).toBe("1 hole that it does not read");
    expect(speaker(en, en)("diag-holes", { count: 21 })).toBe("21 holes that it does not read");
    expect(speaker(en, en)("diag-boards", { count: "1" })).toBe("1 board open");
    expect(speaker(zh, en)("diag-boards", { count: 1 })).toBe("已打开 1 个看板");
  });
  test("what a rule saw is told in the page's language, and what nobody knows stays as it is", () => {
    const names = (catalogue: typeof en) => ({
      say: speaker(catalogue, en), name: (id: string) => (id === "saw" ? "锯" : id),
      item: (name: string) => catalogue.get(`item-${name.replaceAll(".", "_")}`) ?? name,
    });
    const seen = (cause: string, catalogue = zh) => seenBy(cause, ["saw", "mill"], names(catalogue));
    expect(seen("power.active unknown (timeout)")).toBe("功率未知（设备无应答）");
    expect(seen("saw.power.active 1700 W, execution running, relay on")).toBe("锯: 功率 1700 W, 运行, 继电器 开");
    expect(seen("power.active unknown (timeout)", en)).toBe("Power unknown (no answer from the device)");
    for (const odd of ["", "an earlier stop", "power.active unknown (moonlight)"]) expect(seen(odd)).toBe(odd);
  });
  test("places are filled, a missing key shows itself", () => {
    expect(speaker(zh, en)("ago", { time: "5 秒" })).toBe("5 秒前");
    expect(speaker(zh, en)("nowhere")).toBe("nowhere");
    expect(choose([null, "fr", "zh-TW"])).toBe("zh-CN");
    expect(named({ zh: "锯" }, "en", "saw")).toBe("锯");
    expect(named(null, "en", "saw")).toBe("saw");
  });
});

describe("palette", () => {
  const css = readFileSync(new URL("../src/tokens.css", import.meta.url), "utf8");
  const [dark = "", light = ""] = css.split("@media (prefers-color-scheme: light)");
  const tokens = (part: string) => Object.fromEntries([...part.matchAll(/--([a-z-]+): (#[0-9a-f]{6});/g)].map(([, k, v]) => [k, v])) as Record<string, string>;
  const themes = { dark: tokens(dark), light: { ...tokens(dark), ...tokens(light) } };
  const hue = (theme: Record<string, string>, name: string) => theme[name] ?? "";
  test.each(Object.entries(themes))("%s: words are legible", (_, theme) => {
    for (const word of ["text", "muted", "running"]) for (const ground of ["page", "ground", "raised", "hatch"]) {
      expect(contrast(hue(theme, word), hue(theme, ground)), `${word} on ${ground}`).toBeGreaterThanOrEqual(4.5);
    }
    for (const fill of ["attention", "fault", "stop"]) expect(contrast(hue(theme, "ink"), hue(theme, fill)), fill).toBeGreaterThanOrEqual(4.5);
  });
  test.each(Object.entries(VISIONS))("%s vision tells the fills apart", (_, vision) => {
    const fills = ["attention", "fault", "stop"].map((name) => hue(themes.dark, name)).concat("#dae0e4");
    fills.forEach((a, i) => fills.slice(i + 1).forEach((b) => expect(distance(a, b, vision), `${a} ${b}`).toBeGreaterThanOrEqual(28)));
  });
});

test("every kind that a configuration may name has a silhouette of its own", () => {
  const data = readFileSync(new URL("../../../gateway/src/kinds.toml", import.meta.url), "utf8");
  const kinds = [...data.matchAll(/^\[([a-z-]+)\]$/gm)].map(([, kind]) => kind ?? "");
  expect(kinds.length).toBeGreaterThan(10);
  const shapes = [...kinds, "other"].map(shape);
  expect(new Set(shapes).size).toBe(shapes.length);
  for (const each of shapes) expect(each).toMatch(/^M[-0-9.A-Za-z ]+$/);
  for (const stranger of ["toaster", "constructor"]) expect(shape(stranger)).toBe(shape("other"));
});
