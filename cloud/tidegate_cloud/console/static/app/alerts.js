// What the lists show, from alerts as the server has them and the reader's own actions that are still on their way.

export const SEVERITIES = { critical: "Critical", warning: "Warning", notice: "Notice" };
export const STATES = { open: "Open", acknowledged: "Acknowledged", snoozed: "Snoozed", resolved: "Resolved" };
export const ACTIONS = {
  acknowledge: { state: "acknowledged", done: "Acknowledged" },
  resolve: { state: "resolved", done: "Resolved" },
  reopen: { state: "open", done: "Opened again" },
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
  return alert.state !== "resolved";
}

/** The alert as the reader left it: their action shows at once, and is taken back if the server refuses. */
export function withPending(alert, pending) {
  if (!pending || pending.status === "refused") return pending ? { ...alert, pending } : alert;
  return { ...alert, state: ACTIONS[pending.action].state, who: pending.who, pending };
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
