// The keys, and the switch that turns the single ones off.
import { html, useEffect, useRef } from "./html.js";
import { KEYS } from "./keys.js";
import { Icon } from "./icons.js";
import { KeySwitch } from "./settingsmenu.js";

export function Help({ onClose }) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  return html`
    <dialog ref=${dialog} class="dlg" aria-labelledby="keys-title" onClose=${onClose}
      onClick=${(event) => event.target === dialog.current && dialog.current.close()}>
      <div>
        <header class="row"><h2 id="keys-title" class="grow">Keys</h2>
          <button class="btn quiet sq" aria-label="Close" onClick=${() => dialog.current.close()}><${Icon} name="x" /></button>
        </header>
        <dl class="keys">
          ${KEYS.map(([key, what]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}
        </dl>
        <${KeySwitch} />
      </div>
    </dialog>
  `;
}
