// One channel of one device over the last hour: what the server remembers, then what arrives while the page is open.
import { useEffect, useState } from "./html.js";
import * as api from "./api.js";
import { nowUs } from "./clock.js";
import { useWatched } from "./places.js";
import { state, subscribe } from "./store.js";

export const HOUR_US = 3600e6;
const REFRESH_MS = 15_000; // positions on the stream are conflated; the server's memory fills in what they skipped
const REDRAW_MS = 250;

/**
 * @returns {{ts: number[], values: (number|null)[], unit: string, sinceUs: number|null, error: Error|null}|null}
 *   `ts` in microseconds, ascending. Null until the first answer.
 */
export function useSeries(device, channel, maxPoints) {
  const [series, setSeries] = useState(null);
  useWatched(device);
  useEffect(() => {
    const stopped = new AbortController();
    let held = null;
    let timer = 0;
    const show = () => {
      timer ||= setTimeout(() => {
        timer = 0;
        if (!stopped.signal.aborted) setSeries({ ...held });
      }, REDRAW_MS);
    };
    const load = async () => {
      const now = nowUs();
      try {
        const answer = await api.series(device, channel, { fromUs: now - HOUR_US, toUs: now + 60e6, maxPoints, signal: stopped.signal });
        held = { ts: answer.ts_us, values: answer.values, unit: answer.unit, sinceUs: answer.since_us, error: null };
        setSeries({ ...held });
      } catch (error) {
        if (stopped.signal.aborted) return;
        held = held ? { ...held, error } : { ts: [], values: [], unit: "", sinceUs: null, error };
        setSeries({ ...held });
      }
    };
    setSeries(null);
    load();
    const refresh = setInterval(load, REFRESH_MS);
    const stop = subscribe(["readings"], (devices) => {
      if (!held) return;
      const found = devices.find((d) => d.id === device);
      const reading = found?.readings?.[channel];
      if (!reading || found.ts_us <= (held.ts.at(-1) ?? 0)) return;
      held.ts.push(found.ts_us);
      held.values.push(toNumber(reading.value));
      show();
    });
    const again = subscribe(["connected"], load);
    return () => {
      stopped.abort();
      stop();
      again();
      clearInterval(refresh);
      clearTimeout(timer);
    };
  }, [device, channel, maxPoints]);
  return series;
}

const toNumber = (value) => (typeof value === "boolean" ? Number(value) : value);

/** The longest silence that still counts as one line: three times the usual step, and never under 5 s. */
export function gapLimitUs(ts) {
  if (ts.length < 3) return 5e6;
  const steps = [];
  for (let i = 1; i < ts.length; i++) steps.push(ts[i] - ts[i - 1]);
  steps.sort((a, b) => a - b);
  return Math.max(5e6, 3 * steps[steps.length >> 1]);
}

/** Break the line where nothing was heard: a null after each gap's beginning, and the gaps as [from, to]. */
export function breakAtGaps(ts, values) {
  const limit = gapLimitUs(ts);
  const out = { ts: [], values: [], gaps: [] };
  ts.forEach((at, i) => {
    if (i && at - ts[i - 1] > limit) {
      out.ts.push(ts[i - 1] + 1);
      out.values.push(null);
      out.gaps.push([ts[i - 1], at]);
    }
    out.ts.push(at);
    out.values.push(values[i]);
  });
  return out;
}

/** Lowest, highest and newest of the numbers; null where there are none. */
export function summary(values) {
  let [low, high, last] = [Infinity, -Infinity, null];
  for (const value of values) {
    if (value === null || Number.isNaN(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
    last = value;
  }
  return last === null ? null : { low, high, last };
}

/** What the newest message says of a channel. */
export const newest = (device, channel) => state.devices.get(device)?.readings?.[channel];
