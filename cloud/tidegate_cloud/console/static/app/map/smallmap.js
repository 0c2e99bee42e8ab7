// Where one alert began: a small map that stands still.
import { html, useEffect, useLayoutEffect, useRef } from "../html.js";
import * as maplibre from "../../vendor/maplibre-gl.js";
import { onTheme } from "../settings.js";
import { state } from "../store.js";
import { drawAtlas, graticule } from "./atlas.js";
import { colours } from "./colours.js";
import { extent, fenceAreas } from "./features.js";
import { SCALE, marks } from "./marks.js";
import { loadTrail, wayLine } from "./trail.js";
import { style } from "./style.js";

maplibre.setWorkerUrl(new URL("../../vendor/maplibre-gl-worker.js", import.meta.url).href);

const BEFORE_US = 5 * 60e6;
const AFTER_US = 5 * 60e6;

export function SmallMap({ alert }) {
  const box = useRef(null);
  const latest = useRef(alert);
  latest.current = alert;
  const handle = useRef(null);
  useLayoutEffect(() => {
    const stopped = new AbortController();
    const map = new maplibre.Map({
      container: box.current,
      style: style(colours()),
      center: [alert.lon, alert.lat],
      zoom: 14,
      interactive: false,
      attributionControl: false,
      fadeDuration: 0,
    });
    map.getCanvas().setAttribute("aria-label", "Where the alert began");
    map.getCanvas().tabIndex = -1;
    const place = () => {
      const { severity, state: how } = latest.current;
      const properties = { severity, state: how === "open" ? "open" : "acknowledged", order: 1 };
      const geometry = { type: "Point", coordinates: [alert.lon, alert.lat] };
      map.getSource("alerts")?.setData({ type: "Feature", properties, geometry });
    };
    handle.current = place;
    const fill = async () => {
      const k = colours();
      for (const [name, image] of marks(k)) map.addImage(name, image, { pixelRatio: SCALE });
      drawAtlas(map).catch(() => {});
      const { areas, labels } = fenceAreas(state.fences, [latest.current]);
      map.getSource("fences").setData(areas);
      map.getSource("fencelabels").setData(labels);
      const fence = areas.features.find((f) => f.properties.id === alert.subject);
      const bounds = fence && extent([fence.geometry.coordinates, [alert.lon, alert.lat]]);
      if (bounds) map.fitBounds(bounds, { padding: 48, maxZoom: 16, animate: false });
      map.getSource("graticule").setData(graticule(map.getBounds()));
      place();
      const way = await loadTrail(alert.device, alert.started_us - BEFORE_US, alert.started_us + AFTER_US, stopped.signal);
      if (way.length > 1) map.getSource("trail")?.setData({ type: "Feature", properties: {}, geometry: wayLine(way) });
    };
    map.on("style.load", () => fill().catch(() => {})); // the way is a help; the place is drawn before it
    const stop = onTheme(() => map.setStyle(style(colours()), { diff: false }));
    return () => {
      stop();
      stopped.abort();
      map.remove();
    };
  }, [alert.id]);
  useEffect(() => handle.current?.(), [alert.state]);
  return html`<div class="mapbox" ref=${box}></div>`;
}
