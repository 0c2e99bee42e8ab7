// The live map: one WebGL map whose sources follow the store. The page around it says what is selected.
import * as maplibre from "../../vendor/maplibre-gl.js";
import { nowUs } from "../clock.js";
import { onTheme } from "../settings.js";
import { shownAlerts, state, subscribe } from "../store.js";
import { drawAtlas, graticule } from "./atlas.js";
import { colours } from "./colours.js";
import { extent, fenceAreas, fleet, fleetExtent, hasPlace } from "./features.js";
import { SCALE, clusterImage, marks } from "./marks.js";
import { Roads, learnRoads } from "./roads.js";
import { style } from "./style.js";
import { Vehicles } from "./vehicles.js";
import { wayLine } from "./trail.js";

maplibre.setWorkerUrl(new URL("../../vendor/maplibre-gl-worker.js", import.meta.url).href);
maplibre.setWorkerCount(2); // so that cutting the atlas to tiles does not keep the fleet waiting

const FRAME_MS = 250; // how often positions are drawn; ten thousand of them once a second
const MANY = 2000;
const ROADS_MS = 2000;
const FOLLOWED = 250; // devices of one message that roads are learnt from
const PRESENCE_MS = 2000; // devices grow stale without any message saying so
const MAX_CLUSTER_IMAGES = 400;
const CLICKABLE = ["alerts", "clusters", "vehicles"];

// Kept while the reader is on other pages: the view, and the roads learnt so far.
const roads = new Roads();
let lastView = null;
let turn = 0;
subscribe(["positions"], (devices) => {
  // Of a large fleet some at a time: roads are driven by many.
  const step = Math.ceil(devices.length / FOLLOWED);
  for (let i = turn++ % step; i < devices.length; i += step) {
    const d = devices[i];
    if (hasPlace(d)) roads.add(d.id, d.lon, d.lat, d.ts_us, d.accuracy);
  }
});

/** The roads that the fleet has driven, as one feature. */
export const fleetRoads = () => roads.feature();

const still = matchMedia("(prefers-reduced-motion: reduce)");

export class FleetMap {
  #map;
  #stops = [];
  #clusterImages = new Set();
  #frozen = false;
  #drawnAt = 0;
  #timer = 0;
  #selected = null;
  #placed = lastView !== null;
  #vehicles = new Vehicles((url) => this.#map.getSource("vehicles")?.setData(url));

  /** @param {HTMLElement} container @param {{onSelect: (device: string|null) => void, onCounts: Function}} handlers */
  constructor(container, handlers) {
    this.handlers = handlers;
    this.k = colours();
    this.#map = new maplibre.Map({
      container,
      style: style(this.k),
      center: [0, 25],
      zoom: 1.5,
      ...lastView,
      attributionControl: { compact: false },
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      renderWorldCopies: true,
      maxZoom: 19,
      fadeDuration: 0,
    });
    this.#map.touchZoomRotate.disableRotation();
    this.#map.addControl(new maplibre.ScaleControl({ maxWidth: 110 }), "bottom-right");
    this.#map.getCanvas().setAttribute("aria-label", "Map of the fleet. The list of alerts beside it holds the same facts.");
    this.#map.setMissingStyleImageResolver((id) => this.#drawCluster(id));
    this.#map.on("style.load", () => this.#ready());
    this.#map.on("moveend", () => {
      lastView = { center: this.#map.getCenter(), zoom: this.#map.getZoom() };
      this.#map.getSource("graticule")?.setData(graticule(this.#map.getBounds()));
    });
    this.#map.on("click", (event) => this.#click(event));
    this.#map.on("mousemove", (event) => {
      this.#map.getCanvas().style.cursor = this.#at(event.point).length ? "pointer" : "";
    });
    const roadTimer = setInterval(() => roads.changed && this.#set("roads", roads.feature()), ROADS_MS);
    const presenceTimer = setInterval(() => {
      this.draw();
      this.#account();
    }, PRESENCE_MS);
    this.#stops.push(
      onTheme(() => this.restyle()),
      subscribe(["positions", "alerts", "loaded"], () => this.draw()),
      subscribe(["fences", "alerts", "loaded"], () => this.#drawFences()),
      () => clearInterval(roadTimer),
      () => clearInterval(presenceTimer),
    );
  }

  destroy() {
    clearTimeout(this.#timer);
    this.#stops.forEach((stop) => stop());
    this.#vehicles.end();
    this.#map.remove();
  }

  /** Marks hollow and still: what is shown is no longer what is. */
  freeze(frozen) {
    if (frozen === this.#frozen) return;
    this.#frozen = frozen;
    this.restyle();
  }

  restyle() {
    this.k = colours();
    this.#clusterImages.clear();
    this.#map.setStyle(style(this.k, { frozen: this.#frozen }), { diff: false });
  }

  #ready() {
    for (const [name, image] of marks(this.k)) this.#map.addImage(name, image, { pixelRatio: SCALE });
    this.#set("graticule", graticule(this.#map.getBounds()));
    this.#set("roads", roads.feature());
    this.#drawFences();
    this.#drawNow();
    drawAtlas(this.#map).catch(() => {}); // without its atlas a map still shows the fleet
  }

  #set(name, data) {
    this.#map.getSource(name)?.setData(data);
  }

  /** Draw the fleet soon: at most every FRAME_MS, less often when it is large. */
  draw() {
    if (this.#timer) return;
    const wait = (state.devices.size > MANY ? 4 : 1) * FRAME_MS - (performance.now() - this.#drawnAt);
    this.#timer = setTimeout(() => this.#drawNow(), Math.max(0, wait));
  }

  #drawNow() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#drawnAt = performance.now();
    const drawn = fleet(state.devices, shownAlerts(), nowUs());
    if (this.#map.getSource("vehicles")) this.#vehicles.draw(drawn.vehicles);
    this.#set("alerts", drawn.alerts);
    this.#drawSelected();
    this.handlers.onCounts(drawn.counts);
    learnRoads(roads);
    if (!this.#placed && (state.devices.size || state.fences.features.length)) this.fit(false);
  }

  #drawFences() {
    const { areas, labels } = fenceAreas(state.fences, shownAlerts());
    this.#set("fences", areas);
    this.#set("fencelabels", labels);
  }

  #drawSelected() {
    const device = state.devices.get(this.#selected);
    const features = device && hasPlace(device) ? [{ type: "Feature", properties: { name: device.name || device.id }, geometry: { type: "Point", coordinates: [device.lon, device.lat] } }] : [];
    this.#set("selected", { type: "FeatureCollection", features });
  }

  /** Say in the document what the canvas shows, for those who cannot see it: tests. */
  #account() {
    if (!this.#map.getLayer("alerts") || !this.#map.areTilesLoaded()) return;
    const count = (layer) => new Set(this.#map.queryRenderedFeatures({ layers: [layer] }).map((f) => f.properties.id ?? f.properties.cluster_id)).size;
    Object.assign(this.#map.getContainer().dataset, { alerts: count("alerts"), clusters: count("clusters"), vehicles: count("vehicles"), roads: roads.size });
  }

  /** Ring a device. `go` also brings it into view. */
  select(device, { go = false } = {}) {
    this.#selected = device;
    this.#drawSelected();
    const found = state.devices.get(device);
    if (!go || !found || !hasPlace(found)) return;
    const at = [found.lon, found.lat];
    this.#placed = true;
    const { clientWidth: width, clientHeight: height } = this.#map.getContainer();
    const { x, y } = this.#map.project(at);
    const margin = Math.min(64, width / 6);
    const inView = x > margin && x < width - margin && y > margin && y < height - margin;
    if (this.#map.getZoom() < 12 || !inView) this.#move({ center: at, zoom: Math.max(this.#map.getZoom(), 13) });
  }

  /** The way that a device came, as loadTrail gives it. */
  trail(coordinates) {
    const features = coordinates.length > 1 ? [{ type: "Feature", properties: {}, geometry: wayLine(coordinates) }] : [];
    this.#set("trail", { type: "FeatureCollection", features });
    this.#map.getContainer().dataset.trail = coordinates.length;
  }

  zoom(by) {
    this.#move({ zoom: this.#map.getZoom() + by });
  }

  /** Show the whole fleet. */
  fit(animate = true) {
    const box = fleetExtent(state.devices, state.fences, shownAlerts());
    if (!box) return;
    this.#placed = true;
    const room = Math.min(80, this.#map.getContainer().clientWidth * 0.08);
    this.#map.fitBounds(box, { padding: { top: 40 + room, right: room, bottom: room, left: room }, maxZoom: 14.5, animate: animate && !still.matches });
  }

  showFence(id) {
    const fence = fenceAreas(state.fences, []).areas.features.find((f) => f.properties.id === id);
    const box = fence && extent(fence.geometry.coordinates);
    if (box) this.#map.fitBounds(box, { padding: 120, maxZoom: 16, animate: !still.matches });
  }

  #move(view) {
    if (still.matches) this.#map.jumpTo({ ...view });
    else this.#map.easeTo({ ...view, duration: 280 });
  }

  #at(point) {
    const layers = CLICKABLE.filter((id) => this.#map.getLayer(id));
    const reach = 5; // fingers and hands are not exact
    return this.#map.queryRenderedFeatures([[point.x - reach, point.y - reach], [point.x + reach, point.y + reach]], { layers });
  }

  async #click({ point }) {
    const found = this.#at(point);
    const hit = CLICKABLE.map((layer) => found.find((f) => f.layer.id === layer)).find(Boolean);
    if (!hit) return this.handlers.onSelect(null);
    if (hit.properties.cluster) {
      const zoom = await this.#map.getSource("vehicles").getClusterExpansionZoom(hit.properties.cluster_id);
      return this.#move({ center: hit.geometry.coordinates, zoom: zoom + 0.2 });
    }
    return this.handlers.onSelect(hit.properties.id);
  }

  #drawCluster(id) {
    const image = clusterImage(id, this.k, this.#frozen);
    if (!image || this.#map.hasImage(id)) return;
    this.#map.addImage(id, image, { pixelRatio: SCALE });
    this.#clusterImages.add(id);
    if (this.#clusterImages.size > MAX_CLUSTER_IMAGES) {
      const [oldest] = this.#clusterImages;
      this.#clusterImages.delete(oldest);
      this.#map.removeImage(oldest);
    }
  }
}
