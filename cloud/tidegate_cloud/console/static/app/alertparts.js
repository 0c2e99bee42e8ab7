// Pieces that every list of alerts shares: how one is said, what may be done, how the reader's action fares.
import { html, useEffect, useState } from "./html.js";
import { STATES, allows, mutedWords } from "./alerts.js";
import { nowUs } from "./clock.js";
import { act, dismiss } from "./commands.js";
import { clockTime, duration } from "./format.js";
import { Icon } from "./icons.js";
import { settings } from "./settings.js";
import { SnoozeMenu } from "./snooze.js";

/** Draw again every few seconds, for ages. */
export function useTick(ms = 5000) {
  const [, redraw] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => redraw((n) => n + 1), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

export const Age = ({ us }) => html`<span class="age">${duration(nowUs() - us)}</span>`;

/** Numbers keep to their units: a title never breaks between 4 and °C. */
export const Title = ({ text }) => text.replace(/(\d) (°C|m|km\/h|km|min|V|A|rpm|bar|h|s|%)(?!\w)/g, "$1\u00a0$2");

/** The state in a word, and who. */
export function StatePill({ alert }) {
  const who = alert.who === settings.name ? "You" : alert.who;
  const muted = alert.state === "resolved" ? null : mutedWords(alert);
  if (muted) return html`<span class="pill stale" title=${muted[1]}><${Icon} name="mute" />${muted[0]}</span>${alert.state !== "open" && html`<${StatePill} alert=${{ ...alert, muted: "" }} />`}`;
  if (alert.state === "acknowledged") return html`<span class="pill acc" title="Acknowledged"><${Icon} name="check" />${who || "Acknowledged"}</span>`;
  if (alert.state === "resolved") return html`<span class="pill ok"><${Icon} name="check" />${STATES.resolved}</span>`;
  if (alert.state === "snoozed")
    return html`<span class="pill"><${Icon} name="clock" />${alert.snoozed_until_us ? `until ${clockTime(alert.snoozed_until_us, false)}` : STATES.snoozed}</span>`;
  return html`<span class="pill line">${STATES.open}</span>`;
}

const FATES = {
  sending: ["clock", "", "sending"],
  sent: ["clock", "", "sending"],
  slow: ["clock", "warn", "sent, not confirmed yet"],
  queued: ["plug", "stale", "queued, sent when the link is back"],
};

/** How the reader's action on this alert fares, while that is worth saying. */
export function Fate({ alert }) {
  const { pending } = alert;
  if (!pending) return null;
  if (pending.status === "refused")
    return html`<span class="pill crit" role="status"><${Icon} name="x" />Not saved: ${pending.detail}
      <button class="link" onClick=${(e) => (e.stopPropagation(), dismiss(alert.id))}>OK</button></span>`;
  const [icon, tone, words] = FATES[pending.status];
  return html`<span class="pill ${tone}"><${Icon} name=${icon} />${words}</span>`;
}

const WORDS = { acknowledge: "Acknowledge", resolve: "Resolve", reopen: "Open again", "false-alarm": "False alarm" };

/**
 * What may be done about an alert or group, with the keys. `keys` where the keyboard acts on just this one; `all` also
 * offers what is done less often.
 */
export function Actions({ alert, onAct, keys, big, all }) {
  const [snoozing, snooze] = useState(false);
  const take = (action, more) => {
    act(alert.id, action, more);
    onAct?.(action);
  };
  const on = (work) => (event) => {
    event.stopPropagation();
    work();
  };
  const button = (action, key, primary) => {
    if (!allows(alert, action)) return null;
    return html`<button class="btn ${primary ? "pri" : ""} ${big ? "big" : ""}" onClick=${on(() => take(action))}>
      ${WORDS[action]}${keys && key && settings.keys && html`<kbd aria-hidden="true">${key}</kbd>`}</button>`;
  };
  if (alert.state === "resolved") return button("reopen");
  return html`${button("acknowledge", "a", keys && alert.state === "open")}
    ${all && html`<span class="pop"><button class="btn ${big ? "big" : ""}" aria-haspopup="menu" aria-expanded=${snoozing} onClick=${on(() => snooze(!snoozing))}>Snooze${keys && settings.keys && html`<kbd aria-hidden="true">s</kbd>`}</button>
      ${snoozing && html`<${SnoozeMenu} onChoose=${(untilUs) => take("snooze", { untilUs })} onClose=${() => snooze(false)} />`}</span>`}
    ${button("resolve", "r")}${all && button("false-alarm", "f")}`;
}
