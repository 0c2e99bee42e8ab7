// The way that a device came, from the server's memory of the last hour.
import * as api from "../api.js";

// Above this the server thins each channel by itself, and the two would no longer share their instants.
const MAX_POINTS = 5000;

/** [[lon, lat, ts_us], …], oldest first; empty where the server remembers none. */
export async function loadTrail(device, fromUs, toUs, signal) {
  const ask = (channel) => api.series(device, channel, { fromUs, toUs, maxPoints: MAX_POINTS, signal });
  const [lat, lon] = await Promise.all([ask("lat"), ask("lon")]);
  const lonAt = new Map(lon.ts_us.map((ts, i) => [ts, lon.values[i]]));
  const way = [];
  lat.ts_us.forEach((ts, i) => {
    const x = lonAt.get(ts);
    if (typeof x === "number" && typeof lat.values[i] === "number") way.push([x, lat.values[i], ts]);
  });
  return way;
}

export const wayLine = (way) => ({ type: "LineString", coordinates: way.map(([lon, lat]) => [lon, lat]) });
