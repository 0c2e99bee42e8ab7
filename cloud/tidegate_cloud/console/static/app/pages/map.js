// The live map with the list of alerts beside it. Selecting in one selects in the other.
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { nowUs } from "../clock.js";
import { useTick } from "../alertparts.js";
import { FreshBanner, useFreshness } from "../fresh.js";
import { direction, duration, quantity, speed, channelName } from "../format.js";
import { isMoving, presence } from "../freshness.js";
import { DeviceMark, Icon, PRESENCE, Severity } from "../icons.js";
import { FleetMap } from "../map/fleetmap.js";
import { loadTrail } from "../map/trail.js";
import { useWatched } from "../places.js";
import { Rail } from "../rail.js";
import { deviceAddress } from "../router.js";
import { worstByDevice } from "../alerts.js";
import { changed, shownAlert, shownAlerts, state, subscribe, useStore } from "../store.js";

const TRAIL_US = 10 * 60e6;
const POSITION = new Set(["lat", "lon", "speed", "heading", "accuracy"]);

export function MapPage({ query }) {
  const box = useRef(null);
  const map = useRef(null);
  const fresh = useFreshness();
  const [alert, setAlert] = useState(null); // id of the selected alert
  const [device, setDevice] = useState(null); // id of the selected device

  const selectDevice = (id) => {
    setDevice(id);
    setAlert(id ? (worstByDevice(shownAlerts()).get(id)?.id ?? null) : null);
  };
  const selectAlert = (id) => {
    setAlert(id);
    const found = id && shownAlert(id);
    setDevice(found ? found.device : null);
    if (found) map.current.select(found.device, { go: true });
  };

  useLayoutEffect(() => {
    map.current = new FleetMap(box.current, { onSelect: selectDevice, onCounts: (counts) => changed("counts", counts) });
    return () => map.current.destroy();
  }, []);
  useEffect(() => map.current.freeze(fresh.state === "reconnecting" || fresh.state === "dead"), [fresh.state]);

  // ?device= and ?fence= come from links and the search; they wait for the snapshot.
  useEffect(() => {
    const show = () => {
      const [wanted, fence] = [query.get("device"), query.get("fence")];
      if (fence) map.current.showFence(fence);
      if (!wanted || !state.devices.has(wanted)) return;
      selectDevice(wanted);
      map.current.select(wanted, { go: true });
    };
    show();
    return subscribe(["loaded"], show);
  }, [query.toString()]);

  useEffect(() => {
    map.current.select(device);
    if (!device) return map.current.trail([]);
    const stopped = new AbortController();
    const draw = () =>
      loadTrail(device, nowUs() - TRAIL_US, nowUs(), stopped.signal).then(
        (way) => !stopped.signal.aborted && map.current.trail(way),
        () => {}, // no memory of it: the mark alone must do
      );
    map.current.trail([]);
    draw();
    const timer = setInterval(draw, 5000);
    return () => {
      stopped.abort();
      clearInterval(timer);
    };
  }, [device]);

  return html`
    <div class="mapwrap">
      <div class="mapbox" ref=${box}></div>
      <${Legend} />
      <div class="notices"><${FreshBanner} fresh=${fresh} /></div>
      ${device && html`<${Card} id=${device} frozen=${fresh.state !== "live" && fresh.state !== "behind"} onClose=${() => selectDevice(null)} />`}
      <div class="zoom float" role="group" aria-label="Map">
        <button aria-label="Zoom in" onClick=${() => map.current.zoom(1)}><${Icon} name="plus" /></button>
        <button aria-label="Zoom out" onClick=${() => map.current.zoom(-1)}><${Icon} name="minus" /></button>
        <button aria-label="Show the whole fleet" onClick=${() => map.current.fit()}><${Icon} name="fit" /></button>
      </div>
      <${Rail} selected=${alert} onSelect=${selectAlert} />
    </div>
  `;
}

/** Kept to itself: what it counts changes every second, and nothing else on the page with it. */
function Legend() {
  const [counts, setCounts] = useState(null);
  useEffect(() => subscribe(["counts"], setCounts), []);
  if (!counts) return null;
  const item = (mark, n, word) => html`<span>${mark}<b class="tn">${n.toLocaleString("en")}</b> ${word}</span>`;
  return html`<div class="legend float" role="group" aria-label="Vehicles">
    ${item(html`<${DeviceMark} presence="ok" moving />`, counts.ok, "OK")}
    ${item(html`<${Severity} of="critical" quiet />`, counts.alert, "in alert")}
    ${item(html`<${DeviceMark} presence="stale" />`, counts.stale, "stale")}
    ${item(html`<${DeviceMark} presence="offline" />`, counts.offline, "offline")}
  </div>`;
}

function Card({ id, frozen, onClose }) {
  useStore("positions", "loaded");
  useTick(1000);
  useWatched(id);
  const device = state.devices.get(id);
  if (!device) return null;
  const now = nowUs();
  const how = presence(device, now);
  const moving = isMoving(device);
  const readings = Object.entries(device.readings ?? {}).filter(([name]) => !POSITION.has(name)).slice(0, 3);
  const cell = (value, word) => html`<div><b>${value}</b>${word}</div>`;
  return html`<section class="card float devcard" aria-label="Selected device">
    <h2><${DeviceMark} presence=${frozen ? "stale" : how} moving=${moving} />
      <a class="clip" href=${deviceAddress(id)}>${device.name || id}</a><span class="dim small clip">${device.group}</span>
      <span class="grow"></span><button class="btn quiet sq" aria-label="Close" onClick=${onClose}><${Icon} name="x" /></button></h2>
    <div class="kv">
      ${device.speed !== null && device.speed !== undefined && cell(speed(device.speed), moving && device.heading !== null ? `going ${direction(device.heading)}` : "standing")}
      ${cell(device.heard_us === null ? "never" : `${duration(now - device.heard_us)} ago`, how === "ok" ? "last heard" : `last heard: ${PRESENCE[how].toLowerCase()}`)}
      ${readings.map(([name, reading]) => cell(quantity(reading.value, reading.unit), channelName(name).toLowerCase()))}
    </div>
  </section>`;
}
