// Every device that ever reported here, those that need a look first.
import { html, useState } from "../html.js";
import { worstByDevice } from "../alerts.js";
import { useTick } from "../alertparts.js";
import { nowUs } from "../clock.js";
import { duration, plural, speed } from "../format.js";
import { isMoving, presence } from "../freshness.js";
import { DeviceMark, Icon, PRESENCE, Severity } from "../icons.js";
import { alertAddress, deviceAddress } from "../router.js";
import { shownAlerts, state, useStore } from "../store.js";

const ORDER = { offline: 1, stale: 2, ok: 3 };
const PAGE = 100;

export function DevicesPage() {
  useStore("positions", "alerts", "loaded", "freshness");
  useTick(2000);
  const [only, setOnly] = useState("all");
  const [limit, setLimit] = useState(PAGE);
  const now = nowUs();
  const worst = worstByDevice(shownAlerts());
  const devices = Array.from(state.devices.values(), (device) => ({ device, how: presence(device, now), alert: worst.get(device.id) }));
  const rank = (row) => (row.alert ? 0 : ORDER[row.how]);
  const rows = devices
    .filter((row) => only === "all" || (only === "alert" ? row.alert : row.how === only))
    .sort((a, b) => rank(a) - rank(b) || a.device.id.localeCompare(b.device.id, "en", { numeric: true }));
  const count = (wanted) => devices.filter((row) => (wanted === "alert" ? row.alert : row.how === wanted)).length;
  const filter = (key, word, n) => html`<button class="chip ${only === key ? "set" : ""}" aria-pressed=${only === key} onClick=${() => setOnly(key)}>${word} <span class="tn">${n.toLocaleString("en")}</span></button>`;
  return html`
    <div class="page devices">
      <h1 class="sr">Devices</h1>
      <div class="bar" role="group" aria-label="Which devices">
        ${filter("all", "All", devices.length)}${filter("alert", "In alert", count("alert"))}${filter("stale", "Stale", count("stale"))}${filter("offline", "Offline", count("offline"))}
      </div>
      <section class="card">
        ${
          rows.length
            ? html`<table><thead><tr><th>Device</th><th>State</th><th class="num">Last heard</th><th class="num dk">Speed</th><th class="dk">Group</th><th class="dk">Alert</th></tr></thead>
              <tbody>${rows.slice(0, limit).map((row) => html`<${Row} key=${row.device.id} ...${row} now=${now} />`)}</tbody></table>
              ${rows.length > limit && html`<div class="more"><button class="btn" onClick=${() => setLimit(limit + PAGE)}>Show more; ${plural(rows.length - limit, "device")} not listed</button></div>`}`
            : html`<${Empty} total=${devices.length} onAll=${() => setOnly("all")} />`
        }
      </section>
    </div>
  `;
}

const Row = ({ device, how, alert, now }) => html`
  <tr>
    <td><span class="row"><${DeviceMark} presence=${how} moving=${how === "ok" && isMoving(device)} /><a class="med" href=${deviceAddress(device.id)}>${device.name || device.id}</a>
      ${device.name && device.name !== device.id && html`<span class="dim small mono dk">${device.id}</span>`}</span></td>
    <td class=${how === "ok" ? "mid" : how === "stale" ? "t-stale" : "t-off"}>${PRESENCE[how]}</td>
    <td class="num tn">${device.heard_us === null ? "never" : duration(now - device.heard_us)}</td>
    <td class="num tn dk">${how === "ok" ? speed(device.speed) : "–"}</td>
    <td class="dk mid">${device.group}</td>
    <td class="dk">${alert && html`<a class="row" href=${alertAddress(alert.id)}><${Severity} of=${alert.severity} /><span class="clip">${alert.title}</span></a>`}</td>
  </tr>
`;

function Empty({ total, onAll }) {
  if (!state.link.everHeard) return html`<div class="empty"><b>Loading devices</b></div>`;
  if (total) return html`<div class="empty"><${Icon} name="search" /><b>No device is like that</b><p>${plural(total, "device")} hidden by this choice.</p><button class="btn" onClick=${onAll}>Show all</button></div>`;
  return html`<div class="empty"><${Icon} name="truck" /><b>No device has reported yet</b><p>A device is listed here as soon as its first reading arrives.</p></div>`;
}
