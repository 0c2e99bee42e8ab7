// A channel's chart. Gaps break the line and are hatched; no data is never drawn as zero. A sentence says the same.
import { html, useEffect, useLayoutEffect, useRef } from "./html.js";
import uPlot from "../vendor/uplot.js";
import { nowUs } from "./clock.js";
import { clockTime, channelName, number, quantity, unitName } from "./format.js";
import { colours, faded } from "./map/colours.js";
import { HOUR_US, breakAtGaps, summary, useSeries } from "./series.js";
import { onTheme } from "./settings.js";

const MAX_POINTS = 1800;

export function ChannelChart({ device, channel, height = 240, episode = null, limit = null }) {
  const series = useSeries(device, channel, MAX_POINTS);
  const box = useRef(null);
  const chart = useRef(null);
  const shown = useRef({ gaps: [], episode, limit });
  Object.assign(shown.current, { episode, limit });

  useLayoutEffect(() => {
    const room = box.current;
    const make = () => {
      chart.current?.destroy();
      chart.current = new uPlot(options(room.clientWidth, height, shown), chart.current?.data ?? [[], []], room);
    };
    make();
    const resize = new ResizeObserver(() => chart.current.setSize({ width: room.clientWidth, height }));
    resize.observe(room);
    const stop = onTheme(make);
    return () => {
      stop();
      resize.disconnect();
      chart.current.destroy();
    };
  }, [height]);

  useEffect(() => {
    if (!series) return;
    const { ts, values, gaps } = breakAtGaps(series.ts, series.values);
    shown.current.gaps = gaps;
    shown.current.unit = series.unit;
    chart.current.setData([ts.map((us) => us / 1e6), values], false);
    const now = nowUs() / 1e6;
    const first = ts.length ? ts[0] / 1e6 : now - 60;
    chart.current.setScale("x", { min: Math.max(now - HOUR_US / 1e6, Math.min(first, now - 60)), max: now + 2 });
  }, [series]);

  const facts = series && summary(series.values);
  return html`
    <figure class="chart">
      <div ref=${box} class="plot" style=${{ height: `${height}px` }} aria-hidden="true"></div>
      ${series && !facts && html`<p class="waiting">${series.error ? `The chart did not load: ${series.error.message}.` : "Waiting for the first reading"}</p>`}
      <figcaption class="small dim">${facts ? words(channel, series, facts) : series ? "" : "Loading the last hour…"}</figcaption>
    </figure>
  `;
}

function words(channel, series, { low, high, last }) {
  const unit = series.unit;
  const range = low === high ? `steady at ${quantity(low, unit)}` : `between ${number(low)} and ${quantity(high, unit)}`;
  return `${channelName(channel)}: ${range} since ${clockTime(series.ts[0], false)}; newest ${quantity(last, unit)} at ${clockTime(series.ts.at(-1))}.`;
}

function options(width, height, shown) {
  const k = colours();
  const font = '430 11px "Inter", system-ui, sans-serif';
  const axis = { stroke: k["ink-3"], font, grid: { stroke: k["chart-grid"], width: 1 }, ticks: { show: false } };
  return {
    width,
    height,
    legend: { show: false },
    cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false } },
    padding: [14, 8, 0, 0],
    scales: {
      x: { time: true },
      y: {
        range: (_, low, high) => {
          const wanted = [low, high, shown.current.limit].filter(Number.isFinite);
          if (!wanted.length) return [0, 1];
          const [from, to] = [Math.min(...wanted), Math.max(...wanted)];
          const room = (to - from) * 0.12 || Math.abs(to) * 0.1 || 1;
          return [from - room, to + room];
        },
      },
    },
    axes: [
      { ...axis, size: 28, grid: { show: false }, values: (_, splits) => splits.map((s) => clockTime(s * 1e6, splits.length > 1 && splits[1] - splits[0] < 60)), space: 70 },
      { ...axis, size: 54, values: (_, splits) => splits.map((s, i) => (i === splits.length - 1 ? `${number(s)} ${unitName(shown.current.unit)}` : number(s))), space: 40 },
    ],
    series: [{}, { stroke: k["chart-line"], width: 1.6, spanGaps: false, points: { show: false } }],
    hooks: { drawClear: [(plot) => paintBehind(plot, k, shown.current)], draw: [(plot) => paintFront(plot, k, shown.current)] },
  };
}

/** The episode of an alert as a tint, gaps as hatching, both under the line. */
function paintBehind(plot, k, { gaps, episode }) {
  const { ctx: c, bbox } = plot;
  const x = (us) => Math.max(bbox.left, Math.min(bbox.left + bbox.width, plot.valToPos(us / 1e6, "x", true)));
  c.save();
  if (episode) {
    const [from, to] = [x(episode[0]), x(episode[1] ?? nowUs())];
    c.fillStyle = faded(k["crit-fill"], 0.1);
    c.fillRect(from, bbox.top, to - from, bbox.height);
    c.fillStyle = k["crit-fill"];
    c.fillRect(from, bbox.top, devicePixelRatio, bbox.height);
  }
  for (const [from, to] of gaps) {
    const [left, right] = [x(from), x(to)];
    if (right - left < 2) continue;
    c.save();
    c.beginPath();
    c.rect(left, bbox.top, right - left, bbox.height);
    c.clip();
    c.fillStyle = k["stale-weak"];
    c.fillRect(left, bbox.top, right - left, bbox.height);
    c.strokeStyle = faded(k["stale-fill"], 0.35);
    c.lineWidth = devicePixelRatio;
    const step = 7 * devicePixelRatio;
    c.beginPath();
    for (let at = left - bbox.height; at < right; at += step) {
      c.moveTo(at, bbox.top + bbox.height);
      c.lineTo(at + bbox.height, bbox.top);
    }
    c.stroke();
    c.restore();
  }
  c.restore();
}

/** The limit as a dashed line with its word, and a dot on the newest reading. */
function paintFront(plot, k, { limit }) {
  const { ctx: c, bbox } = plot;
  c.save();
  if (Number.isFinite(limit)) {
    const y = plot.valToPos(limit, "y", true);
    c.strokeStyle = k["crit-fill"];
    c.lineWidth = devicePixelRatio;
    c.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    c.beginPath();
    c.moveTo(bbox.left, y);
    c.lineTo(bbox.left + bbox.width, y);
    c.stroke();
    c.setLineDash([]);
    c.fillStyle = k.crit;
    c.font = `540 ${11 * devicePixelRatio}px "Inter", system-ui, sans-serif`;
    c.textAlign = "left";
    c.textBaseline = "alphabetic";
    c.fillText("limit", bbox.left + 4 * devicePixelRatio, y - 4 * devicePixelRatio);
  }
  const [xs, ys] = plot.data;
  const last = xs.length - 1;
  if (last >= 0 && ys[last] !== null) {
    c.beginPath();
    c.arc(plot.valToPos(xs[last], "x", true), plot.valToPos(ys[last], "y", true), 3.5 * devicePixelRatio, 0, 2 * Math.PI);
    c.fillStyle = k["chart-line"];
    c.strokeStyle = k.surface;
    c.lineWidth = 2 * devicePixelRatio;
    c.fill();
    c.stroke();
  }
  c.restore();
}
