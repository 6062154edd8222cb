//! What a person looking after the gateway would notice, tested without a browser.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { asked, failures, markOfDevice, markOfUnit, milliseconds, readDiagnostics, stale, STALE_AFTER_MS, tenths, worstFirst, type Device, type Requests, type Unit } from "../src/lib/diagnosis";
import { parse } from "../src/lib/words";

const requests = (over: Partial<Requests> = {}): Requests => ({ answered: 0, timeout: 0, garbled: 0, refused: 0, parted: 0, disconnected: 0, late: 0, retries: 0, ...over });
const unit = (source: string, standing: Unit["standing"]): Unit => ({ source, unit_id: "1", standing, why: null, requests: requests(), turnaround_ms: null, worst_age_ms: null, skipped_rounds: 0, holes: 0, last_answer_age_ms: null });
const device = (state: Device["state"], why: string | null): Device => ({ source: "p", protocol: "x", state, why, errors: 0, last_answer_age_ms: null });

describe("diagnosis", () => {
  test("the worst stands first, equals keep their order, and unknown is never well", () => {
    const all = [unit("a", "online"), unit("b", "not_asked"), unit("c", "suspect"), unit("d", "online"), unit("e", "quarantined"), unit("f", "bus_down"), unit("g", "slow")];
    expect(worstFirst(all, markOfUnit).map(({ source }) => source).join("")).toBe("ecgbfad");
    expect(markOfUnit(unit("h", "some word of a later gateway" as Unit["standing"]))).toBe("unknown");
    expect(markOfDevice(device("answering", null))).toBe("well");
    expect(markOfDevice(device("answering", "401"))).toBe("watch");
    expect(markOfDevice(device("down", null))).toBe("bad");
  });
  test("failures are told most frequent first, retries and late answers are no requests of their own", () => {
    const seen = requests({ answered: 90, timeout: 2, garbled: 7, refused: 1, late: 5, retries: 8 });
    expect(failures(seen)).toEqual([["garbled", 7], ["timeout", 2], ["refused", 1]]);
    expect(asked(seen)).toBe(100);
  });
  test("figures are believed for three questions", () => {
    expect(stale(1000, 1000 + STALE_AFTER_MS)).toBe(false);
    expect(stale(1000, 1001 + STALE_AFTER_MS)).toBe(true);
  });
  test("a device that answers at once needs little, and not nothing", () => {
    expect([0.04, 0.1, 7.44, 11.2].map(milliseconds)).toEqual(["< 0.1", "0.1", "7.4", "11"]);
  });
  test("an age has one digit after the point below ten seconds", () => {
    expect([3273, 40, 9949, 9950, 60_000].map(tenths)).toEqual(["3.3", "0.0", "9.9", null, null]);
  });
  test("what is no answer of the gateway is none", () => {
    for (const told of [null, 7, "x", {}, { buses: [] }]) expect(readDiagnostics(told)).toBeNull();
    expect(readDiagnostics({ buses: [], process: {}, engine: {} })).not.toBeNull();
  });
  test("every standing, state and failure that the gateway knows has words in both languages", () => {
    const source = (path: string) => readFileSync(new URL(`../../../gateway/src/${path}`, import.meta.url), "utf8");
    const words = (text: string) => [...text.matchAll(/Self::\w+ => "([a-z_]+)"/g)].map((found) => found[1]);
    const standings = words(source("bus/status.rs"));
    const states = words(source("bus/device/status.rs"));
    expect(standings).toContain("quarantined");
    expect(states).toContain("silent");
    for (const name of ["en", "zh-CN"]) {
      const said = parse(readFileSync(new URL(`../src/words/${name}.ftl`, import.meta.url), "utf8"));
      for (const word of standings) expect(said.has(`standing-${word}`), word).toBe(true);
      for (const word of standings.filter((word) => word !== "online")) expect(said.has(`unit-${word}`), word).toBe(true);
      for (const word of states) expect(said.has(`diag-device-${word}`), word).toBe(true);
      for (const word of ["timeout", "garbled", "refused", "disconnected"]) expect(said.has(`why-${word}`), word).toBe(true);
      for (const word of ["telemetry", "events"]) expect(said.has(`diag-stream-${word}`), word).toBe(true);
    }
  });
});
