// The ground: land and borders from the bundled atlas (Natural Earth, public domain), and a graticule.
import feature from "../../vendor/topojson/feature.js";
import mesh from "../../vendor/topojson/mesh.js";

const read = async (file) => {
  const response = await fetch(file);
  if (!response.ok) throw new Error(`${file}: ${response.status}`);
  return response.json();
};

const shapes = (world) => ({
  land: feature(world, world.objects.land),
  borders: { type: "Feature", properties: {}, geometry: mesh(world, world.objects.countries, (a, b) => a !== b) },
});

const loaded = new Map();
const load = (file) => {
  if (!loaded.has(file)) loaded.set(file, read(file).then(shapes));
  return loaded.get(file);
};

const FINE_FROM_ZOOM = 5;

/** Draw the coarse atlas at once, and the fine one once everything else is drawn, where its detail can be seen. */
export async function drawAtlas(map) {
  const show = async (file) => {
    const { land, borders } = await load(file);
    map.getSource("land")?.setData(land);
    map.getSource("borders")?.setData(borders);
  };
  await show("/vendor/world-50m.json");
  if (navigator.connection?.saveData) return;
  const refine = () => {
    if (map.getZoom() < FINE_FROM_ZOOM) map.once("idle", refine);
    else show("/vendor/world-10m.json").catch(() => {});
  };
  map.once("idle", refine);
}

const STEPS = [30, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001];
const LINES_WANTED = 7;

/** Meridians and parallels for what is in view: about seven each way, on round degrees. */
export function graticule(bounds) {
  const [west, south, east, north] = [bounds.getWest(), Math.max(-85, bounds.getSouth()), bounds.getEast(), Math.min(85, bounds.getNorth())];
  const step = STEPS.find((s) => (east - west) / s >= LINES_WANTED) ?? STEPS.at(-1);
  const [padX, padY] = [east - west, north - south];
  const features = [];
  const line = (...coordinates) => features.push({ type: "Feature", properties: {}, geometry: { type: "LineString", coordinates } });
  const first = (from) => Math.ceil(from / step) * step;
  for (let x = first(west - padX); x <= east + padX; x += step) line([x, Math.max(-85, south - padY)], [x, Math.min(85, north + padY)]);
  for (let y = first(south - padY); y <= north + padY; y += step) line([west - padX, y], [east + padX, y]);
  return { type: "FeatureCollection", features };
}
