// The page: a shell with a place for each page in it.
import { html, render, useEffect } from "./html.js";
import { start } from "./live.js";
import { useRoute } from "./router.js";
import { session } from "./api.js";
import { change } from "./settings.js";
import { Shell } from "./shell.js";
import { AlertPage } from "./pages/alert.js";
import { AlertsPage } from "./pages/alerts.js";
import { DevicePage } from "./pages/device.js";
import { DevicesPage } from "./pages/devices.js";
import { MapPage } from "./pages/map.js";
import { NotFound } from "./pages/notfound.js";
import { PipelinePage } from "./pages/pipeline.js";
import "./commands.js";

const TITLES = { map: "Live map", alerts: "Alerts", devices: "Devices", pipeline: "Pipeline" };

function App() {
  const { page, id, query } = useRoute();
  const title = TITLES[page] ?? "Not found";
  useEffect(() => {
    document.title = `${id ? `${id} · ` : ""}${title} · Tidegate`;
  }, [page, id]);
  return html`<${Shell} page=${page} title=${title} id=${id}>
    ${
      page === "map"
        ? html`<${MapPage} query=${query} />`
        : page === "alerts"
          ? id
            ? html`<${AlertPage} key=${id} id=${id} />`
            : html`<${AlertsPage} query=${query} />`
          : page === "devices"
            ? id
              ? html`<${DevicePage} key=${id} id=${id} />`
              : html`<${DevicesPage} />`
            : page === "pipeline" && !id
              ? html`<${PipelinePage} />`
              : html`<${NotFound} />`
    }
  <//>`;
}

render(html`<${App} />`, document.getElementById("app"));
start();
session().then(({ who }) => change({ name: who }), () => {}); // without a link, nobody can act anyway
