// What is said of rollouts: rules from facts alone, without the page around them.
import { number, plural } from "./format.js";

/** How an agent may stand, in the order in which its squares are drawn: the class of its square, and a word for many. */
export const STANDS = {
  took: ["a", "run it"],
  back: ["r", "back on what they ran"],
  refused: ["x", "refused"],
  "rolled-back": ["x", "went back by themselves"],
  unwell: ["x", "run it and are unwell"],
  silent: ["x", "went silent"],
  applying: ["g", "applying"],
  told: ["g", "told"],
  "going-back": ["g", "going back"],
  waiting: ["", "to be told"],
  "moved-on": ["m", "told something newer"],
  away: ["n", "not heard"],
};
export const FAILED = ["refused", "rolled-back", "unwell", "silent"];
const WORDS = {
  running: ["acc", "Running"],
  waiting: ["warn", "Waits for a person"],
  paused: ["warn", "Paused"],
  stopped: ["crit", "Stopped: a gate failed"],
  "rolling-back": ["crit", "Rolling back"],
  "rolled-back": ["", "Rolled back"],
  aborted: ["", "Aborted"],
  done: ["ok", "Done"],
};
const OVER = ["rolled-back", "aborted", "done"];

export const isOver = (rollout) => OVER.includes(rollout.state);
export const tone = (rollout) => WORDS[rollout.state]?.[0] ?? "";

/** "Running, wave 2 of 4" */
export function stateWords(rollout) {
  const word = WORDS[rollout.state]?.[1] ?? rollout.state;
  return isOver(rollout) || rollout.state === "rolling-back" ? word : `${word}, wave ${rollout.wave + 1} of ${rollout.waves.length}`;
}

/** How many of a rollout's agents stand so, or in any of several ways. */
export const counted = (rollout, ...stands) => rollout.waves.reduce((sum, wave) => sum + stands.reduce((n, stand) => n + (wave.counts[stand] ?? 0), 0), 0);

/** Share of all agents that run it, or are back where it was rolled back: 0 to 1. */
export const share = (rollout) => (rollout.agents ? counted(rollout, "took", "back", "moved-on") / rollout.agents : 0);

/** One sentence: how it stands and what comes next. */
export function sentence(rollout) {
  const wave = rollout.waves[rollout.wave];
  const took = wave?.counts.took ?? 0;
  const failed = FAILED.reduce((n, stand) => n + (wave?.counts[stand] ?? 0), 0);
  const away = wave?.counts.away ?? 0;
  const here = `${number(took)} of ${number(wave?.size ?? 0)} in wave ${rollout.wave + 1} run it${failed ? `, ${number(failed)} did not take it` : ""}${away ? `, ${number(away)} not heard` : ""}.`;
  if (rollout.state === "running") return here;
  if (rollout.state === "waiting") return `${here} Wave ${rollout.wave + 2} begins once a person says so.`;
  if (rollout.state === "paused") return `${here} Nobody else is told until it is resumed.`;
  if (rollout.state === "rolling-back") return `${sentenceCase(rollout.reason)}. ${plural(counted(rollout, "going-back"), "agent")} on the way back.`;
  return `${sentenceCase(rollout.reason)}.`;
}

const sentenceCase = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What may be asked: words for the button, its key, what it leads to. */
export const ACTIONS = {
  approve: { word: (r) => (r.state === "stopped" ? "Go on all the same" : `Start wave ${r.wave + 2}`), key: "a", tone: "pri", done: "let on" },
  pause: { word: () => "Pause", key: "p", tone: "", done: "paused" },
  resume: { word: () => "Resume", key: "p", tone: "pri", done: "resumed" },
  retry: { word: () => "Try the failed again", key: "t", tone: "", done: "tried again" },
  abort: { word: () => "Abort", key: "x", tone: "danger", done: "aborted" },
  rollback: { word: () => "Roll back", key: "b", tone: "danger", done: "rolled back" },
};

/** What may be asked now, in the order of the buttons. Nobody is tried again where nobody has failed. */
export const offered = (rollout) => Object.keys(ACTIONS).filter((name) => rollout.actions.includes(name) && (name !== "retry" || counted(rollout, ...FAILED) > 0));

/** What an action does to how many, said before anybody does it. */
export function consequence(rollout, action) {
  const runs = counted(rollout, "took", "unwell");
  const told = rollout.reached;
  const next = rollout.waves[rollout.wave + 1];
  const failed = counted(rollout, ...FAILED);
  return {
    approve: next ? `${plural(next.size, "more agent")} will be told` : "It is over, and done",
    pause: `Nobody else is told${runs ? `; ${plural(runs, "agent keeps", "agents keep")} it` : ""}`,
    resume: "Goes on where it was paused",
    retry: `${plural(failed, "agent")} will be told again`,
    abort: `${plural(told, "agent that was told keeps", "agents that were told keep")} it; nobody else gets it`,
    rollback: `Sends ${plural(told, "agent")} back to what ran before`,
  }[action];
}

/** A gate in words: what it is, what is asked, what is so. */
export function gateWords(gate) {
  const percent = (value) => `${number(Math.round(value * 1000) / 10)} %`;
  return {
    success: ["Takes the configuration", `at least ${percent(gate.limit)} of those that answered`, gate.value === null ? "–" : percent(gate.value)],
    answers: ["Run it and are well", `at least ${number(gate.limit)} of the wave`, number(gate.value)],
    alerts: ["New alerts of those that run it", `at most ${number(gate.limit)}`, number(gate.value)],
  }[gate.name];
}

/** How full a gate's bar is, and where its limit stands, 0 to 1. */
export function gateBar(gate) {
  const top = gate.name === "success" ? 1 : Math.max(gate.limit, gate.value ?? 0, 1) * 1.25;
  return { value: Math.min(1, (gate.value ?? 0) / top), limit: Math.min(1, gate.limit / top) };
}

const SQUARES_MAX = 240;

/** A wave as squares: their classes, and how many agents one of them is. What is rare is never rounded away. */
export function squares(wave) {
  const each = Math.max(1, Math.ceil(wave.size / SQUARES_MAX));
  const found = [];
  for (const [stand, [name]] of Object.entries(STANDS)) {
    const n = wave.counts[stand] ?? 0;
    for (let i = 0; i < Math.ceil(n / each); i++) found.push(name);
  }
  return { each, squares: found };
}

/** Why an agent did not take it, in its own words or in ours. */
export function whyNot(agent) {
  if (agent.why) return agent.why;
  return {
    silent: "Said nothing in time after it was told",
    away: "Not heard since before it was told; gets it when it is back",
    unwell: "Runs it, and is not well",
    refused: "Refused it",
    "rolled-back": "Tried it and went back by itself",
  }[agent.stand] ?? "";
}
