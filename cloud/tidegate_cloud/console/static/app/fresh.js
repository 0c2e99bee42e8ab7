// The chip and the line under the top bar that say whether the page shows what is now.
import { html, useEffect, useState } from "./html.js";
import { nowUs } from "./clock.js";
import { clockTime, delay, duration } from "./format.js";
import { freshness } from "./freshness.js";
import { retryNow } from "./live.js";
import { changed, state, subscribe } from "./store.js";

function look() {
  const heardAgoMs = performance.now() - state.link.heardAt;
  const behindMs = state.health?.behind_ms ?? null;
  const kafka = state.health?.kafka ?? "up";
  return {
    state: freshness({ ...state.link, heardAgoMs, behindMs, kafka }),
    kafka,
    stage: slowest(state.health?.stages ?? []),
    behindMs,
    ageMs: newestAgeMs(),
    asOfUs: state.link.dataAsOfUs,
    blindMs: heardAgoMs,
    retryS: state.link.retryAt === null ? null : Math.max(0, Math.ceil((state.link.retryAt - performance.now()) / 1000)),
  };
}

/** How old the newest reading of the whole fleet is. */
function newestAgeMs() {
  let newest = 0;
  for (const device of state.devices.values()) if (device.ts_us > newest) newest = device.ts_us;
  return newest ? Math.max(0, (nowUs() - newest) / 1000) : null;
}

/** The stage that waits longest, where one does. */
function slowest(stages) {
  const slow = stages.filter((s) => s.behind_ms > 1000).sort((a, b) => b.behind_ms - a.behind_ms);
  return slow[0]?.name ?? null;
}

let shown = look();

/** The state of freshness, kept by the second and at once when the link changes. */
export function useFreshness() {
  const [fresh, set] = useState(shown);
  useEffect(() => {
    const refresh = () => {
      const next = look();
      if (next.state !== shown.state) changed("freshness", next.state);
      shown = next;
      set(next);
    };
    const timer = setInterval(refresh, 1000);
    const stop = subscribe(["link", "loaded", "health"], refresh);
    return () => {
      clearInterval(timer);
      stop();
    };
  }, []);
  return fresh;
}

export const freshState = () => shown.state;

const WORDS = {
  loading: () => ["Loading", ""],
  live: (f) => ["Live", f.ageMs === null ? "" : `data ${delay(f.ageMs)} old`],
  behind: (f) => ["Behind", f.kafka === "up" ? `${delay(f.behindMs)}${f.stage ? `, ${f.stage}` : ""}` : "Kafka does not answer"],
  reconnecting: (f) => ["Reconnecting", f.asOfUs ? `data as of ${clockTime(f.asOfUs)}` : "no data yet"],
  dead: (f) => ["Not live", f.asOfUs ? `since ${clockTime(f.asOfUs)}` : ""],
};

export function FreshChip({ fresh }) {
  const [word, rest] = WORDS[fresh.state](fresh);
  const down = fresh.state === "reconnecting" || fresh.state === "dead";
  return html`
    <div class="fresh" data-testid="freshness">
      <span class="dot" aria-hidden="true"></span>
      <span><b role="status">${word}</b> <span class="rest">${rest}</span></span>
      ${down && html`<button class="link" onClick=${retryNow}>Try now</button>`}
    </div>
  `;
}

/** A banner for pages: what a break means for the reader. Nothing while all is well. */
export function FreshBanner({ fresh }) {
  if (fresh.state === "reconnecting" && fresh.asOfUs)
    return html`<div class="banner float" role="note">
      <div><p><span class="med">Frozen at ${clockTime(fresh.asOfUs)}.</span>
        ${fresh.retryS ? ` Trying again in ${fresh.retryS}\u00a0s.` : " Trying again now."}</p>
      <p class="small">You can still acknowledge; it is sent when the link is back.</p></div>
    </div>`;
  if (fresh.state === "dead")
    return html`<div class="banner crit float" role="note">
      <div><p><span class="med">This screen has been blind for ${duration(fresh.blindMs * 1000)}.</span> Do not rely on it.</p>
      <p class="small">${fresh.asOfUs ? `What it shows is from ${clockTime(fresh.asOfUs)}.` : "It has shown nothing yet."}</p></div>
    </div>`;
  if (fresh.state === "behind")
    return html`<div class="banner warn float" role="note">
      <div><p><span class="med">${fresh.kafka === "up" ? `Readings reach this page ${delay(fresh.behindMs)} late.` : "Kafka does not answer: nothing new can arrive."}</span></p>
      <p class="small">${fresh.kafka === "up" ? `The link is fine; ${fresh.stage ? `the ${fresh.stage}` : "what comes before it"} is catching up.` : "Devices keep what they measure, and send it when it is back."}</p></div>
    </div>`;
  return null;
}

