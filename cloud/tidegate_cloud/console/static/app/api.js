// The console's HTTP interface, as this page uses it.

const BASE = "/api/v1";

/** The server answered, and said no. `detail` is its own sentence. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** What a change must say beside the session's cookie; the server put it where other sites cannot read it. */
function csrf() {
  const name = `${location.protocol === "https:" || !location.port ? "tidegate" : `tidegate-${location.port}`}-csrf=`;
  return document.cookie.split("; ").find((cookie) => cookie.startsWith(name))?.slice(name.length) ?? "";
}

async function call(path, options = {}) {
  const response = await fetch(BASE + path, { ...options, signal: options.signal ?? AbortSignal.timeout(10_000) });
  if (response.ok) return response.status === 204 ? null : response.json();
  if (response.status === 401 && location.pathname !== "/login") {
    location.assign(`/login?${new URLSearchParams({ next: location.pathname + location.search })}`);
  }
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
export const streamAddress = (from) => `${BASE}/stream?devices=names&from=${segment(from)}`;
export const placesAddress = () => `${location.origin.replace(/^http/, "ws")}${BASE}/positions`;
export const alertById = (id) => call(`/alerts/${segment(id)}`);
/** A page of alerts: `{alerts, next, total, counts}`. */
export const alertsBy = (query) => call(`/alerts?${new URLSearchParams(query)}`);
/** Each stage as its metrics tell it, and what topics get: `{server_us, stages, topics}`. */
export const pipeline = () => call("/pipeline");
export const rolloutById = (id) => call(`/rollouts/${segment(id)}`);
/** Those that did not take it, and why: `{agents, total}`. */
export const rolloutAgents = (id) => call(`/rollouts/${segment(id)}/agents`);
export const deviceById = (id) => call(`/devices/${segment(id)}`);

export function series(id, channel, { fromUs, toUs, maxPoints, signal } = {}) {
  const query = new URLSearchParams({ channel });
  if (fromUs) query.set("from_us", Math.round(fromUs));
  if (toUs) query.set("to_us", Math.round(toUs));
  if (maxPoints) query.set("max_points", maxPoints);
  return call(`/devices/${segment(id)}/series?${query}`, signal ? { signal } : {});
}

const change = (method, path, body, headers = {}) =>
  call(path, {
    method,
    headers: { "x-csrf-token": csrf(), ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });

export const command = (alert, body) => change("POST", `/alerts/${segment(alert)}/commands`, body);
export const rolloutCommand = (rollout, body) => change("POST", `/rollouts/${segment(rollout)}/commands`, body);
export const checkFence = (feature) => change("POST", "/fences/check", feature);
/** A valid shape for one that is not: `{feature, words}`. */
export const repairFence = (feature) => change("POST", "/fences/repair", feature);
export const fenceVersions = (id) => call(`/fences/${segment(id)}/versions`);
/** Keep a fence; refused (412) unless it is still at the version that was looked at, 0 for a new one. */
export const putFence = (id, feature, version, why) => change("PUT", `/fences/${segment(id)}?${new URLSearchParams({ why })}`, feature, { "if-match": `"${version}"` });
export const deleteFence = (id, version) => change("DELETE", `/fences/${segment(id)}`, undefined, { "if-match": `"${version}"` });
export const groupCommand = (group, body) => change("POST", `/groups/${segment(group)}/commands`, body);
export const silences = () => call("/silences").then((answer) => answer.silences);
export const putSilence = (id, silence, version) => change("PUT", `/silences/${segment(id)}`, silence, { "if-match": `"${version}"` });
export const deleteSilence = (id) => change("DELETE", `/silences/${segment(id)}`);
export const session = () => call("/session");
export const logIn = (body) => change("POST", "/session", body);
export const logOut = () => change("DELETE", "/session");
export const setPassword = (password, old = "") => change("PUT", "/session/password", { new: password, old });

/** 32 hex digits; crypto.randomUUID is absent on plain http away from localhost. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}
