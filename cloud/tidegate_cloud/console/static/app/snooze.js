// For how long an alert may be put off: a menu of five, by digit or by mouse.
import { html, useEffect, useRef } from "./html.js";
import { nowUs } from "./clock.js";
import { clockTime } from "./format.js";
import { MENU, useKeys } from "./keys.js";

const MINUTE_US = 60e6;

/** Eight in the morning of the next day, in the reader's time zone. */
function tomorrowUs(now) {
  const at = new Date(now / 1000);
  at.setDate(at.getDate() + 1);
  return at.setHours(8, 0, 0, 0) * 1000;
}

export const CHOICES = [
  ["1", "15 min", (now) => now + 15 * MINUTE_US],
  ["2", "1 hour", (now) => now + 60 * MINUTE_US],
  ["3", "4 hours", (now) => now + 240 * MINUTE_US],
  ["4", "until 08:00 tomorrow", tomorrowUs],
  ["5", "24 hours", (now) => now + 1440 * MINUTE_US],
];

export function SnoozeMenu({ onChoose, onClose }) {
  const menu = useRef(null);
  const before = useRef(document.activeElement);
  const close = () => {
    onClose();
    before.current?.focus?.();
  };
  const choose = (until) => {
    onChoose(until(nowUs()));
    close();
  };
  const step = (by) => {
    const all = [...menu.current.querySelectorAll("button")];
    all[(all.indexOf(document.activeElement) + by + all.length) % all.length].focus();
  };
  useKeys({ Escape: close, ArrowDown: () => step(1), ArrowUp: () => step(-1), ...Object.fromEntries(CHOICES.map(([key, , until]) => [key, () => choose(until)])) }, MENU);
  useEffect(() => menu.current.querySelector("button").focus(), []);
  return html`<div class="menu snooze" role="menu" aria-label="Snooze for" ref=${menu}>
    ${CHOICES.map(([key, word, until]) => html`<button type="button" role="menuitem" onClick=${(event) => (event.stopPropagation(), choose(until))}><span>${word}</span><span class="dim tn">${clockTime(until(nowUs()), false)}<kbd aria-hidden="true">${key}</kbd></span></button>`)}
    <button type="button" role="menuitem" class="dim" onClick=${(event) => (event.stopPropagation(), close())}>Not now</button></div>`;
}
