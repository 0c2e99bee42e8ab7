import { html } from "../html.js";
import { Icon } from "../icons.js";

export const NotFound = () => html`
  <div class="page"><div class="card empty">
    <${Icon} name="search" /><b>There is no such page</b>
    <p>The address may be old. Alerts and devices are found by name with the search above.</p>
    <a class="btn" href="/">Open the live map</a>
  </div></div>
`;
