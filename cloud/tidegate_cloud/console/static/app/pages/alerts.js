// All alerts: open, acknowledged, and what was resolved today. Which list is shown stands in the address.
import { html, useEffect, useRef, useState } from "../html.js";
import * as api from "../api.js";
import { newestFirst, worstFirst } from "../alerts.js";
import { Actions, Fate, StatePill, Title, useTick } from "../alertparts.js";
import { nowUs } from "../clock.js";
import { act } from "../commands.js";
import { clockTime, duration, plural, when } from "../format.js";
import { Icon, Severity } from "../icons.js";
import { useKeys } from "../keys.js";
import { alertAddress, deviceAddress, navigate } from "../router.js";
import { deviceName, putAlert, shownAlerts, state, useStore } from "../store.js";

const TABS = [
  ["open", "Open", worstFirst],
  ["acknowledged", "Acknowledged", worstFirst],
  ["snoozed", "Snoozed", worstFirst],
  ["resolved", "Resolved today", newestFirst],
];
const KINDS = { geofence: "Geofence", limit: "Limit", anomaly: "Anomaly" };
const EMPTY = {
  open: "Nothing needs you",
  acknowledged: "Nobody is working on an alert",
  snoozed: "No alert is snoozed",
  resolved: "Nothing was resolved today",
};

export function AlertsPage({ query }) {
  useStore("alerts", "loaded", "freshness");
  useTick();
  const tab = TABS.find(([key]) => key === query.get("state")) ?? TABS[0];
  const [selected, select] = useState(null);
  const [failed, setFailed] = useState(null);
  const body = useRef(null);
  const midnight = new Date(nowUs() / 1000).setHours(0, 0, 0, 0) * 1000;
  const shown = shownAlerts().filter((a) => a.state !== "resolved" || a.changed_us >= midnight);
  const rows = shown.filter((a) => a.state === tab[0]).sort(tab[2]);

  // The snapshot holds what is not over; the rest is asked for when it is looked at.
  useEffect(() => {
    if (tab[0] !== "resolved" || !state.link.everHeard) return;
    api.alertsBy({ state: "resolved" }).then(
      (answer) => {
        answer.alerts.forEach(putAlert);
        setFailed(null);
      },
      (error) => setFailed(error.message),
    );
  }, [tab[0], state.link.everHeard, state.link.connected]);

  const step = (by) => {
    if (!rows.length) return;
    const at = rows.findIndex((a) => a.id === selected);
    select(rows[at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + by))].id);
  };
  const take = (action) => {
    if (!selected || !act(selected, action)) return false;
    const at = rows.findIndex((a) => a.id === selected);
    const next = rows[at + 1] ?? rows[at - 1];
    select(next ? next.id : null);
  };
  useKeys({
    j: () => step(1),
    k: () => step(-1),
    a: () => take("acknowledge"),
    r: () => take("resolve"),
    Enter: () => (selected ? navigate(alertAddress(selected)) : false),
    Escape: () => (selected ? select(null) : false),
  });
  useEffect(() => {
    body.current?.querySelector('[aria-current="true"]')?.scrollIntoView({ block: "nearest" });
  }, [selected]);

  const counted = (key) => shown.filter((a) => a.state === key).length;
  return html`
    <div class="page alerts">
      <h1 class="sr">Alerts</h1>
      <nav class="tabs" aria-label="Which alerts">
        ${TABS.map(
          ([key, word]) => html`<a href=${key === "open" ? "/alerts" : `/alerts?state=${key}`} aria-current=${tab[0] === key ? "page" : null}>
            ${word}${" "}${(key !== "resolved" || counted(key) > 0) && html`<span class="c tn">${counted(key)}</span>`}</a>`,
        )}
      </nav>
      ${failed && html`<div class="banner warn" role="alert"><${Icon} name="warn" /><p>Earlier resolved alerts did not load: ${failed}. What is listed is true, and may not be all.</p></div>`}
      <section class="card">
        ${
          rows.length
            ? html`<table class="al"><thead><tr><th class="c1"><span class="sr">Severity</span></th><th>Alert</th><th class="dk">Kind</th><th>Started</th><th class="dk">State</th><th><span class="sr">Actions</span></th></tr></thead>
              <tbody ref=${body}>${rows.map((alert) => html`<${Row} key=${alert.id} alert=${alert} selected=${alert.id === selected} onSelect=${select} />`)}</tbody></table>`
            : html`<${Empty} tab=${tab[0]} />`
        }
      </section>
    </div>
  `;
}

function Row({ alert, selected, onSelect }) {
  const now = nowUs();
  return html`
    <tr class=${alert.state === "open" ? "" : "done"} aria-current=${selected ? "true" : null} data-alert=${alert.id} data-state=${alert.state}
      onClick=${() => onSelect(alert.id)} onDblClick=${() => navigate(alertAddress(alert.id))}>
      <td class="c1"><${Severity} of=${alert.severity} /></td>
      <td class="what"><a class="t" href=${alertAddress(alert.id)}><${Title} text=${alert.title} /></a>
        <span class="m"><a href=${deviceAddress(alert.device)}>${deviceName(alert.device)}</a> <${Fate} alert=${alert} /></span></td>
      <td class="dk mid">${KINDS[alert.kind] ?? alert.kind}</td>
      <td class="tm tn nowrap"><span class="desk-only">${when(alert.started_us, now)} </span><span class="dim">${duration(now - alert.started_us)} <span class="desk-only">ago</span></span></td>
      <td class="dk"><${StatePill} alert=${alert} /></td>
      <td class="act"><span class="qa"><${Actions} alert=${alert} keys=${selected} /></span></td>
    </tr>
  `;
}

function Empty({ tab }) {
  if (!state.link.everHeard) return html`<div class="empty"><b>Loading alerts</b></div>`;
  return html`<div class="empty"><${Icon} name="check" /><b>${EMPTY[tab]}</b>
    <p>${plural(state.devices.size, "device")} watched; as of ${clockTime(nowUs(), false)}.</p></div>`;
}
