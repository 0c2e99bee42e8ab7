// Canvas and WebGL do not follow style sheets: the tokens of the present theme, resolved to plain colours.

const NAMES =
  "map-land map-water map-shore map-road map-casing map-grid map-border map-label map-wlabel map-halo map-ok map-edge " +
  "ink ink-2 ink-3 surface raised accent on-accent crit crit-fill warn warn-fill on-warn stale stale-fill stale-weak " +
  "off off-weak line line-strong ok-fill chart-line chart-grid chart-band font";

/** @returns {Record<string, string>} token → colour, e.g. colours["map-land"] */
export function colours() {
  const probe = document.createElement("i");
  probe.hidden = true;
  document.body.append(probe);
  const found = {};
  for (const name of NAMES.split(" ")) {
    if (name === "font") continue;
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

/** A colour with another opacity. */
export function faded(colour, alpha) {
  const [r, g, b] = colour.match(/[\d.]+/g);
  return `rgba(${r}, ${g}, ${b}, ${alpha})`;
}
