// What is said of silences, and how the words of the form become one: rules without the page around them.
import { when } from "./format.js";

export const FIELDS = { device: "Device", device_group: "Device group", rule: "Rule", kind: "Kind", subject: "About", severity: "Severity" };
export const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const HOWS = { "=": "is", "!=": "is not", "~": "looks like", "!~": "does not look like" };
export const OPS = Object.entries(HOWS);

/** "device looks like TRK-*, severity is warning" */
export const matchWords = (silence) => silence.matchers.map((m) => `${(FIELDS[m.name] ?? m.name).toLowerCase()} ${HOWS[m.op ?? "="]} ${m.value}`).join(", ");

export const recurs = (silence) => Boolean(silence.from_time);

/** Whether it lies ahead, is in force (a recurring one: within its dates), or is over. */
export function standing(silence, nowUs) {
  if (silence.ends_us !== null && silence.ends_us !== undefined && silence.ends_us <= nowUs) return "over";
  return silence.starts_us > nowUs ? "ahead" : "now";
}

/** When it holds, in words. */
export function timeWords(silence, nowUs) {
  const until = silence.ends_us ? ` until ${when(silence.ends_us, nowUs)}` : "";
  if (recurs(silence)) {
    const days = (silence.days ?? []).length ? silence.days.map((d) => d[0].toUpperCase() + d.slice(1)).join(", ") : "every day";
    return `${days}, ${silence.from_time} to ${silence.to_time}${silence.time_zone ? ` ${silence.time_zone}` : " UTC"}${until}`;
  }
  return silence.starts_us > nowUs ? `from ${when(silence.starts_us, nowUs)}${until}` : until.trim();
}

/** The alerts among these that a silence hides now, by what the server says of them. */
export const hiddenBy = (silence, alerts) => alerts.filter((a) => a.state !== "resolved" && a.muted === `silence:${silence.id}`);
