// What is said of the pipeline: rules from facts alone, without the page around them.
import { delay, number } from "./format.js";

const SLOW_MS = 2_000;

/** What each stage counts: what it is, what comes in, what goes out, what waits. */
export const STAGES = {
  agent: { title: "Agent", what: "on the device: reads sources, keeps scans", came: "Scans in", went: "Acknowledged", waits: "Scans waiting" },
  processor: { title: "Processor", what: "frames to events", came: "Frames in", went: "Events out", waits: "Records waiting" },
  alerts: { title: "Alerts", what: "events to alerts", came: "Events in", went: "Transitions out", waits: "Records waiting" },
};

export const titleOf = (name) => STAGES[name]?.title ?? name;

/** Where records wait, the longest wait first: what Kafka proves of the stages, and of this console. */
function waits(health) {
  return [...(health?.stages ?? []), { name: "console", behind_ms: health?.behind_ms ?? null }]
    .filter((stage) => stage.behind_ms !== null && stage.behind_ms > SLOW_MS)
    .sort((a, b) => b.behind_ms - a.behind_ms);
}

/** @returns {string|null} the stage that waits longest, where one is behind */
export const slowest = (health) => waits(health)[0]?.name ?? null;

/** One sentence for the head of the page. Only what was looked at counts: no stage is called well for want of news. */
export function headline(stages, health) {
  const silent = stages.filter((stage) => stage.up === false).map((stage) => titleOf(stage.name));
  if (health && health.kafka !== "up") return "Kafka does not answer the console";
  if (silent.length) return `${silent.join(" and ")} ${silent.length > 1 ? "do" : "does"} not answer`;
  const [worst] = waits(health);
  if (worst) return `The ${worst.name} is the delay: it is ${delay(worst.behind_ms)} behind`;
  return stages.some((stage) => stage.up) ? "Nothing that was looked at is behind" : "Only Kafka was looked at; nothing there is behind";
}

/** Refused so far, by stage; null where no stage says. */
export function refused(stages) {
  const told = stages.filter((stage) => stage.dead_letters !== null);
  return told.length ? told.reduce((sum, stage) => sum + stage.dead_letters, 0) : null;
}

/** "5,940/s"; a dash until two looks have been made. */
export const rate = (perSecond) => (perSecond === null ? "–" : `${number(perSecond)}/s`);

/** The bound of a histogram's bucket. */
export const within = (seconds) => (seconds === null ? "–" : seconds < 1 ? `${number(seconds * 1000)}\u00a0ms` : delay(seconds * 1000));
