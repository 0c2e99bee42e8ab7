// Who is acting, which colours, whether single keys act.
import { logOut } from "./api.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";
import { MENU, useKeys } from "./keys.js";
import { change, onSettings, settings } from "./settings.js";

function useSettings() {
  const [, redraw] = useState(0);
  useEffect(() => onSettings(() => redraw((n) => n + 1)), []);
  return settings;
}

export function KeySwitch() {
  const { keys } = useSettings();
  return html`<label class="row between">
    <span>Single letters act <span class="dim small">on lists and pages</span></span>
    <input type="checkbox" role="switch" class="switch" checked=${keys} onChange=${(e) => change({ keys: e.target.checked })} />
  </label>`;
}

const initials = (name) =>
  name.split(/\s+/).filter(Boolean).slice(0, 2).map((word) => word[0].toUpperCase()).join("") || "?";

async function leave() {
  try {
    await logOut();
  } finally {
    location.assign("/login");
  }
}

export function Settings({ onHelp }) {
  const { name, theme } = useSettings();
  const [open, setOpen] = useState(false);
  const box = useRef(null);
  useKeys({
    Escape: () => {
      if (!open) return false;
      setOpen(false);
      box.current.querySelector("button").focus();
    },
  }, MENU);
  useEffect(() => {
    if (!open) return undefined;
    const away = (event) => box.current.contains(event.target) || setOpen(false);
    document.addEventListener("pointerdown", away);
    return () => document.removeEventListener("pointerdown", away);
  }, [open]);
  return html`
    <div class="me" ref=${box}>
      <button class="who" aria-expanded=${open} onClick=${() => setOpen(!open)}>
        <span class="ava" aria-hidden="true">${initials(name)}</span><span class="desk-only">${name}</span><span class="sr">Settings</span>
      </button>
      ${
        open &&
        html`<div class="menu panel" role="group" aria-label="Settings">
          <div class="row between"><span>Logged in as <b>${name}</b></span>
            <button class="btn" onClick=${leave}>Log out</button></div>
          <div class="field"><span id="colours">Colours</span>
            <div class="seg" role="group" aria-labelledby="colours">
              ${["auto", "light", "dark"].map(
                (which) => html`<button aria-pressed=${theme === which} onClick=${() => change({ theme: which })}>
                  ${{ auto: "As the system", light: "Light", dark: "Dark" }[which]}
                </button>`,
              )}
            </div>
          </div>
          <${KeySwitch} />
          <button class="btn quiet desk-only" onClick=${() => (setOpen(false), onHelp())}><${Icon} name="keys" />All keys <kbd>?</kbd></button>
        </div>`
      }
    </div>
  `;
}
