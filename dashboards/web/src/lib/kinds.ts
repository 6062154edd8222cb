//! The silhouettes of the kinds of machines: strokes on a grid of 24. A kind that is not here gets that of `other`.

const SHAPES: Record<string, string> = {
  "fdm-printer": "M4 21V3h16v18zM9 3v5h6V3M10 8l2 3 2-3M8 21v-4h8v4",
  "resin-printer": "M6 3h12v12H6zM12 3v4M9 7h6M8 12h8M4 15h16v6H4z",
  laser: "M9 2h6v6l-3 3-3-3zM12 11v9M2 20h20M8 17l-2-3M16 17l2-3",
  router: "M2 4h20M9 4v8h6V4M12 12v7M10 15l4-1M10 18l4-1M2 21h20",
  mill: "M19 2v20M19 4H9v6h10M11 10v4h4v-4M13 14v3M3 17h13v4H3z",
  lathe: "M2 5h6v11H2zM8 8h3v5H8zM11 10.500h6M22 16V6h-3l-2 4.500 2 5.500M2 20h20",
  "table-saw": "M2 14h20v3H2zM4 17v5M20 17v5M6 14a6 6 0 0 1 12 0M12 8V5M7.500 9.500l-2-2M16.500 9.500l2-2",
  "band-saw": "M12 2a4 4 0 1 0 0 8a4 4 0 0 0 0-8zM12 14a4 4 0 1 0 0 8a4 4 0 0 0 0-8zM8 6v12M16 6v12M2 12h6",
  "drill-press": "M5 2v20M2 22h12M5 4h12v6H5M12 10v3h4v-3M14 13v5l-1 2M8 16h3",
  welder: "M2 6l9 9M6 2l9 9M2 6l4-4M11 15l4-4M15 15l2 2M20 12l2-1M20 17h3M19 20l2 2M15 20v3",
  "plasma-cutter": "M9 2h6v6l-2 3h-2L9 8zM2 14h8M14 14h8M12 11v11M12 15l-4 7M12 15l4 7",
  brake: "M9 2h6v4l-3 4-3-4zM2 8l10 7 10-7M4 15v7h16v-7l-8 5z",
  "sewing-machine": "M3 21v-4h18v4zM18 17V9H9v4H5V4h16v5M7 13v4",
  "vacuum-former": "M2 9h4l2-5h8l2 5h4M2 13h20v8H2zM8 16v3M12 16v3M16 16v3",
  compressor: "M6 11h12a4 4 0 0 1 0 8H6a4 4 0 0 1 0-8zM6 19v3M18 19v3M7 11V5h6v6M17 11V8M15 5a2 2 0 1 0 4 0a2 2 0 0 0-4 0z",
  extractor: "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18zM12 12c0-4 3-6 5-5M12 12c3.500 2 3.500 6 1.500 7M12 12c-3.500 2-7 0-7-2.500",
  kiln: "M4 22V10a8 8 0 0 1 16 0v12zM12 9c3 3 3 5 3 6a3 3 0 0 1-6 0c0-1 1-2 1.500-3z",
  other: "M4 7l8-4 8 4v10l-8 4-8-4zM4 7l8 4 8-4M12 11v10",
};

export function shape(kind: string): string {
  return (Object.hasOwn(SHAPES, kind) ? SHAPES[kind] : undefined) ?? SHAPES["other"] ?? "";
}
