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
import { FencesPage } from "./pages/fences.js";
import { MapPage } from "./pages/map.js";
import { NotFound } from "./pages/notfound.js";
import { PipelinePage } from "./pages/pipeline.js";
import { RolloutsPage } from "./pages/rollouts.js";
import { changed, state } from "./store.js";
import { SilencesPage } from "./pages/silences.js";
import "./commands.js";

const TITLES = { map: "Live map", alerts: "Alerts", devices: "Devices", fences: "Fences", silences: "Silences", rollouts: "Rollouts", pipeline: "Pipeline" };

function App() {
  const { page, id, query } = useRoute();
  const title = TITLES[page] ?? "Not found";
  useEffect(() => {
    document.title = `${id ? `${id} · ` : ""}${title} · Tidegate`;
  }, [page, id]);
  return html`<${Shell} page=${page} title=${title} id=${id}><${Page} page=${page} id=${id} query=${query} /><//>`;
}

/** The page at an address. What has a key begins anew with another id; the rest keeps its list beside what is shown. */
function Page({ page, id, query }) {
  if (page === "map" && !id) return html`<${MapPage} query=${query} />`;
  if (page === "alerts") return id ? html`<${AlertPage} key=${id} id=${id} />` : html`<${AlertsPage} query=${query} />`;
  if (page === "devices") return id ? html`<${DevicePage} key=${id} id=${id} />` : html`<${DevicesPage} />`;
  if (page === "silences" && !id) return html`<${SilencesPage} query=${query} />`;
  if (page === "fences") return html`<${FencesPage} id=${id} />`;
  if (page === "rollouts") return html`<${RolloutsPage} id=${id} />`;
  if (page === "pipeline" && !id) return html`<${PipelinePage} />`;
  return html`<${NotFound} />`;
}

render(html`<${App} />`, document.getElementById("app"));
start();
session().then(
  ({ who, permissions }) => {
    change({ name: who });
    state.permissions = permissions;
    changed("session");
  },
  () => {},
); // without a link, nobody can act anyway
