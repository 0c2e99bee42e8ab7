// One device: when it was last heard, its channels with their last hour, its alerts, where it is.
import { html, useEffect, useState } from "../html.js";
import * as api from "../api.js";
import { newestFirst } from "../alerts.js";
import { StatePill, useTick } from "../alertparts.js";
import { ChannelChart } from "../channelchart.js";
import { nowUs } from "../clock.js";
import { channelName, direction, duration, plural, quantity, speed, when } from "../format.js";
import { isMoving, presence } from "../freshness.js";
import { DeviceMark, Icon, PRESENCE, Severity } from "../icons.js";
import { useWatched } from "../places.js";
import { alertAddress, mapAddress, navigate } from "../router.js";
import { Spark } from "../spark.js";
import { putDevices, shownAlerts, state, useStore } from "../store.js";

/** What a position consists of comes last: charts of latitude are rarely what is looked for. */
const LAST = ["heading", "accuracy", "lat", "lon"];
const rank = (name) => LAST.indexOf(name);

export function DevicePage({ id }) {
  useStore("positions", "alerts", "loaded");
  useTick(1000);
  useWatched(id);
  const [failed, setFailed] = useState(null);
  const chosen = new URLSearchParams(location.search).get("channel");
  const [channel, setChannel] = useState(chosen);

  useEffect(() => {
    if (state.devices.has(id) || !state.link.everHeard) return;
    api.deviceById(id).then((device) => putDevices([device]), setFailed);
  }, [id, state.link.everHeard]);

  const device = state.devices.get(id);
  if (!device) {
    if (!failed) return html`<div class="page"><div class="card empty"><b>Loading the device</b></div></div>`;
    return html`<div class="page"><div class="card empty"><${Icon} name="truck" />
      <b>${failed.status === 404 ? `${id} has never reported` : "The device did not load"}</b>
      <p>${failed.status === 404 ? "Check the name, or wait for its first reading." : failed.message}</p><a class="btn" href="/devices">All devices</a></div></div>`;
  }
  const now = nowUs();
  const how = presence(device, now);
  const channels = Object.keys(device.readings ?? {}).sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
    const alerts = shownAlerts().filter((a) => a.device === id).sort(newestFirst);
  const open = alerts.filter((a) => a.state === "open");
  // What an alert is about is what the reader came for.
  const shown = [channel, ...open.map((a) => state.rules.find((r) => r.id === a.subject)?.channel ?? a.subject), channels[0]].find((name) => channels.includes(name));
  const choose = (name) => {
    setChannel(name);
    navigate(`${location.pathname}?channel=${encodeURIComponent(name)}`, { replace: true });
  };
  return html`
    <div class="page device">
      <header class="idh">
        <div class="grow"><h1><${DeviceMark} presence=${how} moving=${isMoving(device)} />${device.name || id}
          ${open.length > 0 && html`<span class="pill ${open.some((a) => a.severity === "critical") ? "crit" : "warn"}">${plural(open.length, "open alert")}</span>`}</h1>
          <p class="sub">${[device.type, device.group, device.name && device.name !== id ? id : ""].filter(Boolean).join(", ") || "Not named in the registry"}</p></div>
        <div class="heard"><span class="med ${how === "ok" ? "" : how === "stale" ? "t-stale" : "t-off"}">${how === "ok" ? "" : `${PRESENCE[how]}. `}${device.heard_us === null ? "Never heard" : html`Last heard ${duration(now - device.heard_us)} ago`}</span>
          <span class="small dim">${how !== "ok" || device.speed === null ? `newest reading of ${device.ts_us === null ? "–" : when(device.ts_us, now)}` : `${speed(device.speed)}${isMoving(device) && device.heading !== null ? ` ${direction(device.heading)}` : ""}`}</span></div>
        ${device.lat !== null && device.lat !== undefined && html`<a class="btn big" href=${mapAddress(id)}>Show on map</a>`}
      </header>
      <div class="stack">
        ${
          shown
            ? html`<section class="card"><header><h2>${channelName(shown)}</h2><span class="grow"></span><span class="dim">last hour</span></header>
                <div class="b"><${ChannelChart} key=${shown} device=${id} channel=${shown} /></div></section>`
            : html`<section class="card empty"><b>No reading yet</b></section>`
        }
        <section class="card"><header><h2>Channels</h2><span class="dim">${plural(channels.length, "channel")}</span></header>
          <table class="chn"><thead><tr><th>Channel</th><th class="num">Now</th><th class="dk">Last hour</th></tr></thead>
            <tbody>${channels.map(
              (name) => html`<tr key=${name} aria-current=${name === shown ? "true" : null} onClick=${() => choose(name)}>
                <td><button class="link med" aria-pressed=${name === shown} onClick=${() => choose(name)}>${channelName(name)}</button></td>
                <td class="num tn now">${quantity(device.readings[name].value, device.readings[name].unit)}</td>
                <td class="dk"><${Spark} device=${id} channel=${name} /></td></tr>`,
            )}</tbody></table></section>
      </div>
      <div class="stack">
        <section class="card"><header><h2>Alerts</h2></header>
          <div class="b">${alerts.length ? html`<ul class="rel">${alerts.slice(0, 20).map(
            (a) => html`<li key=${a.id}><a href=${alertAddress(a.id)}><${Severity} of=${a.severity} /><span class="t">${a.title}</span><${StatePill} alert=${a} />
              <span class="why">${when(a.started_us, now)}</span></a></li>`,
          )}</ul>` : html`<p class="dim">None that is not over.</p>`}</div></section>
        <section class="card"><header><h2>Identity</h2></header><div class="b"><dl class="facts">
          <dt>Id</dt><dd class="mono">${id}</dd>
          ${device.type && html`<dt>Type</dt><dd>${device.type}</dd>`}${device.group && html`<dt>Group</dt><dd>${device.group}</dd>`}
          ${device.heard_us !== null && html`<dt>Newest reading</dt><dd class="tn">${when(device.ts_us, now)}</dd><dt>Arrived</dt><dd class="tn">${when(device.heard_us, now)}</dd>`}</dl></div></section>
      </div>
    </div>
  `;
}
