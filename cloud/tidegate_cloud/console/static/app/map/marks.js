// The marks on the map, drawn once per theme and handed to WebGL as images. Shapes first, colour second:
//   vehicle     arrow = moves, dot = stands, dashed hollow = stale, struck ring = offline, hollow violet = frozen
//   alert       diamond = critical, triangle = warning, circle = notice; filled = open, hollow with a tick = acknowledged
//   cluster     the count in a ring that is split by how its vehicles are

const SCALE = 2; // device pixels per CSS pixel: sharp on most screens, small enough on all

function draw(size, paint) {
  const canvas = new OffscreenCanvas(size * SCALE, size * SCALE);
  const c = canvas.getContext("2d", { willReadFrequently: true }); // read once, at once: not from the GPU
  c.scale(SCALE, SCALE);
  c.translate(size / 2, size / 2);
  c.lineJoin = c.lineCap = "round";
  paint(c);
  return c.getImageData(0, 0, size * SCALE, size * SCALE);
}

function arrow(c, r) {
  c.beginPath();
  c.moveTo(0, -r * 1.35);
  c.lineTo(r * 0.92, r);
  c.lineTo(0, r * 0.52);
  c.lineTo(-r * 0.92, r);
  c.closePath();
}

function disc(c, r) {
  c.beginPath();
  c.arc(0, 0, r, 0, 2 * Math.PI);
}

function vehicle(c, k, shape, look) {
  if (look === "offline") {
    disc(c, 4.6);
    c.fillStyle = k["map-edge"];
    c.fill();
    c.lineWidth = 1.4;
    c.strokeStyle = k.off;
    c.stroke();
    c.beginPath();
    c.moveTo(-2.7, 2.7);
    c.lineTo(2.7, -2.7);
    c.stroke();
    return;
  }
  const outline = () => (shape === "arrow" ? arrow(c, 6) : disc(c, 4.6));
  outline();
  c.lineWidth = 3;
  c.strokeStyle = k["map-edge"];
  c.stroke();
  c.fillStyle = look === "ok" ? k["map-ok"] : k["stale-weak"];
  c.fill();
  if (look === "ok") return;
  c.lineWidth = 1.5;
  if (look === "stale") c.setLineDash([2.2, 2.2]);
  c.strokeStyle = k.stale;
  c.stroke();
}

function alertMark(c, k, severity, state, lively) {
  const acknowledged = state === "acknowledged";
  const fill = { critical: k["crit-fill"], warning: k["warn-fill"], notice: k["ink-3"] }[severity];
  if (lively && !acknowledged && severity === "critical") {
    disc(c, 19);
    c.globalAlpha = 0.16;
    c.fillStyle = fill;
    c.fill();
    c.globalAlpha = 1;
  }
  c.beginPath();
  if (severity === "critical") for (const [x, y] of [[0, -12], [12, 0], [0, 12], [-12, 0]]) c.lineTo(x, y);
  else if (severity === "warning") for (const [x, y] of [[0, -11], [11, 8.5], [-11, 8.5]]) c.lineTo(x, y);
  else c.arc(0, 0, 9, 0, 2 * Math.PI);
  c.closePath();
  c.lineWidth = 4.5;
  c.strokeStyle = k["map-edge"];
  c.stroke();
  c.fillStyle = acknowledged ? k.surface : fill;
  c.fill();
  c.lineWidth = 2;
  if (acknowledged) {
    c.strokeStyle = fill;
    c.stroke();
  }
  const down = severity === "warning" ? 1 : 0;
  c.strokeStyle = acknowledged ? k[severity === "critical" ? "crit" : severity === "warning" ? "warn" : "ink-2"] : severity === "warning" ? k["on-warn"] : "#fff";
  c.lineWidth = 2.2;
  c.beginPath();
  if (acknowledged) for (const [x, y] of [[-3.5, 0.5 + down], [-1, 3.2 + down], [4, -3 + down]]) c.lineTo(x, y);
  else {
    c.moveTo(0, -4.5 + down);
    c.lineTo(0, 1 + down);
    c.moveTo(0, 4.6 + down * 0.4);
    c.lineTo(0, 4.7 + down * 0.4);
  }
  c.stroke();
}

/** Every mark but clusters: name → ImageData. `k` are colours() of the theme. */
export function marks(k) {
  const images = new Map();
  for (const look of ["ok", "stale", "frozen"])
    for (const shape of ["arrow", "dot"]) images.set(`v-${look}-${shape}`, draw(24, (c) => vehicle(c, k, shape, look)));
  images.set("v-offline-dot", draw(24, (c) => vehicle(c, k, "dot", "offline")));
  images.set("v-offline-arrow", images.get("v-offline-dot"));
  for (const severity of ["critical", "warning", "notice"])
    for (const state of ["open", "acknowledged"])
      for (const lively of [true, false])
        images.set(`a-${severity}-${state}${lively ? "" : "-frozen"}`, draw(44, (c) => alertMark(c, k, severity, state, lively)));
  images.set("selected", draw(52, (c) => {
    disc(c, 19);
    c.lineWidth = 5;
    c.strokeStyle = k["map-edge"];
    c.stroke();
    c.lineWidth = 2.5;
    c.strokeStyle = k.accent;
    c.stroke();
  }));
  return images;
}

/** The id of a cluster's image: its count as written, and its ring in twelfths. */
export const CLUSTER_IMAGE = [
  "concat", "c|", ["get", "point_count_abbreviated"], "|",
  ["round", ["*", 12, ["/", ["get", "stale"], ["get", "point_count"]]]], "|",
  ["round", ["*", 12, ["/", ["get", "offline"], ["get", "point_count"]]]],
  "|", ["get", "point_count"],
];

/** Draw the image that CLUSTER_IMAGE names; null if `id` is none. */
export function clusterImage(id, k, frozen) {
  const [kind, count, stale, offline, exact] = id.split("|");
  if (kind !== "c") return null;
  const r = Math.min(28, 11 + Math.sqrt(Number(exact)) * 1.1);
  return draw(Math.ceil(2 * r + 8), (c) => {
    disc(c, r + 2);
    c.fillStyle = k["map-edge"];
    c.fill();
    const parts = [[12 - stale - offline, frozen ? k["stale-fill"] : k["map-ok"]], [+stale, k["stale-fill"]], [+offline, k["line-strong"]]];
    let from = -Math.PI / 2;
    c.lineCap = "butt";
    c.lineWidth = 3;
    for (const [share, colour] of parts) {
      const to = from + (share / 12) * 2 * Math.PI;
      if (share > 0) {
        c.beginPath();
        c.arc(0, 0, r - 0.5, from, to);
        c.strokeStyle = colour;
        c.stroke();
      }
      from = to;
    }
    disc(c, r - 3);
    c.fillStyle = k.surface;
    c.fill();
    c.fillStyle = k.ink;
    c.font = '640 11px "Inter", system-ui, sans-serif';
    c.textAlign = "center";
    c.textBaseline = "middle";
    c.fillText(count, 0, 0.5);
  });
}

export { SCALE };
