//! What the gateway's answer to an order means, as a key of the words. It must not ask anybody anything.

export interface Failure {
  key: string;
  /** The gateway's own words, where it has some. */
  why: string;
}

/** A header cannot carry anything else, so nothing else can be a token. */
const TOKEN = /^[\x21-\x7e]+$/;

export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

/** Null: it is done. `status` 0: there was no answer, so nobody knows whether it is done. */
export function failure(status: number, why: string): Failure | null {
  if (status >= 200 && status < 300) return null;
  if (status === 401) return { key: "order-token", why };
  if (status === 403) return { key: "order-forbidden", why };
  if (status === 404) return { key: "order-gone", why };
  if (status === 400 || status === 409) return { key: "order-refused", why };
  if (status === 503) return { key: "order-busy", why };
  if (status === 507) return { key: "order-unsaved", why };
  return { key: "order-lost", why };
}
