// What stands around every page: navigation, search, whether this is now, the clock, and the reader's settings.
import { html, useEffect, useRef, useState } from "./html.js";
import { nowUs, untilNextSecondMs } from "./clock.js";
import { canUndo, undo } from "./commands.js";
import { clockTime } from "./format.js";
import { FreshChip, useFreshness } from "./fresh.js";
import { Help } from "./help.js";
import { Icon, Logo } from "./icons.js";
import { MENU, SHELL, useKeys } from "./keys.js";
import { navigate } from "./router.js";
import { Search } from "./search.js";
import { Settings } from "./settingsmenu.js";
import { change, settings, theme } from "./settings.js";
import { shownAlerts, state, subscribe, useStore } from "./store.js";

const PAGES = [
  ["map", "/", "map", "Map"],
  ["alerts", "/alerts", "bell", "Alerts"],
  ["devices", "/devices", "truck", "Devices"],
  ["fences", "/fences", "fence", "Fences"],
  ["rollouts", "/rollouts", "rollout", "Rollouts"],
  ["pipeline", "/pipeline", "pipe", "Pipeline"],
];

/** After `g` within this long, a letter goes to a page. */
const GO_MS = 1500;
const GO = { m: "/", a: "/alerts", d: "/devices", f: "/fences", r: "/rollouts", p: "/pipeline" };

export function Shell({ page, title, id, children }) {
  const [help, showHelp] = useState(false);
  const fresh = useFreshness();
  const going = useRef(-Infinity);
  const go = (address) => () => {
    if (performance.now() - going.current > GO_MS) return false;
    going.current = -Infinity;
    navigate(address);
  };
  // Before the page: its own letters mean something else.
  useKeys(Object.fromEntries(Object.entries(GO).map(([key, address]) => [key, go(address)])), MENU);
  const up = `/${page}`;
  useKeys({
    "?": () => showHelp(true),
    u: () => undo(),
    g: () => {
      going.current = performance.now();
    },
    Escape: () => {
      if (id) navigate(up);
      else return false;
    },
  }, SHELL);
  useEffect(() => {
    document.documentElement.dataset.live = fresh.state;
  }, [fresh.state]);
  return html`
    <a class="skip" href="#main" data-external>Skip to content</a>
    <div class="shell">
      <header class="top">
        <div class="title grow clip">
          ${id && html`<a class="crumb" href=${up}>${title}</a><span class="dim" aria-hidden="true"> / </span>`}
          <span>${id ? crumb(page, id) : title}</span>
        </div>
        <${Search} />
        <${FreshChip} fresh=${fresh} />
        <${Clock} />
        <${ThemeButton} />
        <${Settings} onHelp=${() => showHelp(true)} />
        <div class="waterline" aria-hidden="true"></div>
      </header>
      <${Nav} page=${page} />
      <main id="main" tabindex="-1">${children}</main>
    </div>
    ${help && html`<${Help} onClose=${() => showHelp(false)} />`}
    <${Announcer} />
  `;
}

/** Ids of alerts are 32 hex digits: the first eight tell them apart well enough for a heading. */
function crumb(page, id) {
  if (page === "alerts") return id.slice(0, 8);
  if (page === "fences") return id === "new" ? "New" : (state.fences.features.find((f) => f.id === id)?.properties.name ?? id);
  return id;
}

function Nav({ page }) {
  useStore("alerts");
  const critical = shownAlerts().filter((a) => a.state === "open" && a.severity === "critical").length;
  return html`
    <nav class="nav" aria-label="Main">
      <a class="mark" href="/" aria-label="Tidegate, live map"><${Logo} /></a>
      ${PAGES.map(
        ([key, address, icon, word]) => html`
          <a class="n" href=${address} aria-current=${page === key || (page === "silences" && key === "alerts") ? "page" : null}>
            <${Icon} name=${icon} />${word}
            ${
              key === "alerts" &&
              critical > 0 &&
              html`<span class="badge" role="img" aria-label="${critical} critical open">${critical}</span>`
            }
          </a>
        `,
      )}
    </nav>
  `;
}

function Clock() {
  const [now, set] = useState(nowUs);
  useEffect(() => {
    let timer;
    const tick = () => {
      set(nowUs());
      timer = setTimeout(tick, untilNextSecondMs() + 5);
    };
    tick();
    return () => clearTimeout(timer);
  }, []);
  return html`<span class="clock" title="The server's time, in your time zone">${clockTime(now)}</span>`;
}

function ThemeButton() {
  const [, redraw] = useState(0);
  const dark = theme() === "dark";
  const turn = () => {
    change({ theme: dark ? "light" : "dark" });
    redraw((n) => n + 1);
  };
  return html`<button class="btn quiet sq desk-only" onClick=${turn} aria-label=${dark ? "Use light colours" : "Use dark colours"}>
    <${Icon} name=${dark ? "sun" : "moon"} />
  </button>`;
}

/** Speaks what the reader's actions did, and shows it for a while where they look. */
function Announcer() {
  const [text, say] = useState("");
  const timer = useRef(0);
  useEffect(
    () =>
      subscribe(["said"], (words) => {
        say(words);
        clearTimeout(timer.current);
        timer.current = setTimeout(() => say(""), 6000);
      }),
    [],
  );
  return html`<div class="toast ${text ? "" : "idle"}"><span role="status">${text}</span>
    ${text && canUndo() && html`<button onClick=${undo}>Undo ${settings.keys && html`<kbd aria-hidden="true">u</kbd>`}</button>`}</div>`;
}
