// Acknowledge and resolve: shown at once, sent with an idempotency key, settled when the alert itself says so.
//
// An action is `sending`, then `sent` (the server has it, Kafka's answer is due), and gone once the alert's new state
// arrives on the stream. Without a link it is `queued` and sent again under the same key. After SETTLE_MS without an
// answer it is `slow`, which the page says; if the server refuses, it is `refused`, with the reason, and the alert shows
// its true state again.
//
// An action on an alert that another one is still under way for (an undo, mostly) waits `behind` it: it is about the
// state that the first leaves, and would be refused if it were sent for the one before.
import * as api from "./api.js";
import { ACTIONS, allows } from "./alerts.js";
import { settings } from "./settings.js";
import { changed, deviceName, shownAlert, state, subscribe } from "./store.js";

const SETTLE_MS = 2_000;
const AGAIN_MS = 3_000;

let last = null; // the alert that undo() is about

/** Take an action on one alert. Returns false where it makes no sense as the alert stands. */
export function act(id, action, why = "") {
  const alert = shownAlert(id);
  if (!alert || !allows(alert, action)) return false;
  const before = state.pending.get(id);
  const behind = before && before.status !== "refused" ? before : null;
  const pending = {
    key: api.newId(),
    behind,
    action,
    who: settings.name,
    why,
    seenVersion: state.alerts.get(id).version,
    status: "sending",
    detail: "",
  };
  state.pending.set(id, pending);
  last = action === "reopen" ? null : id;
  changed("alerts");
  changed("said", `${ACTIONS[action].done}: ${deviceName(alert.device)}, ${alert.title}`);
  if (!behind) send(id, pending);
  return true;
}

/** Take back the newest action: the alert is open again, for everyone. */
export function undo() {
  const id = last;
  last = null;
  return id !== null && act(id, "reopen");
}

export const canUndo = () => last !== null;

/** Forget that an action was refused. */
export function dismiss(id) {
  state.pending.delete(id);
  changed("alerts");
}

/** Whether this action is still to be sent or answered: the newest of its alert, or one that the newest waits behind. */
function stands(id, pending) {
  let at = state.pending.get(id);
  while (at && at !== pending) at = at.behind;
  return Boolean(at);
}

/** The action that is under way for an alert: the oldest that stands. */
function underWay(id) {
  let at = state.pending.get(id);
  while (at?.behind) at = at.behind;
  return at;
}

async function send(id, pending) {
  const flag = setTimeout(() => update(id, pending, pending.status === "queued" ? "queued" : "slow"), SETTLE_MS);
  pending.stopFlag = () => clearTimeout(flag);
  try {
    await api.command(id, {
      id: pending.key,
      action: pending.action,
      why: pending.why,
      seen_version: pending.seenVersion,
    });
    if (pending.status !== "slow") update(id, pending, "sent");
    settle(state.alerts.get(id));
  } catch (error) {
    pending.stopFlag();
    if (error instanceof api.Refused && error.status < 500) {
      update(id, pending, "refused", error.message);
      changed("said", `Not saved: ${error.message}`);
    } else {
      // No link, or no Kafka behind it: the same key again is safe, however often.
      update(id, pending, "queued");
      if (state.link.connected) setTimeout(() => stands(id, pending) && send(id, pending), AGAIN_MS);
    }
  }
}

function update(id, pending, status, detail = "") {
  if (!stands(id, pending)) return;
  Object.assign(pending, { status, detail });
  const newest = state.pending.get(id);
  if (newest !== pending) Object.assign(newest, { status, detail }); // it fares as what it waits behind
  if (status === "refused") newest.behind = null;
  changed("alerts");
}

/** The action that waits behind this one. */
function waitingFor(id, pending) {
  let at = state.pending.get(id);
  while (at && at.behind !== pending) at = at.behind;
  return at ?? null;
}

/** What the server says of an alert ends the wait for it, one way or the other. */
function settle(alert) {
  const pending = alert && underWay(alert.id);
  if (!pending || pending.status === "refused" || alert.version <= pending.seenVersion) return;
  const wanted = ACTIONS[pending.action].state;
  if (alert.state === wanted && (alert.who === pending.who || pending.action === "reopen")) {
    pending.stopFlag?.();
    const next = waitingFor(alert.id, pending);
    if (next) {
      Object.assign(next, { behind: null, seenVersion: alert.version, status: "sending" });
      send(alert.id, next);
    } else state.pending.delete(alert.id);
  } else if (alert.state === wanted || alert.state === "resolved") {
    pending.stopFlag?.();
    update(alert.id, pending, "refused", `${alert.who || "The system"} was first`);
    changed("said", `Not saved: ${pending.detail}`);
  }
  changed("alerts");
}

subscribe(["alerts"], settle);
subscribe(["refused"], ({ alert, command, why }) => {
  const pending = underWay(alert);
  if (pending?.key !== command) return;
  pending.stopFlag?.();
  update(alert, pending, "refused", why);
  changed("said", `Not saved: ${why}`);
});
subscribe(["loaded"], () => {
  for (const id of state.pending.keys()) settle(state.alerts.get(id));
});
subscribe(["connected"], () => {
  for (const id of state.pending.keys()) if (underWay(id).status === "queued") send(id, underWay(id));
});
