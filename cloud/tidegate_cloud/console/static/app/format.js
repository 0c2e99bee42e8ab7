// Numbers, times and words as people read them here. A number never parts from its unit.

const NBSP = "\u00a0";
const pad = (n) => String(n).padStart(2, "0");

/** 14:02:18, in the reader's time zone. */
export function clockTime(us, seconds = true) {
  const at = new Date(us / 1000);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}${seconds ? `:${pad(at.getSeconds())}` : ""}`;
}

/** The time of day, with the date where that is not today's. */
export function when(us, nowUs) {
  const at = new Date(us / 1000);
  const sameDay = at.toDateString() === new Date(nowUs / 1000).toDateString();
  return sameDay ? clockTime(us) : `${at.getDate()} ${at.toLocaleString("en", { month: "short" })} ${clockTime(us, false)}`;
}

/** How long, at a glance: 4 s, 6 min, 2 h 05, 3 d. */
export function duration(us) {
  const s = Math.max(0, Math.floor(us / 1e6));
  if (s < 60) return `${s}${NBSP}s`;
  if (s < 3600) return `${Math.floor(s / 60)}${NBSP}min`;
  if (s < 86400) return `${Math.floor(s / 3600)}${NBSP}h${NBSP}${pad(Math.floor((s % 3600) / 60))}`;
  return `${Math.floor(s / 86400)}${NBSP}d`;
}

/** A delay with a tenth of a second while it is short. */
export function delay(ms) {
  return ms < 9950 ? `${(Math.max(0, ms) / 1000).toFixed(1)}${NBSP}s` : duration(ms * 1000);
}

/** Three figures that mean something: 0.042, 4.1, 340, 12,400. */
export function number(value) {
  if (typeof value === "boolean") return value ? "on" : "off";
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) || size >= 1000) return Math.round(value).toLocaleString("en");
  const decimals = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : Math.min(6, 2 - Math.floor(Math.log10(size || 1)));
  const text = value.toFixed(decimals);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

const UNITS = { Cel: "°C", "m/s": "m/s", deg: "°", "%RH": "% RH", "1": "", "%": "%", "/min": "a minute", Ohm: "Ω" };

/** SenML and UCUM symbols as people write them. */
export function unitName(unit) {
  return UNITS[unit] ?? unit ?? "";
}

/** "9.1 °C" */
export function quantity(value, unit) {
  const name = unitName(unit);
  return name ? `${number(value)}${NBSP}${name}` : number(value);
}

/** Speeds travel in m/s and are read in km/h. */
export function speed(mps) {
  return mps === null || mps === undefined ? "–" : `${Math.round(mps * 3.6)}${NBSP}km/h`;
}

const DIRECTIONS = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"];

/** 87 → "east" */
export function direction(deg) {
  return DIRECTIONS[Math.round((((deg % 360) + 360) % 360) / 45) % 8];
}

/** "coolant_temperature" → "Coolant temperature" */
export function channelName(name) {
  const words = name.replace(/[_.]+/g, " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export const plural = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
