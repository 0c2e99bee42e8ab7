// Beside the page: vehicles in columns become the GeoJSON that the map's own worker reads. Ten thousand of them as
// objects would have to be copied from the page's thread every second; a blob is handed over untouched.

const LOOKS = ["ok", "stale", "offline"];
let ids = []; // as JSON

addEventListener("message", ({ data }) => {
  if (data.ids) ids = ids.slice(0, data.from).concat(data.ids.map((id) => JSON.stringify(id)));
  const { at, lon, lat, look, moving, heading } = data;
  const features = new Array(at.length);
  for (let i = 0; i < at.length; i++) {
    const shape = moving[i] ? "arrow" : "dot";
    features[i] =
      `{"type":"Feature","properties":{"id":${ids[at[i]]},"look":"${LOOKS[look[i]]}","shape":"${shape}","heading":${heading[i]}},` +
      `"geometry":{"type":"Point","coordinates":[${lon[i]},${lat[i]}]}}`;
  }
  postMessage(new Blob(['{"type":"FeatureCollection","features":[', features.join(","), "]}"], { type: "application/geo+json" }));
});
