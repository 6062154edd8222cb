//! Machines with a controller of their own, as the API tells of them: every execution that power alone cannot
//! tell. Pure, like `situations.mjs`. The words in quotes are what such controllers really say.

const LONG = "机械臂底座_第三版_加强筋加厚_零点二毫米层高_PETG_两小时四十分.gcode";

function items(list) {
  return list.map(([name, kind, unit, value, more]) => ({
    name, kind, unit, value, why: null, age_ms: 400, stale_after_ms: 5000, key: false, ...more,
  }));
}

const KEY = { key: true };
const NO_ESTIMATE = { why: "sentinel" };
const NOT_YET = { why: "not_yet", age_ms: null };

function printer(execution, state, [nozzle, toNozzle, bed, toBed], watts, rest) {
  return items([
    ["temperature.nozzle", "gauge", "°C", nozzle, KEY],
    ["temperature.bed", "gauge", "°C", bed, KEY],
    ["temperature.target.nozzle", "gauge", "°C", toNozzle],
    ["temperature.target.bed", "gauge", "°C", toBed],
    ["power.active", "gauge", "W", watts],
    ["execution", "text", "", execution],
    ["controller.state", "text", "", state],
    ...rest,
    ["hours.run", "counter", "s", null, NOT_YET],
    ["temperature.chamber", "gauge", "°C", null, NOT_YET],
  ]);
}

function job(name, progress, left, more = []) {
  return [
    ["job.name", "text", "", name],
    ["progress", "gauge", "1", progress, KEY],
    ["job.left", "gauge", "s", left, left === null ? NO_ESTIMATE : {}],
    ...more,
  ];
}

const says = (words) => ["message", "text", "", words];

function router(execution, state, feed, rest) {
  return items([
    ["feed", "gauge", "mm/min", feed, KEY],
    ["speed.spindle", "gauge", "rpm", 12_000, KEY],
    ["power.active", "gauge", "W", 820],
    ["override.feed", "gauge", "1", 0.8],
    ["position.x", "gauge", "mm", 112.475],
    ["position.y", "gauge", "mm", 40],
    ["position.z", "gauge", "mm", -3.2],
    ["execution", "text", "", execution],
    ["controller.state", "text", "", state],
    ["controller.mode", "text", "", "G54"],
    ...rest,
    ["parts", "counter", "", null, NOT_YET],
  ]);
}

const MACHINES = [
  ["printing", "Printer 1", "三维打印机 1", "running",
    printer("running", "Printing from SD", [209.6, 210, 59.9, 60], 142, job(LONG, 0.4371, 4350, [
      ["job.layer", "gauge", "", 42], ["job.layers", "gauge", "", 98], ["job.elapsed", "gauge", "s", 3411],
      ["filament.used", "gauge", "mm", 8123.4],
    ]))],
  ["heating", "Printer 2", "三维打印机 2", "preparing",
    printer("preparing", "Heating", [148.2, 240, 55.1, 80], 310, job("bracket.gcode", 0, null))],
  ["filament", "Printer 3", "三维打印机 3", "paused",
    printer("paused", "Paused", [205.4, 205, 60, 60], 61, [
      ...job("vase_0.6n.gcode", 0.61, 3000), says("Filament runout. Load filament, then press Resume.")])],
  ["done", "Printer 4", "三维打印机 4", "finished",
    printer("finished", "Operational", [41.2, 0, 33, 0], 12, job("benchy.gcode", 1, 0))],
  ["failed", "Printer 5", "三维打印机 5", "fault",
    printer("fault", "Error", [31.4, 0, 27.8, 0], 12, [...job("gear_m1.gcode", 0.12, 9000),
      ["fault.code", "gauge", "", 27],
      says("Heater extruder not heating at expected rate. See the 'verify_heater' section in docs/Config_Reference.md for the parameters that control this check.")])],
  ["halted", "Printer 6", "三维打印机 6", "stopped",
    printer("stopped", "Shutdown", [180.3, 0, 52.9, 0], 9, [says("Shutdown due to webhooks request")])],
  ["router", "CNC router", "数控雕刻机", "paused",
    router("paused", "Hold:0", 0, [...job("护罩-面板.nc", 0.785, null), says("Feed hold")])],
  ["torn", "Printer 7", "三维打印机 7", "unknown",
    printer("running", "Printing", [209.6, 210, 59.9, 60], 0.3, job("spool-holder.gcode", 0.33, 5400)), "conflict"],
  ["milling", "Mill", "铣床", "running", router("running", "Run", 1800, job("flange.nc", 0.05, 59))],
];

/** How many machines there are of different kinds. */
export const CONTROLLERS = MACHINES.length;

/** The controller of the first machine has gone; its meter still tells. */
function deaf(told) {
  return told.map((item) =>
    item.name === "power.active" || item.age_ms === null
      ? item : { ...item, value: null, why: "disconnected", age_ms: 92_000 });
}

/** The machine at position `i`; a workshop larger than the list has several of each. */
export function controlled(i, situation) {
  const [id, en, zh, execution, told, why = null] = MACHINES[i % MACHINES.length];
  return {
    id, en, zh, execution, why,
    items: i === 0 && situation === "controllers-gone" ? deaf(told) : told,
  };
}
