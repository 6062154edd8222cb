//! Holds the built board to its budget and its promise: stable names, ≤ 60 KiB gzip, nothing from elsewhere,
//! nothing inline (the gateway serves it under `default-src 'self'`).
import { readFileSync, readdirSync } from "node:fs";
import { gzipSync } from "node:zlib";

const DIST = new URL("../dist/", import.meta.url);
const EXPECTED = ["app.css", "app.js", "favicon.svg", "index.html"];
const BUDGET = 60 * 1024;
// Names of XML namespaces are not addresses, and Svelte's errors name their explanation; neither is ever fetched.
const HARMLESS = /https?:\/\/(www\.w3\.org\/(2000\/svg|1998\/Math\/MathML|1999\/xhtml|1999\/xlink)|svelte\.dev\/e\/)/g;

const problems = [];
const names = readdirSync(DIST).sort();
if (names.join() !== EXPECTED.join()) problems.push(`dist holds ${names}, expected ${EXPECTED}`);
let total = 0;
for (const name of names) {
  const bytes = readFileSync(new URL(name, DIST));
  total += gzipSync(bytes, { level: 9 }).length;
  const found = /(?:https?:|["'(])\/\/[a-z0-9.-]+\.[a-z]{2,}[^\s"'`]*/i.exec(bytes.toString().replace(HARMLESS, ""));
  if (found) problems.push(`${name} names ${found[0]}`);
}
const page = readFileSync(new URL("index.html", DIST), "utf8");
if (/<style|\sstyle=|<script(?![^>]*\ssrc=)|\son\w+=/.test(page)) problems.push("index.html has something inline");
if (total > BUDGET) problems.push(`${total} bytes gzip, more than ${BUDGET}`);
for (const problem of problems) console.error(`dist: ${problem}`);
if (problems.length > 0) process.exit(1);
console.log(`dist: ${names.length} files, ${total} bytes gzip of ${BUDGET}`);
