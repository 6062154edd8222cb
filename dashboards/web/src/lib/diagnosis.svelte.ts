//! Asks the gateway for its diagnostics while somebody looks, one question at a time. Without an answer it keeps
//! the last one with its moment: whoever shows it must say how old it is.

import { ASK_EVERY_MS, readDiagnostics, type Diagnostics } from "./diagnosis";
import type { Received } from "./stream";

/** The gateway answers within a step; a question that hangs must not stop the next ones. */
const ANSWER_MS = 4_000;

class Diagnosis {
  told = $state.raw<Received<Diagnostics> | null>(null);
  /** Since when it has been asked. */
  since = $state(performance.now());
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watched = 0;

  /** Asks until what it returns is called. */
  watch = (): (() => void) => {
    this.since = performance.now();
    const watched = (this.#watched += 1);
    void this.#ask(watched);
    return () => {
      if (this.#watched === watched) this.#watched += 1;
      clearTimeout(this.#timer);
      this.told = null;
    };
  };

  async #ask(watched: number): Promise<void> {
    try {
      const answer = await fetch("/api/v1/diagnostics", { signal: AbortSignal.timeout(ANSWER_MS) });
      const told = answer.ok ? readDiagnostics(await answer.json()) : null;
      if (told !== null && this.#watched === watched) this.told = { told, at: performance.now() };
    } catch { /* the page says how old its figures are */ }
    if (this.#watched === watched) this.#timer = setTimeout(() => void this.#ask(watched), ASK_EVERY_MS);
  }
}

export const diagnosis = new Diagnosis();
