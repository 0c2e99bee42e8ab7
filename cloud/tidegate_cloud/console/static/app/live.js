// The link to the server: a snapshot, then a stream of events that resumes after every break where it was cut.
//
// Where devices are comes by a second way (places.js), and the page is live only while it has both.
//
// EventSource would reconnect by itself, but says nothing while it waits, gives up for good on an HTTP error, and does
// not notice a link that went silent. So each break closes it, and a new one asks `?from=` the last event's id.
import * as api from "./api.js";
import { setServerTime } from "./clock.js";
import { SILENCE_MS } from "./freshness.js";
import * as places from "./places.js";
import { changed, putAlert, putDevices, removeAlert, removeDevice, state } from "./store.js";

const RETRY_MS = [300, 700, 1500, 3000, 5000];

let source = null;
let resume = null; // the id of the newest event that was taken
let attempts = 0;
let retryTimer = 0;

/** Load the snapshot and follow the stream, for as long as the page lives. */
export function start() {
  setInterval(watch, 1000);
  addEventListener("online", retryNow);
  addEventListener("pagehide", () => {
    source?.close();
    places.close();
  });
  return connect();
}

/** Do not wait for the next attempt. */
export function retryNow() {
  if (!state.link.connected) {
    attempts = 0;
    connect();
  }
}

async function connect() {
  clearTimeout(retryTimer);
  source?.close();
  places.close();
  if (resume === null) {
    try {
      load(await api.snapshot());
    } catch (error) {
      lost(error);
      return;
    }
  }
  source = follow(resume);
  places.open({ onOpen: connected, onLost: () => lost(new Error("the positions were cut")), onReload: reload });
}

function load(snapshot) {
  heard(snapshot.server_us);
  state.devices.clear();
  state.alerts.clear();
  putDevices(snapshot.devices);
  snapshot.alerts.forEach(putAlert);
  takeGroups(snapshot.groups);
  state.fences = snapshot.fences;
  state.rules = snapshot.rules;
  state.rollouts = snapshot.rollouts;
  state.health = snapshot.health;
  resume = snapshot.resume;
  for (const topic of ["alerts", "groups", "fences", "rollouts", "health", "loaded"]) changed(topic);
}

function takeGroups(groups) {
  state.groups = new Map(groups.map((group) => [group.id, group]));
}

function follow(from) {
  const stream = new EventSource(api.streamAddress(from));
  const on = (name, take) =>
    stream.addEventListener(name, (event) => {
      if (stream !== source) return; // a stream that was given up may still have events under way
      take(JSON.parse(event.data));
      if (event.lastEventId) resume = event.lastEventId;
      heard();
    });
  on("alert", putAlert);
  on("alert-removed", ({ id }) => removeAlert(id));
  on("refused", (refusal) => changed("refused", refusal));
  on("positions", putDevices); // those that became known, or were named anew
  on("device-removed", ({ id }) => removeDevice(id));
  on("fences", (fences) => {
    state.fences = fences;
    changed("fences");
  });
  on("groups", (groups) => {
    takeGroups(groups);
    changed("groups");
  });
  on("rollouts", (rollouts) => {
    state.rollouts = rollouts;
    changed("rollouts");
  });
  on("health", (health) => {
    state.health = health;
    heard(health.server_us);
    changed("health");
  });
  on("reload", reload);
  stream.onopen = () => {
    if (stream === source) connected();
  };
  stream.onerror = () => {
    if (stream === source) lost(new Error("the stream was cut"));
  };
  return stream;
}

/** The server no longer has what this page missed: begin anew, from a snapshot. */
function reload() {
  resume = null;
  source?.close();
  source = null;
  places.close();
  connect();
}

function connected() {
  if (source?.readyState !== EventSource.OPEN || !places.isOpen()) return;
  const resumed = state.link.everHeard && !state.link.connected && attempts > 0;
  attempts = 0;
  Object.assign(state.link, { connected: true, retryAt: null, error: null, heardAt: performance.now() });
  changed("link");
  changed("connected", { resumed });
}

function lost(error) {
  source?.close();
  source = null;
  places.close();
  const wait = RETRY_MS[Math.min(attempts, RETRY_MS.length - 1)] * (0.8 + 0.4 * Math.random());
  attempts += 1;
  Object.assign(state.link, { connected: false, retryAt: performance.now() + wait, error: error.message });
  clearTimeout(retryTimer);
  retryTimer = setTimeout(connect, wait);
  changed("link");
}

function heard(serverUs) {
  const { link } = state;
  link.heardAt = performance.now();
  link.everHeard = true;
  if (serverUs !== undefined) {
    setServerTime(serverUs);
    link.dataAsOfUs = serverUs - (state.health?.behind_ms ?? 0) * 1000;
  }
}

function watch() {
  if (state.link.connected && Math.max(performance.now() - state.link.heardAt, places.silentMs()) > SILENCE_MS) {
    lost(new Error("the server went silent"));
  }
}
