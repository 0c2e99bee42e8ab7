// The map's own style: land, shores and borders from the bundled atlas, a graticule, the roads that the fleet has driven,
// fences, vehicles, alerts. Nothing is fetched from elsewhere; labels are drawn with the page's own typeface.
import { CLUSTER_IMAGE } from "./marks.js";
import { faded } from "./colours.js";
import { corridorWidth } from "./features.js";

const EMPTY = { type: "FeatureCollection", features: [] };
const source = (extra = {}) => ({ type: "geojson", data: EMPTY, ...extra });
const FONT = ["Inter"];

/** The order of layers is the order of importance: alerts lie above clusters, the selected one above all. */
export function style(k, { frozen = false } = {}) {
  return {
    version: 8,
    sources: {
      land: source({ attribution: "Natural Earth", maxzoom: 8, tolerance: 0.3 }),
      borders: source({ maxzoom: 8 }),
      graticule: source(),
      roads: source({ tolerance: 0.2 }),
      fences: source(),
      fencelabels: source(),
      trail: source({ lineMetrics: true }),
      vehicles: source({
        cluster: true,
        clusterRadius: 46,
        clusterMinPoints: 7,
        clusterMaxZoom: 15,
        clusterProperties: {
          stale: ["+", ["case", ["==", ["get", "look"], "stale"], 1, 0]],
          offline: ["+", ["case", ["==", ["get", "look"], "offline"], 1, 0]],
        },
      }),
      alerts: source(),
      selected: source(),
    },
    layers: [
      { id: "water", type: "background", paint: { "background-color": k["map-water"] } },
      { id: "land", type: "fill", source: "land", paint: { "fill-color": k["map-land"], "fill-outline-color": k["map-shore"] } },
      { id: "graticule", type: "line", source: "graticule", paint: { "line-color": k["map-grid"], "line-width": 1 } },
      { id: "borders", type: "line", source: "borders", paint: { "line-color": k["map-border"], "line-width": 1, "line-dasharray": [4, 2] } },
      {
        id: "road-casing", type: "line", source: "roads", layout: { "line-cap": "round", "line-join": "round" },
        paint: { "line-color": k["map-casing"], "line-width": ["interpolate", ["exponential", 1.4], ["zoom"], 9, 1.6, 13, 5.5, 17, 16] },
      },
      {
        id: "road", type: "line", source: "roads", layout: { "line-cap": "round", "line-join": "round" },
        paint: { "line-color": k["map-road"], "line-width": ["interpolate", ["exponential", 1.4], ["zoom"], 9, 0.6, 13, 3.7, 17, 13] },
      },
      { id: "fence-fill", type: "fill", source: "fences", paint: { "fill-color": ["case", ["get", "hot"], k["crit-fill"], k.accent], "fill-opacity": ["case", ["get", "hot"], 0.16, 0.08] } },
      {
        id: "fence-corridor", type: "line", source: "fences", filter: ["has", "w"], layout: { "line-cap": "round", "line-join": "round" },
        paint: { "line-color": ["case", ["get", "hot"], k["crit-fill"], k.accent], "line-opacity": 0.14, "line-width": corridorWidth() },
      },
      {
        id: "fence-line", type: "line", source: "fences", filter: ["!", ["get", "hot"]],
        paint: { "line-color": k.accent, "line-opacity": 0.75, "line-width": 1.3, "line-dasharray": [4, 3] },
      },
      { id: "fence-hot", type: "line", source: "fences", filter: ["get", "hot"], paint: { "line-color": k["crit-fill"], "line-width": 2 } },
      {
        id: "trail-casing", type: "line", source: "trail", layout: { "line-cap": "round", "line-join": "round" },
        paint: { "line-color": k["map-edge"], "line-width": 5 },
      },
      {
        id: "trail", type: "line", source: "trail", layout: { "line-cap": "round", "line-join": "round" },
        paint: { "line-width": 2.5, "line-gradient": ["interpolate", ["linear"], ["line-progress"], 0, faded(k.ink, 0.15), 1, k.ink] },
      },
      {
        id: "fence-label", type: "symbol", source: "fencelabels", minzoom: 11.5,
        layout: { "text-field": ["get", "name"], "text-font": FONT, "text-size": 11, "text-max-width": 12, "text-anchor": "bottom", "text-offset": [0, -0.2] },
        paint: { "text-color": k["map-label"], "text-halo-color": k["map-halo"], "text-halo-width": 1.5 },
      },
      {
        id: "vehicles", type: "symbol", source: "vehicles", filter: ["!", ["has", "point_count"]],
        layout: {
          "icon-image": ["concat", "v-", frozen ? ["match", ["get", "look"], "ok", "frozen", ["get", "look"]] : ["get", "look"], "-", ["get", "shape"]],
          "icon-rotate": ["get", "heading"], "icon-rotation-alignment": "map",
          "icon-allow-overlap": true, "icon-ignore-placement": true,
        },
      },
      {
        id: "clusters", type: "symbol", source: "vehicles", filter: ["has", "point_count"],
        layout: { "icon-image": CLUSTER_IMAGE, "icon-allow-overlap": true, "icon-ignore-placement": true },
      },
      {
        id: "alerts", type: "symbol", source: "alerts",
        layout: {
          "icon-image": ["concat", "a-", ["get", "severity"], "-", ["get", "state"], frozen ? "-frozen" : ""],
          "icon-allow-overlap": true, "icon-ignore-placement": true, "symbol-sort-key": ["get", "order"],
        },
        paint: { "icon-opacity": frozen ? 0.75 : 1 },
      },
      {
        id: "selected", type: "symbol", source: "selected",
        layout: {
          "icon-image": "selected", "icon-allow-overlap": true, "icon-ignore-placement": true,
          "text-field": ["get", "name"], "text-font": FONT, "text-size": 13, "text-anchor": "left", "text-offset": [2, 0],
          "text-allow-overlap": true, "text-ignore-placement": true,
        },
        paint: { "text-color": k.ink, "text-halo-color": k.raised, "text-halo-width": 2 },
      },
    ],
  };
}
