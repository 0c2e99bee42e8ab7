// What people ask of alerts and of groups of them: shown at once, sent with an idempotency key, settled when the alert or
// group itself says so.
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
import { changed, deviceName, shownAlert, shownGroup, state, subscribe } from "./store.js";

const SETTLE_MS = 2_000;
const AGAIN_MS = 3_000;

let last = []; // the alerts and groups that undo() is about

const known = (id) => state.alerts.get(id) ?? state.groups.get(id);
const nameOf = (thing) => (thing.device === undefined ? thing.title : `${deviceName(thing.device)}, ${thing.title}`);

/** Take an action on one alert or group. Returns false where it makes no sense as that stands. */
export function act(id, action, more = {}) {
  return actOn([id], action, more);
}

/** Take an action on several; what makes no sense as it stands is left alone. False where nothing is left. */
export function actOn(ids, action, { why = "", untilUs = null } = {}) {
  const things = ids.map((id) => shownAlert(id) ?? shownGroup(id)).filter((thing) => thing && allows(thing, action));
  if (!things.length) return false;
  last = ["reopen", "comment"].includes(action) ? [] : things.map((thing) => thing.id);
  for (const { id } of things) {
    const before = state.pending.get(id);
    const behind = before && before.status !== "refused" ? before : null;
    const pending = { key: api.newId(), behind, action, who: settings.name, why, untilUs, seenVersion: known(id).version, status: "sending", detail: "" };
    state.pending.set(id, pending);
    if (!behind) send(id, pending);
  }
  changed("alerts");
  changed("said", `${ACTIONS[action].done}: ${things.length > 1 ? `${things.length} alerts` : nameOf(things[0])}`);
  return true;
}

/** Take back the newest action: the alerts are open again, for everyone. */
export function undo() {
  const ids = last;
  last = [];
  return ids.length > 0 && actOn(ids, "reopen");
}

export const canUndo = () => last.length > 0;

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
    const ask = state.groups.has(id) ? api.groupCommand : api.command;
    const body = { id: pending.key, action: pending.action, why: pending.why };
    // A comment is no decision: nobody can be too late for it.
    if (pending.action !== "comment") body.seen_version = pending.seenVersion;
    if (pending.untilUs) body.until_us = Math.round(pending.untilUs);
    await ask(id, body);
    if (pending.status !== "slow") update(id, pending, "sent");
    settle(known(id));
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

/** What the server says of an alert or group ends the wait for it, one way or the other. */
function settle(alert) {
  const pending = alert && underWay(alert.id);
  if (!pending || pending.status === "refused" || alert.version <= pending.seenVersion) return;
  const wanted = ACTIONS[pending.action].state;
  if (wanted === null || (alert.state === wanted && (alert.who === pending.who || pending.action === "reopen"))) {
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
subscribe(["groups", "loaded"], () => {
  for (const id of state.pending.keys()) settle(known(id));
});
subscribe(["connected"], () => {
  for (const id of state.pending.keys()) if (underWay(id).status === "queued") send(id, underWay(id));
});
