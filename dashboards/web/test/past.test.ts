import { expect, test } from "vitest";
import { momentOf } from "../src/lib/format";
import { digest, drawable, question, readPast, share } from "../src/lib/past";
import { gaps } from "../src/lib/sparkline";
import type { Item } from "../src/lib/types";

const known = (mean: number, coverage = 1) => ({ min: mean - 1, max: mean + 1, mean, coverage });

test("a gap reaches from the last known step to the next one, or to the edge", () => {
  const b = known(1);
  expect(gaps([b, b, b])).toEqual([]);
  expect(gaps([b, null, null, b, b])).toEqual([[0, 75]]);
  expect(gaps([null, b, b, null, null])).toEqual([[0, 25], [50, 50]]);
  expect(gaps([null, null])).toEqual([[0, 100]]);
  expect(gaps([null])).toEqual([[0, 100]]);
  expect(gaps([b])).toEqual([]);
});

test("what is said of a stretch weighs each step by what is known of it", () => {
  expect(digest([known(10), null, known(20, 0.5), null])).toEqual({ min: 9, max: 21, mean: 20 / 1.5, known: 0.375 });
  expect(digest([null, known(7, 0)])).toMatchObject({ min: 6, mean: 7, max: 8 });
  expect(digest([null, null])).toBeNull();
  expect(digest([])).toBeNull();
});

test("a share is never rounded to all or to nothing", () => {
  expect([1, 0.9999, 0.5, 0.001, 0].map(share)).toEqual(["100", "99", "50", "<1", "0"]);
});

test("an answer that is none is nothing", () => {
  expect(readPast({ from_ms: 0, to_ms: 9, series: [{ buckets: [null] }] })).toEqual({ from_ms: 0, to_ms: 9, buckets: [null], gaps: [[0, 100]] });
  for (const told of [null, {}, [], "?", { from_ms: 0, to_ms: 9, series: [] }, { from_ms: 0, to_ms: 9, series: [{ buckets: null }] }, { series: [{ buckets: [] }] }]) {
    expect(readPast(told), JSON.stringify(told)).toBeNull();
  }
});

test("numbers have a past, and the question names it in the gateway's time", () => {
  const of = (kind: Item["kind"]): Item => ({ name: kind, kind, unit: "W", value: 1, why: null, age_ms: 1, stale_after_ms: 9, key: true });
  expect(drawable((["gauge", "counter", "flag", "text"] as const).map(of)).map(({ name }) => name)).toEqual(["gauge", "counter"]);
  expect(question("co2 laser", "power.active", "hour", 3_600_001)).toBe("/api/v1/history?machine=co2+laser&item=power.active&from=1&to=3600001&buckets=300");
});

test("moments are the site's", () => {
  expect(momentOf(0, true, "Asia/Shanghai", "en")).toBe("Jan 1, 08:00");
  expect(momentOf(0, false, "Asia/Shanghai", "zh-CN")).toBe("1970年1月1日");
  expect(momentOf(0, false, "No/Where", "en")).toBe("Jan 1, 1970 UTC");
});
