// One alert: what happened in a sentence, the number, where, and everything that was done about it.
import { html, useEffect, useRef, useState } from "../html.js";
import * as api from "../api.js";
import { ACTIONS, SEVERITIES, STATES, mutedWords, withPending } from "../alerts.js";
import { Actions, Fate, StatePill, Title, useTick } from "../alertparts.js";
import { nowUs } from "../clock.js";
import { act } from "../commands.js";
import { channelName, delay, duration, quantity, when } from "../format.js";
import { Icon } from "../icons.js";
import { useKeys } from "../keys.js";
import { SnoozeMenu } from "../snooze.js";
import { SmallMap } from "../map/smallmap.js";
import { deviceAddress, mapAddress, silenceAddress } from "../router.js";
import { ChannelChart } from "../channelchart.js";
import { deviceName, may, putAlert, state, useStore } from "../store.js";

// What the log calls an action, as a sentence says it.
const PAST = {
  opened: "Opened",
  acknowledged: "Acknowledged",
  resolved: "Resolved",
  snoozed: "Snoozed",
  woke: "Woke from its snooze",
  reopened: "Opened again",
  commented: "Comment",
  attached: "Happened again",
  ended: "Condition ended",
  "false-alarm": "Called a false alarm",
  muted: "Hidden",
  unmuted: "Came out",
  flapping: "Flaps",
  settled: "Settled",
  joined: "Joined a group",
  told: "People were told",
  corrected: "Corrected by the full record",
  confirmed: "Confirmed by the full record",
  recorded: "Learnt late, for the record",
};

export function AlertPage({ id }) {
  useStore("alerts", "loaded");
  useTick(2000);
  const [answer, setAnswer] = useState(null);
  const [failed, setFailed] = useState(null);
  const version = state.alerts.get(id)?.version;

  useEffect(() => {
    let gone = false;
    api.alertById(id).then(
      (found) => {
        if (gone) return;
        const alert = found.alert ?? found;
        setAnswer({ alert, transitions: found.transitions ?? [] });
        setFailed(null);
        if (!state.alerts.has(id)) putAlert(alert);
      },
      (error) => !gone && setFailed(error),
    );
    return () => void (gone = true);
  }, [id, version, state.link.connected]);

  const known = state.alerts.get(id) ?? answer?.alert;
  const alert = known && withPending(known, state.pending.get(id));
  const [snoozing, snooze] = useState(false);
  const words = useRef(null);
  const acts = may("act");
  useKeys({
    a: () => act(id, "acknowledge"),
    r: () => act(id, "resolve"),
    f: () => act(id, "false-alarm"),
    s: () => (acts && alert?.state !== "resolved" ? snooze(true) : false),
    c: () => (words.current ? words.current.focus() : false),
  });

  if (!alert) {
    if (!failed) return html`<div class="page"><div class="card empty"><b>Loading the alert</b></div></div>`;
    return html`<div class="page"><div class="card empty"><${Icon} name="warn" />
      <b>${failed.status === 404 ? "There is no such alert" : "The alert did not load"}</b>
      <p>${failed.status === 404 ? "It may be older than what is kept." : `${failed.message}. It is tried again when the link is back.`}</p>
      <a class="btn" href="/alerts">All alerts</a></div></div>`;
  }
  const now = nowUs();
  const name = deviceName(alert.device);
  const end = alert.ended_us ?? null;
  const channel = chartChannel(alert);
  return html`
    <div class="page alert">
      <header class="head">
        <div>
          <div class="tags"><span class="pill ${tone(alert)}">${SEVERITIES[alert.severity]}</span><${StatePill} alert=${alert} />
            <a class="med" href=${deviceAddress(alert.device)}>${name}</a><${Fate} alert=${alert} /></div>
          <h1><${Title} text=${alert.title} /></h1>
          <p class="lead">${sentence(alert, name, now)}</p>
        </div>
        ${acts && html`<div class="actions"><${Actions} alert=${alert} keys big all /></div>`}
        ${snoozing && html`<div class="pop key"><${SnoozeMenu} onChoose=${(untilUs) => act(id, "snooze", { untilUs })} onClose=${() => snooze(false)} /></div>`}
      </header>
      <div class="stack">
        <section class="card">
          <header><h2>${channel ? channelName(channel) : "What was measured"}</h2></header>
          <div class="b"><div class="kpis">
            ${alert.value !== null && alert.value !== undefined && html`<div><b class=${alert.state === "open" ? "t-crit" : ""}>${quantity(alert.value, alert.unit)}</b>when it began</div>`}
            ${alert.limit !== null && alert.limit !== undefined && html`<div><b>${quantity(alert.limit, alert.unit)}</b>limit</div>`}
            <div><b>${duration((end ?? now) - alert.started_us)}</b>${end ? "it lasted" : "so far"}</div>
            <div><b>${delay((alert.opened_us - alert.started_us) / 1000)}</b>from reading to alert</div>
          </div>
          ${channel && html`<${ChannelChart} device=${alert.device} channel=${channel} episode=${[alert.started_us, end]} limit=${alert.limit} height=${220} />`}
          </div>
        </section>
        ${alert.lat !== null && alert.lat !== undefined && html`<section class="card mapcard"><header><h2>Where it began</h2><span class="grow"></span><a class="small" href=${mapAddress(alert.device)}>Open on the live map</a></header>
          <${SmallMap} alert=${alert} /></section>`}
      </div>
      <div class="stack side">
        <section class="card"><header><h2>Time line</h2></header>
          <div class="b"><${TimeLine} alert=${alert} transitions=${answer?.transitions ?? []} failed=${failed} now=${now} />${acts && html`<${Comment} id=${id} field=${words} />`}</div></section>
        <section class="card"><header><h2>Identity</h2></header><div class="b"><dl class="facts">
          <dt>Device</dt><dd class="mono">${alert.device}</dd><dt>Rule</dt><dd class="mono">${alert.rule}</dd>
          ${alert.subject && alert.subject !== alert.rule && html`<dt>About</dt><dd class="mono">${alert.subject}</dd>`}
          <dt>Events</dt><dd>${alert.events}</dd><dt>Began</dt><dd>${when(alert.started_us, now)}</dd>
          ${alert.group && html`<dt>Part of</dt><dd><a href="/alerts">one fault on many devices</a></dd>`}
          <dt>Quiet</dt><dd><a href=${silenceAddress({ device: alert.device, rule: alert.rule })}>Silence alerts like this</a></dd>
          <dt>Alert</dt><dd class="mono" title=${alert.id}>${alert.id.slice(0, 8)}</dd></dl></div></section>
      </div>
      ${acts && html`<div class="bottom"><${Actions} alert=${alert} keys big all /></div>`}
    </div>
  `;
}

const tone = (alert) => ({ critical: "crit", warning: "warn", notice: "" })[alert.severity];

/** The channel that an alert is about: a limit's subject is its rule, an anomaly's is the channel itself. */
function chartChannel(alert) {
  const readings = state.devices.get(alert.device)?.readings ?? {};
  const rule = state.rules.find((r) => r.id === alert.subject);
  return [rule?.channel, alert.subject].find((name) => name in readings) ?? null;
}

function sentence(alert, name, now) {
  const began = `${name}: began at ${when(alert.started_us, now)}`;
  const lasted = alert.ended_us ? `, and ended by itself after ${duration(alert.ended_us - alert.started_us)}` : ", and goes on";
  const held =
    alert.state === "open"
      ? " Nobody has it yet."
      : alert.state === "acknowledged"
        ? ` ${alert.who || "Someone"} has it.`
        : alert.state === "resolved" && alert.who && alert.who !== "system"
          ? ` ${alert.who} resolved it.`
          : "";
  const muted = alert.state === "resolved" ? null : mutedWords(alert);
  if (muted) return `${began}${lasted}. ${muted[1]}.`;
  return `${began}${alert.state === "resolved" && !alert.ended_us ? "" : lasted}.${held}`;
}

function Comment({ id, field }) {
  const [text, set] = useState("");
  const send = (event) => {
    event.preventDefault();
    if (text.trim() && act(id, "comment", { why: text.trim() })) set("");
  };
  return html`<form class="comment" onSubmit=${send}><input class="inp" ref=${field} aria-label="Comment" placeholder="What others should know" maxlength="500" value=${text} onInput=${(e) => set(e.target.value)} /><button class="btn">Comment</button></form>`;
}

function TimeLine({ alert, transitions, failed, now }) {
  const rows = [...transitions].sort((a, b) => b.version - a.version);
  const { pending } = alert;
  if (!rows.length && failed) return html`<p class="dim">The history did not load: ${failed.message}.</p>`;
  return html`<ol class="tl">
    ${pending && pending.status !== "refused" && html`<li><span class="pt acc"></span><div><b>${ACTIONS[pending.action].done} by ${pending.who}</b><div class="why">on its way</div></div><time>now</time></li>`}
    ${rows.map(
      (t) => html`<li key=${t.version}><span class="pt ${t.to_state === "open" ? "crit" : t.to_state === "resolved" ? "ok" : "acc"}"></span>
        <div><b>${PAST[t.action] ?? STATES[t.to_state] ?? t.action}${t.who && t.who !== "system" ? ` by ${t.who}` : ""}</b>${t.why && html`<div class="why">${t.why}</div>`}</div>
        <time>${when(t.ts_us, now)}</time></li>`,
    )}
    ${!rows.length && !pending && html`<li><span class="pt crit"></span><div><b>Opened</b></div><time>${when(alert.opened_us, now)}</time></li>`}
  </ol>`;
}
