//! What the board tells of a machine with a controller of its own, tested without a browser.
import { describe, expect, test } from "vitest";
import { conflict, curve, draws, faultCode, job, keyValues, percent, unheard, values, words } from "../src/lib/controller";
import { reading, toGo, whole } from "../src/lib/format";
import type { Execution, Item, Machine } from "../src/lib/types";

type Value = Item["value"];
const item = (name: string, value: Value, over: Partial<Item> = {}): Item => ({
  name, kind: typeof value === "string" ? "text" : "gauge", unit: "", value, why: null, age_ms: 300, stale_after_ms: 5000, key: false, ...over,
});
const celsius = (name: string, value: Value, over: Partial<Item> = {}) => item(name, value, { unit: "°C", ...over });
const lost = { value: null, why: "disconnected", age_ms: 90_000 };
const never = { value: null, why: "not_yet", age_ms: null };
const seen = (execution: Execution, items: Item[], over: Partial<Machine> = {}, now = 0) => ({
  machine: { id: "m", name: {}, kind: "fdm-printer", execution, activity: "", why: null, activity_from: ["execution"], in_state_ms: 0, items, stop: null, ...over },
  at: 0, now,
});
const print = (over: Partial<Item> = {}) => [
  item("job.name", "vase.gcode"), item("progress", 0.43, over), item("job.left", 4350, { unit: "s", ...over }),
];

describe("a job", () => {
  test("is told as the machine told it", () => {
    expect(job(seen("running", print()))).toMatchObject({ name: "vase.gcode", progress: 0.43, left: 4350, why: null, leftUnknown: false });
  });
  test("grows old: then there is neither progress nor time left, but a reason", () => {
    expect(job(seen("running", print(), {}, 4700))?.progress).toBe(0.43);
    expect(job(seen("running", print(), {}, 4701))).toMatchObject({ name: null, progress: null, left: null, why: "stale", leftUnknown: true });
  });
  test("of a controller that has gone is unknown for its reason", () => {
    expect(job(seen("running", print(lost)))).toMatchObject({ progress: null, left: null, why: "disconnected" });
  });
  test("is never reckoned on: time passes, the time left stays what was said", () => {
    expect(job(seen("running", print(), {}, 4000))?.left).toBe(4350);
  });
  test("has a time left only while it is under way", () => {
    const left = (execution: Execution) => job(seen(execution, print()))?.left;
    expect((["preparing", "running", "paused"] as const).map(left)).toEqual([4350, 4350, 4350]);
    expect((["finished", "fault", "stopped", "unknown"] as const).map(left)).toEqual([null, null, null, null]);
  });
  test("of a machine at rest is history and not shown", () => {
    expect(job(seen("ready", print()))).toBeNull();
    expect(job(seen("off", print()))).toBeNull();
    expect(values(seen("ready", print())).map(({ item }) => item.name)).toEqual(["job.name", "progress", "job.left"]);
  });
  test("that was never told of is no job", () => {
    expect(job(seen("running", print(never).slice(1)))).toBeNull();
    expect(job(seen("running", [item("power.active", 5)]))).toBeNull();
  });
  test("is not done before it is done", () => {
    expect([0.29, 0.999, 1, 0].map(percent)).toEqual([29, 99, 100, 0]);
  });
});

describe("values", () => {
  const names = (shown: { item: Item }[]) => shown.map(({ item }) => item.name);
  test("a target stands with what strives for it, also of the second nozzle", () => {
    const shown = values(seen("running", [
      celsius("temperature.nozzle", 205), celsius("temperature.target.nozzle", 210),
      celsius("temperature.nozzle-2", 30), celsius("temperature.target.nozzle-2", 0),
      celsius("temperature", 20), celsius("temperature.target", 21), celsius("temperature.chamber", 31),
    ]));
    expect(shown.map(({ item, target }) => [item.name, target?.value ?? null])).toEqual([
      ["temperature.nozzle", 210], ["temperature.nozzle-2", 0], ["temperature", 21], ["temperature.chamber", null],
    ]);
  });
  test("a target without its temperature stands alone", () => {
    const shown = values(seen("running", [celsius("temperature.bed", null, never), celsius("temperature.target.bed", 60)]));
    expect(names(shown)).toEqual(["temperature.target.bed"]);
  });
  test("the controller's words are not said twice, unless they may no longer be believed", () => {
    const said = ["execution", "controller.state", "controller.mode", "message"].map((name) => item(name, "ready"));
    expect(values(seen("ready", said))).toEqual([]);
    expect(names(values(seen("ready", said.map((each) => ({ ...each, ...lost })))))).toHaveLength(4);
  });
  test("a machine that says that it has no message gets no empty box for it", () => {
    const message = (why: string) => names(values(seen("running", [item("message", null, { why, age_ms: 9 })])));
    expect(message("sentinel")).toEqual([]);
    expect(message("timeout")).toEqual(["message"]);
  });

  test("what was never heard is no value", () => {
    const items = [item("parts", null, { ...never, key: true }), item("feed", 5, { key: true }), item("tool", null, { why: "timeout", age_ms: 9 })];
    expect(names(values(seen("ready", items)))).toEqual(["feed", "tool"]);
    expect(names(keyValues(seen("ready", items)))).toEqual(["feed"]);
    expect(items.filter(unheard).map(({ name }) => name)).toEqual(["parts"]);
  });
  test("a tile never has the controller's state among its values, nor a curve of words, switches or plain numbers", () => {
    const key = { key: true };
    const items = [
      item("execution", null, { kind: "text", ...lost, ...key }), item("controller.state", "x", key), item("progress", 0.5, { unit: "1", ...key }),
      item("controller.mode", null, { kind: "text", ...lost, ...key }), item("door", true, { kind: "flag", ...key }), item("tool", 3, key), celsius("temperature.bed", 60, key),
    ];
    const keys = keyValues(seen("ready", items));
    expect(names(keys)).toEqual(["door", "tool", "temperature.bed"]);
    expect(curve(keys)?.name).toBe("temperature.bed");
    expect(curve(keys.slice(0, 2))).toBeUndefined();
  });
});

describe("what the machine says", () => {
  test("is told verbatim, while it may be believed", () => {
    const told = seen("fault", [item("message", " E1: <b>hot</b> "), item("fault.code", 27)]);
    expect(words(told, "message")).toBe(" E1: <b>hot</b> ");
    expect(words({ ...told, now: 9000 }, "message")).toBeNull();
    expect(words(seen("ready", [item("message", " ")]), "message")).toBeNull();
  });
  test("a fault's code belongs to a fault", () => {
    expect(faultCode(seen("fault", [item("fault.code", 27)]))).toBe(27);
    expect(faultCode(seen("running", [item("fault.code", 27)]))).toBeNull();
    expect(faultCode(seen("fault", [item("fault.code", 0)]))).toBeNull();
  });
});

describe("a contradiction", () => {
  const why = { why: "conflict" };
  const watts = (value: Value) => item("power.active", value, { unit: "W" });
  test("between controller and meter tells both sides", () => {
    expect(conflict(seen("unknown", [item("execution", "preparing"), watts(0.3)], why))).toMatchObject({ key: "conflict-controller", says: "preparing", power: { value: 0.3 } });
    expect(conflict(seen("unknown", [item("execution", "running"), watts(null)], why))).toMatchObject({ power: null });
  });
  test("of a meter with itself is its wiring", () => {
    expect(conflict(seen("unknown", [watts(-40)], why))?.key).toBe("conflict-backwards");
  });
  test("whose sides are not known is only called one", () => {
    expect(conflict(seen("unknown", [watts(40), item("execution", "running", lost)], why))?.key).toBe("why-conflict");
    expect(conflict(seen("unknown", [item("execution", "running")]))).toBeNull();
  });
});

test("a time to go is no more exact than its machine", () => {
  const unit = (name: string) => name;
  expect([4350, 3000, 59, 0, 90_000].map((s) => toGo(s, unit))).toEqual(["1 h 12 min", "50 min", null, null, "1 d 1 h"]);
});

test("temperatures and lengths are read as people read them", () => {
  expect([204.6, -0.2, 1200].map((celsius) => whole(celsius, "en"))).toEqual(["205", "0", "1,200"]);
  expect(reading("filament.used", 8123.4, "mm", "en")).toEqual({ text: "8.12", unit: "m" });
  expect(reading("position.x", 1234.56, "mm", "en")).toEqual({ text: "1,234.6", unit: "mm" });
  expect(reading("loop.1", 0.0123, "A", "en")).toEqual({ text: "12.30", unit: "mA" });
  expect(reading("hours.run", 7200, "s", "en")).toEqual({ text: "2", unit: "h" });
  expect(reading("pressure", 612_000, "Pa", "en")).toEqual({ text: "612.0", unit: "kPa" });
});

test("what a machine draws is told only while it may be believed", () => {
  const watts = (over: Partial<Item> = {}) => item("power.active", 2500, { unit: "W", ...over });
  expect(draws(seen("running", [watts()]))?.value).toBe(2500);
  expect(draws(seen("running", [watts()], {}, 60_000))).toBeNull();
  expect(draws(seen("unknown", [watts(lost)]))).toBeNull();
  expect(draws(seen("running", []))).toBeUndefined();
});
