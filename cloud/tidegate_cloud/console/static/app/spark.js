// The last hour of a channel in the space of a word: min and max per pixel, broken at gaps.
import { html } from "./html.js";
import { nowUs } from "./clock.js";
import { HOUR_US, breakAtGaps, summary, useSeries } from "./series.js";

const [W, H] = [150, 24];
const MAX_POINTS = 150;

export function Spark({ device, channel }) {
  const series = useSeries(device, channel, MAX_POINTS);
  if (!series) return html`<i class="skel spark" aria-hidden="true"></i>`;
  const facts = summary(series.values);
  if (!facts) return html`<span class="dim small">no readings</span>`;
  const { ts, values } = breakAtGaps(series.ts, series.values);
  const to = nowUs();
  const from = Math.max(to - HOUR_US, Math.min(ts[0], to - 60e6));
  const span = facts.high - facts.low || 1;
  const x = (us) => ((us - from) / (to - from)) * (W - 6) + 1;
  const y = (value) => H - 4 - ((value - facts.low) / span) * (H - 8);
  let path = "";
  let pen = false;
  values.forEach((value, i) => {
    if (value === null) pen = false;
    else {
      path += `${pen ? "L" : "M"}${x(ts[i]).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = true;
    }
  });
  return html`<svg class="spark" width=${W} height=${H} viewBox="0 0 ${W} ${H}" aria-hidden="true">
    <path d=${path} /><circle cx=${x(ts.at(-1))} cy=${y(facts.last)} r="2" /></svg>`;
}
