// The console's HTTP interface, as this page uses it.

const BASE = "/api/v1";

/** The server answered, and said no. `detail` is its own sentence. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function call(path, options = {}) {
  const response = await fetch(BASE + path, { ...options, signal: options.signal ?? AbortSignal.timeout(10_000) });
  if (response.ok) return response.json();
  let detail = `the server answered ${response.status}`;
  try {
    const body = await response.json();
    if (typeof body.detail === "string") detail = body.detail;
  } catch {
    // not JSON: the status alone must do
  }
  throw new Refused(response.status, detail);
}

const segment = encodeURIComponent;

export const snapshot = () => call("/snapshot");
export const streamAddress = (from) => `${BASE}/stream?from=${segment(from)}`;
export const alertById = (id) => call(`/alerts/${segment(id)}`);
export const alertsBy = (query) => call(`/alerts?${new URLSearchParams(query)}`);
export const deviceById = (id) => call(`/devices/${segment(id)}`);

export function series(id, channel, { fromUs, toUs, maxPoints, signal } = {}) {
  const query = new URLSearchParams({ channel });
  if (fromUs) query.set("from_us", Math.round(fromUs));
  if (toUs) query.set("to_us", Math.round(toUs));
  if (maxPoints) query.set("max_points", maxPoints);
  return call(`/devices/${segment(id)}/series?${query}`, signal ? { signal } : {});
}

export function command(alert, body) {
  return call(`/alerts/${segment(alert)}/commands`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

/** 32 hex digits; crypto.randomUUID is absent on plain http away from localhost. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}
