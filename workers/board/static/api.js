// The board's HTTP interface. Addresses are relative, so that the board may live under a prefix.

/** An answer that is not 2xx; `status` 0 means that none came. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.error ?? body?.reason ?? body?.detail ?? (status ? `the board answered ${status}` : "the board does not answer"));
    this.status = status;
    this.body = body ?? {};
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, null);
  }
  if (answer.ok) return answer;
  throw new Refused(answer.status, await answer.json().catch(() => null));
}

/** GET a JSON object. */
export const get = async (path, options) => (await ask(path, options)).json();

/** POST a JSON object and get one. */
export async function post(path, body = {}) {
  const options = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await ask(path, options);
  return answer.json().catch(() => ({}));
}

/** GET a picture, decoded; options as of createImageBitmap. */
export async function picture(path, { signal, ...options } = {}) {
  const answer = await ask(path, { signal, cache: "default" });
  return createImageBitmap(await answer.blob(), options);
}

/** A query string of what is set. */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return new URLSearchParams(set).toString();
}

/** STATION/RUN/TRIGGER for an address. */
export const partPath = (part) => part.split("/").map(encodeURIComponent).join("/");
