// What the page knows, in one place: filled by live.js from the server, by commands.js from the reader's actions, read
// by everything that draws. Topics say what changed; drawing happens at most once a frame however much arrives.
import { useEffect, useState } from "./html.js";
import { withPending } from "./alerts.js";
import { learnInterval } from "./freshness.js";

export const state = {
  devices: new Map(),
  alerts: new Map(), // as the server has them
  groups: new Map(), // of alerts: one fault on many devices
  pending: new Map(), // alert id → an action on its way, or refused
  fences: { type: "FeatureCollection", features: [] },
  rules: [],
  rollouts: [],
  permissions: [], // what the reader may do
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

/** Groups of alerts with the reader's own pending actions applied. */
export const shownGroups = () => Array.from(state.groups.values(), (group) => withPending(group, state.pending.get(group.id)));

export function shownGroup(id) {
  const group = state.groups.get(id);
  return group && withPending(group, state.pending.get(id));
}

/** Take an alert unless a newer state of it is known: a replay after a reconnect may repeat old ones. */
export function putAlert(alert) {
  const known = state.alerts.get(alert.id);
  if (known && known.version > alert.version) return;
  state.alerts.set(alert.id, alert);
  changed("alerts", alert);
}

const SAME_US = 10_000; // the same time, told in milliseconds and in microseconds

/** A device's report came at this time: what its usual interval is, is learnt from that. */
export function heardAtUs(device, us) {
  if (device.heard_us !== null) {
    const gapUs = us - device.heard_us;
    if (Math.abs(gapUs) < SAME_US) return;
    device.intervalUs = learnInterval(device.intervalUs, gapUs);
  }
  device.heard_us = us;
}

/** The device of this name; one that nothing is known of yet is made. */
export function deviceOf(id) {
  let device = state.devices.get(id);
  if (!device) state.devices.set(id, (device = { id, name: "", group: "", type: "", heard_us: null, ts_us: null, readings: {} }));
  return device;
}

/** Take all that is known of devices. */
export function putDevices(devices) {
  for (const fresh of devices) {
    const known = deviceOf(fresh.id);
    const isOlder = known.heard_us - (fresh.heard_us ?? 0) > SAME_US;
    if (!isOlder && fresh.heard_us !== null) heardAtUs(known, fresh.heard_us);
    const { id, name, group, type, report_interval_s } = fresh;
    Object.assign(known, isOlder ? { name, group, type, report_interval_s } : { ...fresh, heard_us: known.heard_us });
  }
  changed("readings", devices);
  changed("positions", devices);
}

export function removeDevice(id) {
  if (state.devices.delete(id)) changed("positions", []);
}

export function removeAlert(id) {
  if (state.alerts.delete(id)) changed("alerts");
}

/** Whether the reader may do something: "act", "edit". The server decides; this spares them a refusal. */
export const may = (what) => state.permissions.includes(what);

export function deviceName(id) {
  return state.devices.get(id)?.name || id;
}
