// Whether what the page shows is now. One rule for every page, from facts alone, so that it can be read and tested.

const BEHIND_MS = 2_000;
const NOT_LIVE_MS = 60_000;
/** The server speaks every second. So long a silence means that the link is gone, whatever the socket says. */
export const SILENCE_MS = 4_000;

/**
 * @param {{connected: boolean, heardAgoMs: number, behindMs: number|null, everHeard: boolean, kafka?: string}} facts
 * @returns {"loading"|"live"|"behind"|"reconnecting"|"dead"}
 */
export function freshness({ connected, heardAgoMs, behindMs, everHeard, kafka = "up" }) {
  if (!everHeard && heardAgoMs < NOT_LIVE_MS) return connected ? "loading" : "reconnecting";
  if (heardAgoMs >= NOT_LIVE_MS) return "dead";
  if (!connected || heardAgoMs >= SILENCE_MS) return "reconnecting";
  return kafka !== "up" || (behindMs !== null && behindMs > BEHIND_MS) ? "behind" : "live";
}

const REPORTS_MISSED = 3;
const OFFLINE_US = 15 * 60e6;
const USUAL_INTERVAL_US = 10e6;

/**
 * Whether a device still reports, by when it was last heard: stale after three report intervals, offline after 15 min.
 * Its interval is what the registry says, else what it kept to lately.
 * @returns {"ok"|"stale"|"offline"}
 */
export function presence(device, nowUs) {
  if (device.heard_us === null) return "offline"; // named in the registry, and never heard
  const silentUs = nowUs - device.heard_us;
  if (silentUs > OFFLINE_US) return "offline";
  const interval = device.report_interval_s ? device.report_interval_s * 1e6 : (device.intervalUs ?? USUAL_INTERVAL_US);
  return silentUs > Math.max(REPORTS_MISSED * interval, 3e6) ? "stale" : "ok";
}

/** The interval that a device keeps to, from one more gap between reports: quick to grow, slow to shrink. */
export function learnInterval(known, gapUs) {
  if (!(gapUs > 0) || gapUs > OFFLINE_US) return known;
  if (known === undefined) return gapUs;
  return gapUs > known ? known + 0.5 * (gapUs - known) : known + 0.1 * (gapUs - known);
}

/** A vehicle that goes slower than a walk is standing: its heading is noise. */
export function isMoving(device) {
  return device.speed !== null && device.speed !== undefined && device.speed > 0.8;
}
