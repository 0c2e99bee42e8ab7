// A fence while it is drawn: points in lists that do not repeat the first one, and the fields that are kept with it.
// Everything here gives a new draft and leaves the old one, so that undo is to keep them.

const EARTH_M = 6_371_008.8;
const RAD = Math.PI / 180;
const CLOSED = new Set(["Polygon", "MultiPolygon"]);
export const KINDS = { polygon: "Polygon", circle: "Point", corridor: "LineString" };
const FIELDS = {
  name: "", severity: "warning", alert_on: "none", groups: [], enter_events: true, exit_events: true, dwell_s: null,
  speed_limit_mps: null, schedule: "", time_zone: "", schedule_mode: "presence", radius_m: null, distance_m: null,
};

/** A draft without points: what is drawn next. */
export const blank = (kind) => ({
  id: "", version: 0, type: KINDS[kind], lines: [[]], parts: [1], drawing: true,
  fields: { ...FIELDS, alert_on: "enter", radius_m: kind === "circle" ? 200 : null, distance_m: kind === "corridor" ? 30 : null },
});

/** A draft of a fence as the server has it. */
export function fromFeature(feature) {
  const { type, coordinates } = feature.geometry;
  const open = (ring) => (CLOSED.has(type) ? ring.slice(0, -1) : ring).map(([lon, lat]) => [lon, lat]);
  const nested = { Point: () => [[[coordinates]]], LineString: () => [[coordinates]], MultiLineString: () => coordinates.map((c) => [c]), Polygon: () => [coordinates], MultiPolygon: () => coordinates }[type]();
  const fields = { ...FIELDS };
  for (const name of Object.keys(FIELDS)) if (feature.properties[name] !== undefined) fields[name] = feature.properties[name];
  return { id: feature.id, version: feature.properties.version ?? 0, type, lines: nested.flat().map(open), parts: nested.map((part) => part.length), drawing: false, fields };
}

/** The draft's GeoJSON geometry; of one that is being drawn as far as it goes, null while that is nothing. */
export function geometryOf({ type, lines, parts, drawing }) {
  const [line] = lines;
  if (drawing && type !== "Point" && line.length < (CLOSED.has(type) ? 3 : 2)) {
    return line.length === 2 ? { type: "LineString", coordinates: line } : null;
  }
  if (type === "Point") return line.length ? { type, coordinates: line[0] } : null;
  if (type === "LineString") return { type, coordinates: line };
  if (type === "MultiLineString") return { type, coordinates: lines };
  const rings = lines.map((points) => [...points, points[0]]);
  let at = 0;
  const polygons = parts.map((count) => rings.slice(at, (at += count)));
  return { type, coordinates: type === "Polygon" ? polygons[0] : polygons };
}

/** What is sent to be checked or kept. */
export const toFeature = (draft) => ({ type: "Feature", id: draft.id || "new", geometry: geometryOf({ ...draft, drawing: false }), properties: { ...draft.fields, name: draft.fields.name || draft.id } });

/** Every point as [line, index, [lon, lat]], in the order in which the keyboard walks them. */
export const points = (draft) => draft.lines.flatMap((line, l) => line.map((at, i) => [l, i, at]));

const replaced = (draft, l, change) => ({ ...draft, lines: draft.lines.map((line, n) => (n === l ? change(line) : line)) });
const least = (draft) => (CLOSED.has(draft.type) ? 3 : draft.type === "Point" ? 1 : 2);

export const place = (draft, l, i, at) => replaced(draft, l, (line) => line.map((old, n) => (n === i ? round(at) : old)));
export const insert = (draft, l, i, at) => replaced(draft, l, (line) => [...line.slice(0, i), round(at), ...line.slice(i)]);
export const append = (draft, at) => (draft.type === "Point" ? { ...draft, lines: [[round(at)]], drawing: false } : insert(draft, 0, draft.lines[0].length, at));
/** Whether a point can be taken out without the shape's ending. */
export const canRemove = (draft, l) => draft.drawing || draft.lines[l].length > least(draft);
export const remove = (draft, l, i) => (canRemove(draft, l) ? replaced(draft, l, (line) => line.filter((_, n) => n !== i)) : draft);
export const canFinish = (draft) => draft.drawing && draft.lines[0].length >= least(draft);
export const finish = (draft) => (canFinish(draft) ? { ...draft, drawing: false } : draft);
export const withField = (draft, name, value) => ({ ...draft, fields: { ...draft.fields, [name]: value } });

/** Move a point by metres to the east and north. */
export function nudge(draft, l, i, eastM, northM) {
  const [lon, lat] = draft.lines[l][i];
  return place(draft, l, i, [lon + eastM / (EARTH_M * RAD * Math.cos(lat * RAD)), lat + northM / (EARTH_M * RAD)]);
}

/** The middles of all edges, each with where a point put there belongs. */
export function middles(draft) {
  if (draft.drawing || draft.type === "Point") return [];
  return draft.lines.flatMap((line, l) => {
    const count = CLOSED.has(draft.type) ? line.length : line.length - 1;
    return Array.from({ length: count }, (_, i) => {
      const [a, b] = [line[i], line[(i + 1) % line.length]];
      return [l, i + 1, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]];
    });
  });
}

/** Seven decimals are a centimetre. */
const round = ([lon, lat]) => [Math.round(lon * 1e7) / 1e7, Math.round(lat * 1e7) / 1e7];

export function metresBetween([lon1, lat1], [lon2, lat2]) {
  const h = Math.sin(((lat2 - lat1) * RAD) / 2) ** 2 + Math.cos(lat1 * RAD) * Math.cos(lat2 * RAD) * Math.sin(((lon2 - lon1) * RAD) / 2) ** 2;
  return 2 * EARTH_M * Math.asin(Math.min(1, Math.sqrt(h)));
}

/** Area of a ring in square metres, on a sphere; small rings that do not cross themselves. */
function ringArea(ring) {
  let sum = 0;
  ring.forEach(([lon, lat], i) => {
    const [next, north] = ring[(i + 1) % ring.length];
    sum += (next - lon) * RAD * (2 + Math.sin(lat * RAD) + Math.sin(north * RAD));
  });
  return Math.abs((sum * EARTH_M * EARTH_M) / 2);
}

const size = (m2) => (m2 >= 1e5 ? `${(m2 / 1e6).toPrecision(3)} km²` : `${Math.round(m2).toLocaleString("en")} m²`);
const length = (m) => (m >= 1000 ? `${(m / 1000).toPrecision(3)} km` : `${Math.round(m)} m`);

/** "polygon, 6 points, 1.29 km²" */
export function shapeWords(draft) {
  const n = points(draft).length;
  if (draft.type === "Point") return `circle, ${length(draft.fields.radius_m ?? 0)} radius`;
  const of = `${n} point${n === 1 ? "" : "s"}`;
  if (!CLOSED.has(draft.type)) {
    const long = draft.lines.reduce((sum, line) => sum + line.slice(1).reduce((m, at, i) => m + metresBetween(line[i], at), 0), 0);
    return `corridor, ${of}, ${length(long)} long, ${length(2 * (draft.fields.distance_m ?? 0))} wide`;
  }
  if (draft.drawing && draft.lines[0].length < 3) return `polygon, ${of}`;
  let at = 0;
  let area = 0;
  for (const count of draft.parts) {
    draft.lines.slice(at, at + count).forEach((ring, i) => (area += (i ? -1 : 1) * ringArea(ring)));
    at += count;
  }
  const holes = draft.lines.length - draft.parts.length;
  return `${draft.parts.length > 1 ? `${draft.parts.length} polygons` : "polygon"}, ${of}${holes ? `, ${holes} hole${holes > 1 ? "s" : ""}` : ""}, ${size(area)}`;
}

/** An id for a new fence, from its name. */
export const idFrom = (name) => name.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 60);

/** Where the server says that a shape goes wrong: [lon, lat], or null. */
export function badPlace(text) {
  const found = /at \[(-?[\d.e+-]+), (-?[\d.e+-]+)\]/.exec(text ?? "");
  return found && [Number(found[1]), Number(found[2])];
}

/** What a fence does, in sentences: one for each thing that is told. */
export function sentences({ fields: f }) {
  const who = f.groups.length ? `a vehicle of ${f.groups.join(" or ")}` : "any vehicle";
  const said = [];
  const raise = `raise a ${f.severity} alert`;
  if (f.alert_on === "enter") said.push(`When ${who} enters, ${raise}.`);
  if (f.alert_on === "exit") said.push(`When ${who} leaves, ${raise}.`);
  if (f.dwell_s) said.push(`When ${who} stays longer than ${Math.round((f.dwell_s / 60) * 10) / 10} min, ${raise}.`);
  if (f.speed_limit_mps) said.push(`When ${who} drives faster than ${Math.round(f.speed_limit_mps * 36) / 10} km/h, ${raise}.`);
  if (f.schedule && f.schedule_mode === "presence") said.push(`When ${who} is inside outside ${f.schedule}, ${raise}.`);
  if (f.schedule && f.schedule_mode === "active") said.push(`The fence is there ${f.schedule} only.`);
  return said;
}
