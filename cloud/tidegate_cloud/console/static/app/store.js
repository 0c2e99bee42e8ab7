// What the page knows, in one place: filled by live.js from the server, by commands.js from the reader's actions, read
// by everything that draws. Topics say what changed; drawing happens at most once a frame however much arrives.
import { useEffect, useState } from "./html.js";
import { withPending } from "./alerts.js";
import { learnInterval } from "./freshness.js";

export const state = {
  devices: new Map(),
  alerts: new Map(), // as the server has them
  pending: new Map(), // alert id → an action on its way, or refused
  fences: { type: "FeatureCollection", features: [] },
  rules: [],
  health: null,
  link: { connected: false, everHeard: false, heardAt: performance.now(), retryAt: null, dataAsOfUs: null },
};

const listeners = new Map();

/** Call `listener` after changes of any of the topics; returns how to stop. */
export function subscribe(topics, listener) {
  for (const topic of topics) {
    if (!listeners.has(topic)) listeners.set(topic, new Set());
    listeners.get(topic).add(listener);
  }
  return () => topics.forEach((topic) => listeners.get(topic).delete(listener));
}

/** Say that `topic` changed. `detail` goes to listeners that want more than the news. */
export function changed(topic, detail) {
  for (const listener of [...(listeners.get(topic) ?? [])]) listener(detail, topic);
}

/** Draw the component again when any of the topics changed, at most once a frame. */
export function useStore(...topics) {
  const [, redraw] = useState(0);
  useEffect(() => {
    let frame = 0;
    const stop = subscribe(topics, () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        redraw((n) => n + 1);
      });
    });
    return () => {
      stop();
      cancelAnimationFrame(frame);
    };
  }, [topics.join()]);
  return state;
}

/** Alerts with the reader's own pending actions applied. */
export function shownAlerts() {
  return Array.from(state.alerts.values(), (alert) => withPending(alert, state.pending.get(alert.id)));
}

export function shownAlert(id) {
  const alert = state.alerts.get(id);
  return alert && withPending(alert, state.pending.get(id));
}

/** Take an alert unless a newer state of it is known: a replay after a reconnect may repeat old ones. */
export function putAlert(alert) {
  const known = state.alerts.get(alert.id);
  if (known && known.version > alert.version) return;
  state.alerts.set(alert.id, alert);
  changed("alerts", alert);
}

/** Take devices' newest positions and readings. */
export function putDevices(devices) {
  for (const device of devices) {
    const known = state.devices.get(device.id);
    if (known) {
      if (known.heard_us > device.heard_us) continue;
      device.intervalUs = learnInterval(known.intervalUs, known.heard_us ? device.heard_us - known.heard_us : 0);
    }
    state.devices.set(device.id, device);
  }
  changed("positions", devices);
}

export function removeDevice(id) {
  if (state.devices.delete(id)) changed("positions", []);
}

export function removeAlert(id) {
  if (state.alerts.delete(id)) changed("alerts");
}

export function deviceName(id) {
  return state.devices.get(id)?.name || id;
}
