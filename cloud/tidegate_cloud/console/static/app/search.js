// Find a device, an alert or a fence by its words. What is searched is what the page already knows.
import { html, useEffect, useRef, useState } from "./html.js";
import { SEVERITIES, worstFirst } from "./alerts.js";
import { Icon } from "./icons.js";
import { useKeys } from "./keys.js";
import { alertAddress, deviceAddress, navigate } from "./router.js";
import { deviceName, shownAlerts, state } from "./store.js";

const LIMIT = 8;

/** @returns {{kind: string, label: string, detail: string, address: string}[]} */
function find(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  if (!wanted.length) return [];
  const fits = (...texts) => {
    const all = texts.join(" ").toLowerCase();
    return wanted.every((word) => all.includes(word));
  };
  const alerts = shownAlerts()
    .filter((a) => a.state !== "resolved" && fits(a.title, a.device, deviceName(a.device), SEVERITIES[a.severity]))
    .sort(worstFirst)
    .slice(0, LIMIT)
    .map((a) => ({ kind: "bell", label: a.title, detail: deviceName(a.device), address: alertAddress(a.id) }));
  const devices = [];
  for (const device of state.devices.values()) {
    if (devices.length === LIMIT) break;
    if (fits(device.id, device.name ?? "", device.group ?? "", device.type ?? ""))
      devices.push({ kind: "truck", label: device.name || device.id, detail: device.group ?? "", address: deviceAddress(device.id) });
  }
  const fences = state.fences.features
    .filter((f) => fits(f.properties.name, f.properties.id))
    .slice(0, 4)
    .map((f) => ({ kind: "fence", label: f.properties.name, detail: "on the map", address: `/?fence=${encodeURIComponent(f.properties.id)}` }));
  return [...devices, ...alerts, ...fences].slice(0, LIMIT + 4);
}

export function Search() {
  const [words, setWords] = useState("");
  const [at, setAt] = useState(0);
  const [open, setOpen] = useState(false);
  const box = useRef(null);
  const input = useRef(null);
  const found = open ? find(words) : [];
  const listed = open && words.trim() !== "";
  useKeys({ "/": () => input.current.focus() });
  useEffect(() => {
    const away = (event) => box.current.contains(event.target) || setOpen(false);
    document.addEventListener("pointerdown", away);
    return () => document.removeEventListener("pointerdown", away);
  }, []);
  const choose = (result) => {
    setWords("");
    setOpen(false);
    input.current.blur();
    navigate(result.address);
  };
  const onKey = (event) => {
    if (event.key === "ArrowDown") setAt(Math.min(at + 1, found.length - 1));
    else if (event.key === "ArrowUp") setAt(Math.max(at - 1, 0));
    else if (event.key === "Enter" && found[at]) choose(found[at]);
    else if (event.key === "Escape") {
      setWords("");
      setOpen(false);
      input.current.blur();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`
    <div class="find" role="search" ref=${box}>
      <${Icon} name="search" />
      <input ref=${input} type="search" placeholder="Device, alert or fence" value=${words} autocomplete="off"
        role="combobox" aria-label="Search devices, alerts and fences" aria-expanded=${listed} aria-controls="found"
        aria-activedescendant=${listed && found[at] ? `found-${at}` : null}
        onInput=${(e) => (setWords(e.target.value), setAt(0), setOpen(true))} onFocus=${() => setOpen(true)} onKeyDown=${onKey} />
      <kbd aria-hidden="true">/</kbd>
      <ul id="found" class="menu" role="listbox" aria-label="Found" hidden=${!listed}>
        ${found.map(
          (result, n) => html`<li id="found-${n}" role="option" aria-selected=${n === at} onPointerDown=${() => choose(result)}>
            <${Icon} name=${result.kind} /><span class="clip">${result.label}</span><span class="dim small">${result.detail}</span>
          </li>`,
        )}
        ${listed && !found.length && html`<li class="none" role="option" aria-disabled="true" aria-selected="false">Nothing is called “${words.trim()}”.</li>`}
      </ul>
    </div>
  `;
}
