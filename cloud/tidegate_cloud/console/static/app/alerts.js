// What the lists show, from alerts as the server has them and the reader's own actions that are still on their way.

export const SEVERITIES = { critical: "Critical", warning: "Warning", notice: "Notice" };
export const STATES = { open: "Open", acknowledged: "Acknowledged", snoozed: "Snoozed", resolved: "Resolved" };
export const ACTIONS = {
  acknowledge: { state: "acknowledged", done: "Acknowledged" },
  resolve: { state: "resolved", done: "Resolved" },
  reopen: { state: "open", done: "Opened again" },
  snooze: { state: "snoozed", done: "Snoozed" },
  "false-alarm": { state: "resolved", done: "Called a false alarm" },
  comment: { state: null, done: "Comment kept" },
};
const RANK = { critical: 0, warning: 1, notice: 2 };

/** Worst first, then newest; the id settles ties, so that rows never change places without a reason. */
export function worstFirst(a, b) {
  return RANK[a.severity] - RANK[b.severity] || b.started_us - a.started_us || (a.id < b.id ? -1 : 1);
}

export const newestFirst = (a, b) => b.changed_us - a.changed_us || (a.id < b.id ? -1 : 1);

/** Whether an action may be taken on an alert that stands so. */
export function allows(alert, action) {
  if (action === "acknowledge") return alert.state === "open" || alert.state === "snoozed";
  if (action === "reopen") return alert.state !== "open";
  if (action === "comment") return true;
  return alert.state !== "resolved";
}

/** The alert as the reader left it: their action shows at once, and is taken back if the server refuses. */
export function withPending(alert, pending) {
  if (!pending || pending.status === "refused") return pending ? { ...alert, pending } : alert;
  const { state } = ACTIONS[pending.action];
  if (state === null) return { ...alert, pending };
  return { ...alert, state, who: pending.who, snoozed_until_us: pending.untilUs ?? alert.snoozed_until_us, pending };
}

/** Why an alert pages nobody now, as [word, sentence]; null where it does. */
export function mutedWords(alert) {
  const [how, what] = (alert.muted ?? "").split(/:(.*)/s);
  if (how === "silence") return ["Silenced", `A silence hides it: ${what}`];
  if (how === "inhibited") return ["Hidden", "It follows from an earlier alert of the same device, and pages nobody"];
  if (how === "flapping") return ["Flapping", "It comes and goes, and pages nobody until it has settled"];
  return how ? [how, "It pages nobody"] : null;
}

/** The rows of a list: groups that are not over in place of their alerts, unless each alert is to be seen by itself. */
export function rowsOf(alerts, groups, flat) {
  if (flat) return alerts;
  const shown = groups.filter((group) => group.state !== "resolved");
  const hidden = new Set(shown.map((group) => group.id));
  return [...alerts.filter((alert) => !hidden.has(alert.group)), ...shown];
}

/** Rows of the list beside the map: what needs someone, what someone has, what is only for the record. */
export function sections(alerts) {
  const open = alerts.filter((a) => a.state === "open");
  return {
    needs: open.filter((a) => a.severity !== "notice").sort(worstFirst),
    taken: alerts.filter((a) => a.state === "acknowledged").sort(worstFirst),
    record: open.filter((a) => a.severity === "notice").sort(worstFirst),
    snoozed: alerts.filter((a) => a.state === "snoozed").sort(worstFirst),
  };
}

/** The worst alert that each device has, of those that are not over: device id → alert. */
export function worstByDevice(alerts) {
  const worst = new Map();
  const order = (a) => (a.state === "open" ? 0 : 10) + RANK[a.severity];
  for (const alert of alerts) {
    if (alert.state !== "open" && alert.state !== "acknowledged") continue;
    const held = worst.get(alert.device);
    if (!held || order(alert) < order(held)) worst.set(alert.device, alert);
  }
  return worst;
}
