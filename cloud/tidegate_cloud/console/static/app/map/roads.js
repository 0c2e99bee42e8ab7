// The roads that the fleet has driven, learnt from positions as they come: without tiles, they are the street map.
//
// Bounded however long the page is open: a piece of road is known by the two cells (about 25 m) that it joins, either
// way round, so a route that is driven a hundred times is kept once, and after MAX_PIECES the oldest go first.

import { nowUs } from "../clock.js";
import { state } from "../store.js";
import { loadTrail } from "./trail.js";

const CELL_DEG = 0.00025;
const MAX_PIECES = 20_000;
const MAX_GAP_US = 60e6;
const MIN_M = 6;
const MAX_M = 900;
const MAX_SPEED_MPS = 60; // a jump faster than this is a bad fix, not a road
const M_PER_DEG = 111_320;

export class Roads {
  #pieces = new Map(); // "cell>cell" → [[lon, lat], [lon, lat]]
  #last = new Map(); // device → {lon, lat, ts_us}
  changed = false;

  /** Follow a device to its newest position. */
  add(id, lon, lat, tsUs, accuracy) {
    const from = this.#last.get(id);
    if (accuracy !== null && accuracy !== undefined && accuracy > 50) return;
    if (!from || tsUs - from.tsUs > MAX_GAP_US || tsUs < from.tsUs) {
      this.#last.set(id, { lon, lat, tsUs });
      return;
    }
    const length = Math.hypot((lon - from.lon) * Math.cos((lat * Math.PI) / 180), lat - from.lat) * M_PER_DEG;
    if (length < MIN_M) return; // wait for a piece that is longer than the noise
    this.#last.set(id, { lon, lat, tsUs });
    if (length > MAX_M || length / ((tsUs - from.tsUs) / 1e6) > MAX_SPEED_MPS) return;
    const [a, b] = [cell(from.lon, from.lat), cell(lon, lat)].sort();
    const key = `${a}>${b}`;
    if (a === b || this.#pieces.has(key)) return;
    this.#pieces.set(key, [[from.lon, from.lat], [lon, lat]]);
    if (this.#pieces.size > MAX_PIECES) this.#pieces.delete(this.#pieces.keys().next().value);
    this.changed = true;
  }

  get size() {
    return this.#pieces.size;
  }

  /** One multi-line for the map; clears `changed`. */
  feature() {
    this.changed = false;
    return { type: "Feature", properties: {}, geometry: { type: "MultiLineString", coordinates: [...this.#pieces.values()] } };
  }
}

const LEARN_FROM = 48; // devices, spread over the fleet: enough to know most roads, few enough to ask for
const LEARN_US = 3600e6;
let learnt = false;

/** Begin with the roads of the last hour, a device at a time, so that the first look is not at an empty map. */
export async function learnRoads(roads) {
  if (learnt || !state.devices.size) return;
  learnt = true;
  const ids = [...state.devices.keys()];
  const step = Math.max(1, ids.length / LEARN_FROM);
  for (let i = 0; i < ids.length; i += step) {
    const id = ids[Math.floor(i)];
    try {
      const way = await loadTrail(id, nowUs() - LEARN_US, nowUs());
      for (const [lon, lat, tsUs] of way) roads.add(`past ${id}`, lon, lat, tsUs, null);
    } catch {
      return; // not a matter of life: the roads are learnt as the fleet drives
    }
  }
}

const cell = (lon, lat) => `${Math.round(lon / CELL_DEG)},${Math.round(lat / CELL_DEG)}`;
