//! Packs what the gateway embeds packed. What unpacks to the same bytes already is left alone: compressors
//! differ between machines, and dist/ is compared byte by byte.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";

const DIST = new URL("../dist/", import.meta.url);
/** Where packed files outlive the build, which empties dist/. */
const KEPT = new URL("../packed/", import.meta.url);

for (const name of ["app.css", "app.js"]) {
  const bytes = readFileSync(new URL(name, DIST));
  const packed = new URL(`${name}.gz`, KEPT);
  if (!existsSync(packed) || !gunzipSync(readFileSync(packed)).equals(bytes)) {
    writeFileSync(packed, gzipSync(bytes, { level: 9 }));
    console.log(`packed ${name}`);
  }
}
