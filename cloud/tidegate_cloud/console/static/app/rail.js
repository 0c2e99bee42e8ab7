// The list beside the map. It holds the same facts as the map, for those who cannot or do not want to use one.
import { html, useEffect, useRef } from "./html.js";
import { sections } from "./alerts.js";
import { Actions, Age, Fate, StatePill, Title, useTick } from "./alertparts.js";
import { nowUs } from "./clock.js";
import { act } from "./commands.js";
import { clockTime, plural } from "./format.js";
import { Icon, Severity } from "./icons.js";
import { useKeys } from "./keys.js";
import { alertAddress, navigate } from "./router.js";
import { settings } from "./settings.js";
import { deviceName, shownAlerts, state, useStore } from "./store.js";

const SECTIONS = [
  ["needs", "Needs you", "worst first, then newest"],
  ["taken", "Acknowledged", "someone is on it"],
  ["record", "For the record", "no action needed"],
  ["snoozed", "Snoozed", ""],
];

const LISTED = 200; // of each

export function Rail({ selected, onSelect }) {
  useStore("alerts", "loaded", "freshness");
  useTick();
  const list = useRef(null);
  const groups = sections(shownAlerts());
  const listed = (key) => groups[key].filter((a, n) => n < LISTED || a.id === selected);
  const order = SECTIONS.flatMap(([key]) => listed(key));
  const step = (by) => {
    if (!order.length) return;
    const at = order.findIndex((a) => a.id === selected);
    const next = order[at < 0 ? 0 : Math.max(0, Math.min(order.length - 1, at + by))];
    onSelect(next.id);
  };
  // The row that is left behind may change its section: the cursor goes to what is next in the order of now.
  const after = () => {
    const open = groups.needs.filter((a) => a.id !== selected);
    const at = groups.needs.findIndex((a) => a.id === selected);
    if (at >= 0 && open.length) onSelect(open[Math.min(at, open.length - 1)].id);
  };
  const take = (action) => {
    if (!selected || !act(selected, action)) return false;
    after();
  };
  useKeys({
    j: () => step(1),
    k: () => step(-1),
    ArrowDown: (e) => (list.current.contains(e.target) ? step(1) : false),
    ArrowUp: (e) => (list.current.contains(e.target) ? step(-1) : false),
    a: () => take("acknowledge"),
    r: () => take("resolve"),
    Enter: () => (selected ? navigate(alertAddress(selected)) : false),
    Escape: () => (selected ? onSelect(null) : false),
  });
  useEffect(() => {
    list.current?.querySelector('[aria-current="true"]')?.scrollIntoView({ block: "nearest" });
  }, [selected]);
  const needs = groups.needs.length;
  const count = (severity) => groups.needs.filter((a) => a.severity === severity).length;
  return html`
    <aside class="rail" aria-label="Alerts">
      <header class="row">
        <h1 class="grow" data-testid="need-you">${state.link.everHeard ? (needs ? `${needs} need${needs === 1 ? "s" : ""} you` : "Nothing needs you") : "Alerts"}</h1>
        ${["critical", "warning"].map(
          (severity) => count(severity) > 0 && html`<span class="row tally"><${Severity} of=${severity} /><b class="tn">${count(severity)}</b></span>`,
        )}
      </header>
      <div class="list" ref=${list}>
        ${!state.link.everHeard && html`<${Skeleton} />`}
        ${state.link.everHeard && !order.length && html`<${Quiet} />`}
        ${SECTIONS.map(
          ([key, title, note]) =>
            groups[key].length > 0 &&
            html`<section key=${key} aria-label=${title}>
              <h2 class="lh"><span>${title}</span><span class="dim">${note}</span></h2>
              <ul>${listed(key).map((alert) => html`<${Row} key=${alert.id} alert=${alert} selected=${alert.id === selected} onSelect=${onSelect} onAct=${after} />`)}</ul>
              ${groups[key].length > LISTED && html`<p class="more small dim"><a href="/alerts">${plural(groups[key].length - LISTED, "alert")} more</a> in the list of all</p>`}
            </section>`,
        )}
      </div>
      ${
        settings.keys &&
        html`<footer class="desk-only" aria-hidden="true"><span><kbd>j</kbd><kbd>k</kbd> move</span><span><kbd>a</kbd> acknowledge</span><span><kbd>r</kbd> resolve</span><span class="grow"></span><span><kbd>?</kbd> keys</span></footer>`
      }
    </aside>
  `;
}

function Row({ alert, selected, onSelect, onAct }) {
  const over = alert.state !== "open";
  return html`
    <li class="ar ${over ? "done" : ""}" aria-current=${selected ? "true" : null} data-alert=${alert.id} data-state=${alert.state}
      onClick=${() => onSelect(alert.id)}>
      <${Severity} of=${alert.severity} />
      <a class="t" href=${alertAddress(alert.id)} onClick=${(event) => {
        if (event.detail && !selected) event.preventDefault(); // a first click selects; a second, or Enter, opens
      }}><${Title} text=${alert.title} /></a>
      <${Age} us=${alert.started_us} />
      <div class="m"><b>${deviceName(alert.device)}</b>${over && html`<${StatePill} alert=${alert} />`}<${Fate} alert=${alert} /></div>
      ${selected && html`<div class="acts"><${Actions} alert=${alert} onAct=${onAct} keys /></div>`}
    </li>
  `;
}

function Quiet() {
  const devices = state.devices.size;
  return html`<div class="empty"><${Icon} name="check" /><b>Nothing needs you</b>
    <p>${devices ? `${plural(devices, "device")} watched` : "No device has reported yet"}; as of ${clockTime(nowUs(), false)}.</p></div>`;
}

const Skeleton = () => html`<div class="skels" aria-hidden="true">${[0, 1, 2, 3].map(() => html`<div class="skr"><i class="skel"></i><i class="skel"></i></div>`)}</div>`;
