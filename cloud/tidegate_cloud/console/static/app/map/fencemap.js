// The map on which fences are drawn: the others on the map itself, the draft in SVG above it, so that it follows the hand
// at once whatever the map's workers are at. What happens here is told to the page, which decides.
import * as maplibre from "../../vendor/maplibre-gl.js";
import { geometryOf, metresBetween, middles, points } from "../fencedraft.js";
import { onTheme } from "../settings.js";
import { state, subscribe } from "../store.js";
import { drawAtlas, graticule } from "./atlas.js";
import { colours } from "./colours.js";
import { circle, extent, fenceAreas, fleetExtent } from "./features.js";
import { fleetRoads } from "./fleetmap.js";
import { style } from "./style.js";

maplibre.setWorkerUrl(new URL("../../vendor/maplibre-gl-worker.js", import.meta.url).href);

const SVG = "http://www.w3.org/2000/svg";
const REACH = 11; // pixels: hands are not exact
const FINGER = 22;
const PAN = 60;
const HANDLES_MAX = 400; // beyond it only the selected point has one
const collection = (features) => ({ type: "FeatureCollection", features });

/** A place and what to do there, as an element with a class. */
function put(parent, name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
}

export class FenceMap {
  #map;
  #svg;
  #stops = [];
  #shown = { draft: null, selected: -1, bad: null, ghost: null, hidden: null };
  #drag = null;
  #drags = 0;

  /**
   * `on`: click(lonLat), pick(index), drop(index, lonLat, drag), split(line, at, lonLat, drag), which gives the new point's
   * index, open(id), close(). `drag` names one drag.
   */
  constructor(container, on) {
    this.on = on;
    this.#map = new maplibre.Map({
      container, style: style(colours()), center: [0, 25], zoom: 1.5, attributionControl: { compact: false }, dragRotate: false,
      pitchWithRotate: false, touchPitch: false, maxZoom: 20, fadeDuration: 0, keyboard: false, doubleClickZoom: false,
    });
    this.#map.touchZoomRotate.disableRotation();
    this.#map.addControl(new maplibre.ScaleControl({ maxWidth: 110 }), "bottom-right");
    const canvas = this.#map.getCanvas();
    canvas.tabIndex = -1; // the page's own box around it has the keys
    canvas.setAttribute("aria-hidden", "true");
    canvas.removeAttribute("role");
    this.#svg = document.createElementNS(SVG, "svg");
    this.#svg.setAttribute("class", "draft");
    this.#svg.setAttribute("aria-hidden", "true");
    this.#map.getCanvasContainer().append(this.#svg);
    this.#map.on("style.load", () => this.#ready());
    this.#map.on("move", () => this.#draw());
    this.#map.on("moveend", () => this.#set("graticule", graticule(this.#map.getBounds())));
    this.#map.on("mousedown", (event) => this.#down(event, REACH));
    this.#map.on("touchstart", (event) => event.points.length === 1 && this.#down(event, FINGER));
    this.#map.on("mousemove", (event) => this.#move(event));
    this.#map.on("touchmove", (event) => this.#drag && this.#move(event));
    this.#map.on("mouseup", () => this.#up());
    this.#map.on("touchend", () => this.#up());
    this.#map.on("click", (event) => this.#click(event));
    this.#stops.push(
      onTheme(() => this.#map.setStyle(style(colours()), { diff: false })),
      subscribe(["fences", "loaded"], () => this.#drawOthers()),
    );
  }

  destroy() {
    this.#stops.forEach((stop) => stop());
    this.#map.remove();
  }

  #ready() {
    this.#set("graticule", graticule(this.#map.getBounds()));
    this.#set("roads", fleetRoads());
    this.#drawOthers();
    drawAtlas(this.#map).catch(() => {});
  }

  #set(name, data) {
    this.#map.getSource(name)?.setData(data);
  }

  /** Draw a draft; `selected`: the index of a point; `bad`: where it goes wrong; `ghost`: a feature as it was. */
  show(shown) {
    const others = shown.hidden !== this.#shown.hidden;
    this.#shown = shown;
    this.#draw();
    if (others) this.#drawOthers();
  }

  #drawOthers() {
    const others = collection(state.fences.features.filter((f) => f.id !== this.#shown.hidden));
    const { areas, labels } = fenceAreas(others, []);
    this.#set("fences", areas);
    this.#set("fencelabels", labels);
  }

  #draw() {
    const { draft, selected, bad, ghost } = this.#shown;
    this.#svg.replaceChildren();
    if (ghost) this.#outline(ghost.geometry, ghost.properties, "ghost");
    const geometry = draft && geometryOf(draft);
    if (geometry) this.#outline(geometry, draft.drawing ? {} : draft.fields, "shape");
    const all = draft ? points(draft) : [];
    const few = all.length <= HANDLES_MAX;
    if (few) for (const [, , at] of draft ? middles(draft) : []) put(this.#svg, "circle", { class: "middle", r: 4, ...this.#centre(at) });
    all.forEach(([, , at], n) => {
      if (few || n === selected) put(this.#svg, "circle", { class: n === selected ? "point on" : "point", r: n === selected ? 8 : 6, ...this.#centre(at) });
    });
    if (bad) put(this.#svg, "circle", { class: "bad", r: 13, ...this.#centre(bad) });
    // Say in the document what is drawn, for those who cannot see it: tests.
    Object.assign(this.#map.getContainer().dataset, { points: all.length, selected, bad: bad ? bad.join() : "", zoom: this.#map.getZoom().toFixed(1) });
  }

  #centre(at) {
    const { x, y } = this.#map.project(at);
    return { cx: x, cy: y };
  }

  #outline(geometry, { radius_m: radius, distance_m: distance }, name) {
    const { type, coordinates } = geometry.type === "Point" ? circle(geometry.coordinates, radius || 1) : geometry;
    const lines = { LineString: () => [coordinates], MultiLineString: () => coordinates, Polygon: () => coordinates, MultiPolygon: () => coordinates.flat() }[type]();
    const area = type.endsWith("Polygon");
    const d = lines.map((line) => `M${line.map((at) => Object.values(this.#map.project(at)).map((v) => v.toFixed(1)).join()).join("L")}${area ? "Z" : ""}`).join("");
    if (!area && distance) put(this.#svg, "path", { class: `${name} wide`, d, "stroke-width": (2 * distance) / this.#metresAPixel() });
    put(this.#svg, "path", { class: area ? name : `${name} line`, d, "fill-rule": "evenodd" });
  }

  #metresAPixel() {
    const { x, y } = this.#map.project(this.#map.getCenter());
    const [a, b] = [this.#map.unproject([x, y]), this.#map.unproject([x + 100, y])];
    return metresBetween([a.lng, a.lat], [b.lng, b.lat]) / 100;
  }

  centre() {
    const { lng, lat } = this.#map.getCenter();
    return [lng, lat];
  }

  /** A twelfth of what is seen across, in metres: a circle that is neither a dot nor the world. */
  handyRadius() {
    const rough = Math.max(1, (this.#metresAPixel() * this.#map.getContainer().clientWidth) / 12);
    const step = 10 ** Math.floor(Math.log10(rough));
    return Math.round(rough / step) * step;
  }

  pan(x, y) {
    this.#map.panBy([x * PAN, y * PAN], { animate: false });
  }

  zoom(by) {
    this.#map.jumpTo({ zoom: this.#map.getZoom() + by });
  }

  /** Bring a shape into view; without one, all fences or the fleet. */
  fit(draft = null) {
    const geometry = draft && geometryOf(draft);
    const round = geometry?.type === "Point" ? circle(geometry.coordinates, draft.fields.radius_m || 1) : geometry;
    const box = round ? extent(round.coordinates) : (extent(state.fences.features.map((f) => f.geometry?.coordinates)) ?? fleetExtent(state.devices, state.fences, []));
    if (!box) return;
    const room = Math.min(90, this.#map.getContainer().clientWidth / 6);
    this.#map.fitBounds(box, { padding: room, maxZoom: 17, animate: false });
  }

  /** The nearest of some places to where the pointer is, as its index; -1 where none is near. */
  #near({ x, y }, places, reach) {
    let [best, least] = [-1, reach];
    places.forEach((at, n) => {
      const there = this.#map.project(at);
      const away = Math.hypot(there.x - x, there.y - y);
      if (away <= least) [best, least] = [n, away];
    });
    return best;
  }

  #held(point, reach) {
    const { draft } = this.#shown;
    return draft ? this.#near(point, points(draft).map(([, , at]) => at), reach) : -1;
  }

  #middle(point, reach) {
    const { draft } = this.#shown;
    const all = draft ? middles(draft) : [];
    return all[this.#near(point, all.map(([, , at]) => at), reach)] ?? null;
  }

  #down(event, reach) {
    if (!this.#shown.draft || this.#shown.draft.drawing) return;
    const tag = `drag-${++this.#drags}`;
    let n = this.#held(event.point, reach);
    const middle = n < 0 ? this.#middle(event.point, reach) : null;
    if (n < 0 && !middle) return;
    event.preventDefault(); // the map stays where it is
    if (middle) n = this.on.split(...middle, tag);
    this.#drag = { tag, n };
    this.on.pick(n);
  }

  #move(event) {
    if (this.#drag) {
      this.on.drop(this.#drag.n, [event.lngLat.lng, event.lngLat.lat], this.#drag.tag);
      return;
    }
    const over = this.#held(event.point, REACH) >= 0 || this.#middle(event.point, REACH);
    this.#map.getCanvas().style.cursor = this.#shown.draft?.drawing ? "crosshair" : over ? "move" : this.#fence(event.point) ? "pointer" : "";
  }

  #up() {
    setTimeout(() => (this.#drag = null)); // the click that ends a drag is none
  }

  #fence(point) {
    const layers = ["fence-fill", "fence-corridor"].filter((layer) => this.#map.getLayer(layer));
    return this.#map.queryRenderedFeatures(point, { layers })[0] ?? null;
  }

  #click(event) {
    if (this.#drag) return;
    if (this.#shown.draft?.drawing) {
      if (this.#held(event.point, REACH) === 0 && points(this.#shown.draft).length > 2) return this.on.close();
      return this.on.click([event.lngLat.lng, event.lngLat.lat]);
    }
    const fence = this.#fence(event.point);
    if (fence) this.on.open(fence.properties.id);
  }
}
