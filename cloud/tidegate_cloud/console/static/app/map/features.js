// From what the page knows to what the map draws.
import { worstByDevice } from "../alerts.js";
import { isMoving, presence } from "../freshness.js";

const collection = (features) => ({ type: "FeatureCollection", features });
const point = (lon, lat, properties) => ({ type: "Feature", properties, geometry: { type: "Point", coordinates: [lon, lat] } });
export const hasPlace = (thing) => Number.isFinite(thing.lat) && Number.isFinite(thing.lon);

/**
 * Vehicles, apart from those that alert, and alerts where their vehicle is now. A vehicle in alert is not in the
 * clustered source at all, so that no cluster can hide it.
 */
export function fleet(devices, alerts, nowUs) {
  const worst = worstByDevice(alerts);
  const vehicles = [];
  const marks = [];
  const counts = { ok: 0, alert: 0, stale: 0, offline: 0 };
  for (const device of devices.values()) {
    const look = presence(device, nowUs);
    const alert = worst.get(device.id);
    counts[look] += 1;
    if (alert) counts.alert += 1;
    if (alert || !hasPlace(device)) continue;
    const moving = look !== "offline" && isMoving(device);
    vehicles.push({ device, look, moving });
  }
  for (const [id, alert] of worst) {
    const device = devices.get(id);
    const at = device && hasPlace(device) ? device : alert;
    if (!hasPlace(at)) continue;
    const order = { critical: 3, warning: 2, notice: 1 }[alert.severity] + (alert.state === "open" ? 10 : 0);
    marks.push(point(at.lon, at.lat, { id, alert: alert.id, severity: alert.severity, state: alert.state, order }));
  }
  return { vehicles, alerts: collection(marks), counts };
}

const EARTH_M = 6_371_008.8;

/** A circle on the ground as a polygon: what a fence that is a point and a radius covers. */
export function circle([lon, lat], radiusM) {
  const ring = [];
  const [d, φ, λ] = [radiusM / EARTH_M, (lat * Math.PI) / 180, (lon * Math.PI) / 180];
  for (let i = 0; i <= 64; i++) {
    const θ = (i / 64) * 2 * Math.PI;
    const y = Math.asin(Math.sin(φ) * Math.cos(d) + Math.cos(φ) * Math.sin(d) * Math.cos(θ));
    const x = λ + Math.atan2(Math.sin(θ) * Math.sin(d) * Math.cos(φ), Math.cos(d) - Math.sin(φ) * Math.sin(y));
    ring.push([(x * 180) / Math.PI, (y * 180) / Math.PI]);
  }
  return { type: "Polygon", coordinates: [ring] };
}

const PX_M = 78_271.5; // metres that a pixel is at zoom 0 on the equator

/**
 * A line as wide as a corridor is on the ground: without arguments the style's expression, which reads the feature's `w`;
 * with them that `w`, the width in pixels at zoom 0.
 */
export function corridorWidth(distanceM, lat) {
  if (distanceM === undefined) return ["interpolate", ["exponential", 2], ["zoom"], 0, ["get", "w"], 24, ["*", ["get", "w"], 2 ** 24]];
  return (2 * distanceM) / (PX_M * Math.cos((lat * Math.PI) / 180));
}

/** Fences as areas; those whose alert is open are `hot`. Points with a radius become circles. */
export function fenceAreas(fences, alerts) {
  const hot = new Set(alerts.filter((a) => a.state === "open").map((a) => a.subject));
  const areas = [];
  const labels = [];
  for (const fence of fences.features) {
    const { id, name, radius_m: radius, distance_m: distance } = fence.properties;
    if (!fence.geometry) continue;
    const geometry = fence.geometry.type === "Point" && radius ? circle(fence.geometry.coordinates, radius) : fence.geometry;
    const properties = { id, name, hot: hot.has(id) };
    if (distance && geometry.type.endsWith("LineString")) properties.w = corridorWidth(distance, extent(geometry.coordinates)[0][1]);
    areas.push({ type: "Feature", properties, geometry });
    const at = top(geometry);
    if (at) labels.push({ type: "Feature", properties, geometry: { type: "Point", coordinates: at } });
  }
  return { areas: collection(areas), labels: collection(labels) };
}

/** [[west, south], [east, north]] of coordinates nested however deep; null for none. */
export function extent(coordinates) {
  let [w, s, e, n] = [Infinity, Infinity, -Infinity, -Infinity];
  const visit = (value) => {
    if (typeof value?.[0] === "number") {
      [w, e] = [Math.min(w, value[0]), Math.max(e, value[0])];
      [s, n] = [Math.min(s, value[1]), Math.max(n, value[1])];
    } else value?.forEach(visit);
  };
  visit(coordinates);
  return w === Infinity ? null : [[w, s], [e, n]];
}

/** Where a fence's name stands: over it, so that it hides nothing inside. */
function top(geometry) {
  const box = extent(geometry.coordinates);
  return box && [(box[0][0] + box[1][0]) / 2, box[1][1]];
}

/** Where the fleet is: the box of its vehicles without the strays (2 % at each end) unless they alert, or of the fences. */
export function fleetExtent(devices, fences, alerts) {
  const placed = [...devices.values()].filter(hasPlace);
  if (placed.length) {
    const span = (values) => {
      values.sort((a, b) => a - b);
      const cut = Math.floor(values.length * 0.02);
      return [values[cut], values[values.length - 1 - cut]];
    };
    const [w, e] = span(placed.map((d) => d.lon));
    const [s, n] = span(placed.map((d) => d.lat));
    const alerting = [...worstByDevice(alerts).keys()].map((id) => devices.get(id)).filter((d) => d && hasPlace(d));
    return extent([[w, s], [e, n], ...alerting.map((d) => [d.lon, d.lat])]);
  }
  return extent(fences.features.map((f) => f.geometry?.coordinates).filter(Boolean));
}
