// All alerts: open, acknowledged, snoozed, and what was resolved today. Which ones are shown stands in the address. One
// fault on many devices is one row, with its alerts beneath it when they are asked for.
import { html, useEffect, useRef, useState } from "../html.js";
import * as api from "../api.js";
import { SEVERITIES, newestFirst, rowsOf, worstFirst } from "../alerts.js";
import { Actions, Fate, StatePill, Title, useTick } from "../alertparts.js";
import { nowUs } from "../clock.js";
import { act, actOn } from "../commands.js";
import { clockTime, duration, number, plural, when } from "../format.js";
import { Icon, Severity } from "../icons.js";
import { useKeys } from "../keys.js";
import { alertAddress, deviceAddress, navigate } from "../router.js";
import { SnoozeMenu } from "../snooze.js";
import { deviceName, may, putAlert, shownAlerts, shownGroups, state, useStore } from "../store.js";

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
const LOUD = { critical: 0, warning: 1 };
const isGroup = (thing) => thing.alerts !== undefined;

/** The address of this page with some of its choices changed; what is usual is left out. */
function addressWith(query, changes) {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
  return `/alerts${next.size ? `?${next}` : ""}`;
}

export function AlertsPage({ query }) {
  useStore("alerts", "groups", "loaded", "freshness", "session");
  useTick();
  const tab = TABS.find(([key]) => key === query.get("state")) ?? TABS[0];
  const flat = query.get("flat") === "1" || tab[0] === "resolved";
  const severity = query.get("severity");
  const text = (query.get("q") ?? "").toLowerCase();
  const [selected, select] = useState(null);
  const [marked, mark] = useState(new Set());
  const [opened, open] = useState(null); // the group whose alerts are shown
  const [snoozing, snooze] = useState(false);
  const [failed, setFailed] = useState(null);
  const body = useRef(null);
  const midnight = new Date(nowUs() / 1000).setHours(0, 0, 0, 0) * 1000;
  const shown = shownAlerts().filter((a) => a.state !== "resolved" || a.changed_us >= midnight);
  const matches = (thing) => (!severity || thing.severity === severity) && (!text || `${thing.title} ${thing.device ?? ""} ${deviceName(thing.device ?? "")} ${thing.rule} ${thing.subject ?? ""}`.toLowerCase().includes(text));
  const all = rowsOf(shown, flat ? [] : shownGroups(), flat);
  const rows = all.filter((a) => a.state === tab[0] && matches(a)).sort(tab[2]);
  const hidden = all.filter((a) => a.state === tab[0]).length - rows.length;

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
  useEffect(() => mark(new Set()), [tab[0]]);

  const step = (by) => {
    if (!rows.length) return;
    const at = rows.findIndex((a) => a.id === selected);
    select(rows[at < 0 ? 0 : Math.max(0, Math.min(rows.length - 1, at + by))].id);
  };
  const onward = () => {
    const at = rows.findIndex((a) => a.id === selected);
    select((rows[at + 1] ?? rows[at - 1])?.id ?? null);
  };
  const take = (action, more) => {
    if (marked.size) {
      if (!actOn([...marked], action, more)) return false;
      mark(new Set());
      return;
    }
    if (!selected || !act(selected, action, more)) return false;
    onward();
  };
  const turn = (id) => {
    const next = new Set(marked);
    next.has(id) ? next.delete(id) : next.add(id);
    mark(next);
  };
  const enter = () => {
    const row = rows.find((a) => a.id === selected);
    if (!row) return false;
    isGroup(row) ? open(opened === row.id ? null : row.id) : navigate(alertAddress(row.id));
  };
  const acts = may("act");
  useKeys({
    j: () => step(1),
    k: () => step(-1),
    a: () => take("acknowledge"),
    r: () => take("resolve"),
    f: () => take("false-alarm"),
    s: () => (acts && (marked.size || selected) ? snooze(true) : false),
    x: () => (selected ? turn(selected) : false),
    Enter: enter,
    Escape: () => (marked.size ? mark(new Set()) : selected ? select(null) : false),
  });
  useEffect(() => {
    body.current?.querySelector('[aria-current="true"]')?.scrollIntoView({ block: "nearest" });
  }, [selected]);

  const counted = (key) => all.filter((a) => a.state === key).length;
  const row = (alert) => html`<${Row} key=${alert.id} alert=${alert} selected=${alert.id === selected} marked=${marked.has(alert.id)} open=${opened === alert.id}
    onSelect=${select} onMark=${turn} onOpen=${(id) => open(opened === id ? null : id)} acts=${acts} />`;
  const calm = tab[0] === "open" ? rows.filter((a) => !(a.severity in LOUD)) : [];
  const loud = tab[0] === "open" ? rows.filter((a) => a.severity in LOUD) : rows;
  return html`
    <div class="page alerts">
      <h1 class="sr">Alerts</h1>
      <nav class="tabs" aria-label="Which alerts">
        ${TABS.map(
          ([key, word]) => html`<a href=${addressWith(query, { state: key === "open" ? "" : key })} aria-current=${tab[0] === key ? "page" : null}>
            ${word}${" "}${(key !== "resolved" || counted(key) > 0) && html`<span class="c tn">${counted(key)}</span>`}</a>`,
        )}
        <a class="sil" href="/silences"><${Icon} name="mute" />Silences</a>
      </nav>
      <div class="bar filters" role="group" aria-label="Filters">
        ${Object.entries(SEVERITIES).map(([key, word]) => html`<button class="chip ${severity === key ? "set" : ""}" aria-pressed=${severity === key} onClick=${() => navigate(addressWith(query, { severity: severity === key ? "" : key }), { replace: true })}>${word}</button>`)}
        <input class="inp words" type="search" aria-label="Words in title, device or rule" placeholder="Title, device or rule" value=${query.get("q") ?? ""} onInput=${(event) => navigate(addressWith(query, { q: event.target.value }), { replace: true })} />
        ${tab[0] !== "resolved" && html`<label class="row small mid"><input type="checkbox" class="switch" role="switch" checked=${!flat} onChange=${() => navigate(addressWith(query, { flat: flat ? "" : "1" }), { replace: true })} />Group one fault as one row</label>`}
      </div>
      ${failed && html`<div class="banner warn" role="alert"><${Icon} name="warn" /><p>Earlier resolved alerts did not load: ${failed}. What is listed is true, and may not be all.</p></div>`}
      <section class="card">
        ${
          rows.length
            ? html`<table class="al"><thead><tr><th class="c0"><span class="sr">Mark</span></th><th class="c1"><span class="sr">Severity</span></th><th>Alert</th><th class="dk">Kind</th><th>Started</th><th class="dk">State</th><th><span class="sr">Actions</span></th></tr></thead>
              <tbody ref=${body}>${calm.length > 0 && loud.length > 0 && html`<${Section} title="Needs you" note="worst first, then newest" />`}${loud.map(row)}
                ${calm.length > 0 && html`<${Section} title="For the record" note="no action needed" />`}${calm.map(row)}</tbody></table>`
            : html`<${Empty} tab=${tab[0]} hidden=${hidden} />`
        }
      </section>
      ${marked.size > 0 && html`<div class="bulk float" role="group" aria-label="Act on what is marked"><span class="med" role="status">${marked.size} marked</span>
        <button class="btn pri" onClick=${() => take("acknowledge")}>Acknowledge</button><button class="btn" onClick=${() => snooze(true)}>Snooze</button><button class="btn" onClick=${() => take("resolve")}>Resolve</button>
        <button class="btn desk-only" onClick=${() => take("false-alarm")}>False alarm</button><button class="btn quiet" onClick=${() => mark(new Set())}>Clear</button></div>`}
      ${snoozing && html`<div class="pop key"><${SnoozeMenu} onChoose=${(untilUs) => take("snooze", { untilUs })} onClose=${() => snooze(false)} /></div>`}
    </div>
  `;
}

const Section = ({ title, note }) => html`<tr class="sec"><td colspan="7">${title} <span class="dim">${note}</span></td></tr>`;

function Row({ alert, selected, marked, open, onSelect, onMark, onOpen, acts }) {
  const now = nowUs();
  const group = isGroup(alert);
  const go = () => (group ? onOpen(alert.id) : navigate(alertAddress(alert.id)));
  return html`
    <tr class=${alert.state === "open" ? "" : "done"} aria-current=${selected ? "true" : null} data-alert=${group ? null : alert.id} data-group=${group ? alert.id : null} data-state=${alert.state}
      onClick=${() => onSelect(alert.id)} onDblClick=${go}>
      <td class="c0">${acts && html`<input type="checkbox" aria-label="Mark ${alert.title}" checked=${marked} onClick=${(event) => event.stopPropagation()} onChange=${() => onMark(alert.id)} />`}</td>
      <td class="c1"><${Severity} of=${alert.severity} /></td>
      <td class="what">${group ? html`<button class="link t" aria-expanded=${open} onClick=${(event) => (event.stopPropagation(), onSelect(alert.id), onOpen(alert.id))}><${Title} text=${alert.title} /></button>` : html`<a class="t" href=${alertAddress(alert.id)}><${Title} text=${alert.title} /></a>`}
        <span class="m">${group ? html`<b class="med">${plural(alert.count, "device")}</b> <span class="dim">${alert.unresolved < alert.count ? `${number(alert.count - alert.unresolved)} came back` : "one fault"}</span>` : html`<a href=${deviceAddress(alert.device)}>${deviceName(alert.device)}</a>`} <${Fate} alert=${alert} /></span></td>
      <td class="dk mid">${KINDS[alert.kind] ?? alert.kind}</td>
      <td class="tm tn nowrap"><span class="desk-only">${when(alert.started_us, now)} </span><span class="dim">${duration(now - alert.started_us)} <span class="desk-only">ago</span></span></td>
      <td class="dk"><${StatePill} alert=${alert} /></td>
      <td class="act">${acts && html`<span class="qa"><${Actions} alert=${alert} keys=${selected} all /></span>`}</td>
    </tr>
    ${group && open && html`<tr class="x"><td colspan="7"><${Storm} group=${alert} /></td></tr>`}
  `;
}

/** The alerts of a group: a square for each, and a list. */
function Storm({ group }) {
  const [found, set] = useState(null);
  const [failed, setFailed] = useState("");
  useEffect(() => {
    let gone = false;
    api.alertsBy({ group: group.id, limit: 1000 }).then((answer) => !gone && set(answer), (error) => !gone && setFailed(error.message));
    return () => void (gone = true);
  }, [group.id, group.version, group.count]);
  if (!found) return html`<p class="mid">${failed ? `Its alerts did not load: ${failed}` : "Loading its alerts"}</p>`;
  const alerts = found.alerts.map((a) => state.alerts.get(a.id) ?? a).sort((a, b) => (a.state === "resolved") - (b.state === "resolved") || a.started_us - b.started_us || (a.id < b.id ? -1 : 1));
  const over = alerts.filter((a) => a.state === "resolved").length;
  const shared = Object.entries(group.shared);
  return html`<div class="storm"><div>
      <p class="row small"><b class="med">${number(alerts.length - over)} not over</b>${over > 0 && html`<span class="t-ok">${number(over)} came back</span>`}<span class="dim">one square is one device</span></p>
      <div class="dots" aria-hidden="true">${alerts.map((a) => html`<i class=${a.state === "resolved" ? "a" : a.state === "open" ? "f" : "g"}></i>`)}</div>
      <ul class="members" aria-label="Its alerts">${alerts.slice(0, 200).map((a) => html`<li key=${a.id} data-member=${a.id}><${Severity} of=${a.severity} quiet /><a class="med" href=${alertAddress(a.id)}>${deviceName(a.device)}</a><span class="clip mid">${a.title}</span><${StatePill} alert=${a} /></li>`)}</ul>
      ${found.total > 200 && html`<p class="small dim">${number(found.total - 200)} more are not listed.</p>`}</div>
    <div><h3>Why this is one alert</h3><ul class="why">${shared.map(([name, value]) => html`<li>All have the same ${name.replace("attrs.", "").replace("_", " ")}: ${value}</li>`)}<li>${plural(group.count, "device")}, from ${clockTime(group.started_us)} to ${clockTime(group.newest_us)}</li><li>What is done to the group is done to each of its alerts</li></ul></div></div>`;
}

function Empty({ tab, hidden }) {
  if (!state.link.everHeard) return html`<div class="empty"><b>Loading alerts</b></div>`;
  if (hidden) return html`<div class="empty"><${Icon} name="search" /><b>No alert is like that</b><p>${plural(hidden, "alert")} hidden by these filters.</p><a class="btn" href=${tab === "open" ? "/alerts" : `/alerts?state=${tab}`}>Clear filters</a></div>`;
  return html`<div class="empty"><${Icon} name="check" /><b>${EMPTY[tab]}</b>
    <p>${plural(state.devices.size, "device")} watched; as of ${clockTime(nowUs(), false)}.</p></div>`;
}
