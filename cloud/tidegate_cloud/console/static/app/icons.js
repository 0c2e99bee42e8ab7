// Icons on a 16 px grid, 1.5 px stroke, and the marks of severity and presence. Every state is a colour, a shape and
// a word.
import { html } from "./html.js";
import { SEVERITIES } from "./alerts.js";

const PATHS = {
  map: "M2 4l4-1.5 4 1.5 4-1.5v9.500L10 13.5 6 12l-4 1.500zM6 2.500V12M10 4v9.5",
  bell: "M4 11V7a4 4 0 018 0v4l1.2 1.500H2.800zM6.5 14.500h3",
  truck: "M1.5 4h8v7h-8zM9.5 6.500h2.700l2.3 2.300V11h-5M4 13a1.4 1.4 0 100-2.800A1.4 1.4 0 004 13zM12 13a1.4 1.4 0 100-2.800A1.4 1.4 0 0012 13z",
  search: "M7 11.500a4.5 4.5 0 100-9 4.5 4.5 0 000 9zM10.5 10.500l3 3",
  check: "M3 8.500l3.3 3.300L13 5",
  clock: "M8 14A6 6 0 108 2a6 6 0 000 12zM8 4.500V8l2.3 1.5",
  x: "M4 4l8 8M12 4l-8 8",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2.5 6V2.500H6M10 2.500h3.500V6M13.5 10v3.500H10M6 13.500H2.500V10",
  moon: "M13 9.500A5.5 5.5 0 016.5 3a5.5 5.5 0 106.5 6.500z",
  sun: "M8 11a3 3 0 100-6 3 3 0 000 6zM8 1.500v1.300M8 13.200v1.300M1.5 8h1.300M13.2 8h1.300M3.4 3.400l.9.9M11.7 11.700l.9.9M12.6 3.400l-.9.9M4.3 11.700l-.9.9",
  plug: "M5.5 2v3M10.5 2v3M4 5h8v2.500a4 4 0 01-8 0zM8 11.500V14",
  warn: "M8 2.500l6 11H2zM8 7v3M8 12h0",
  user: "M8 8a2.7 2.7 0 100-5.400A2.7 2.7 0 008 8zM2.8 13.500c.6-2.6 2.7-4 5.2-4s4.6 1.4 5.2 4",
  fence: "M3 4.500l6.5-2L14 8l-4 5.5-7.5-3z",
  rollout: "M8 10.500V2.500M4.8 5.500L8 2.300l3.2 3.200M2.500 9.500v4h11v-4",
  circle: "M8 13.500a5.5 5.5 0 100-11 5.5 5.5 0 000 11z",
  corridor: "M2 11l4-4 3 2.500L13.500 5M2 14l4-4 3 2.500L13.500 8",
  undo: "M5.500 3.500L2.500 6.500l3 3M2.500 6.500h7a4 4 0 010 8H7",
  mute: "M4 11V7a4 4 0 018 0v4l1.2 1.500H2.800zM2.500 2.500l11 11",
  down: "M4 6l4 4 4-4",
  pipe: "M1.5 8H3M6 8a1.5 1.5 0 10-3 0 1.5 1.5 0 003 0zM13 8a1.5 1.5 0 10-3 0 1.5 1.5 0 003 0zM6 8h4M13 8h1.5",
  keys: "M1.5 4h13v8h-13zM4 6.700h0M6.7 6.700h0M9.3 6.700h0M12 6.700h0M5 9.500h6",
};

export const Icon = ({ name, class: extra = "" }) => html`
  <svg class="i ${extra}" viewBox="0 0 16 16" aria-hidden="true"><path d=${PATHS[name]} /></svg>
`;

export const Logo = () => html`
  <svg width="26" height="26" viewBox="0 0 26 26" fill="none" stroke="currentColor" stroke-width="2.2"
    stroke-linecap="round" aria-hidden="true">
    <path d="M4 4v18M22 4v18" /><path d="M8 10c1.7-1.8 3.3-1.8 5 0s3.3 1.8 5 0M8 16.500c1.7-1.8 3.3-1.8 5 0s3.3 1.8 5 0" />
  </svg>
`;

const SEVERITY_SHAPES = {
  critical: html`<path d="M8 .6l7.4 7.400L8 15.4.6 8z" fill="currentColor" />
    <path d="M8 4.300v4.400M8 11.300h0" stroke="#fff" stroke-width="1.9" stroke-linecap="round" />`,
  warning: html`<path d="M8 1.600l7 12.600H1z" fill="currentColor" stroke="currentColor" stroke-linejoin="round" />
    <path d="M8 6v3.700M8 12h0" stroke="#231400" stroke-width="1.7" stroke-linecap="round" />`,
  notice: html`<circle cx="8" cy="8" r="5.7" fill="none" stroke="currentColor" stroke-width="1.5" />
    <path d="M8 7.500v3M8 5h0" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" />`,
};

/** Diamond, triangle or circle. `quiet` where the word stands beside it. */
export const Severity = ({ of, quiet }) => html`
  <svg class="sev ${of}" viewBox="0 0 16 16" ...${quiet ? { "aria-hidden": "true" } : { role: "img", "aria-label": SEVERITIES[of] }}>
    ${SEVERITY_SHAPES[of]}
  </svg>
`;

export const PRESENCE = { ok: "OK", stale: "Stale", offline: "Offline" };

/** A device's mark as on the map: arrow where it moves, dot where it stands, dashed when stale, struck when offline. */
export const DeviceMark = ({ presence, moving }) => html`
  <svg class="dm ${presence}" viewBox="0 0 16 16" aria-hidden="true">
    ${
      presence === "offline"
        ? html`<circle cx="8" cy="8" r="5" /><path d="M4.6 11.400l6.8-6.8" />`
        : moving || presence === "stale"
          ? html`<path d="M8 2l4.8 11L8 10.8 3.2 13z" />`
          : html`<circle cx="8" cy="8" r="4.4" />`
    }
  </svg>
`;
