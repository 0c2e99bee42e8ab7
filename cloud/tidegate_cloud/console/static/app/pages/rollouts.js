// Rollouts: the list beside one of them. What stands so is the server's; what is asked goes to it with a reason.
import { html, useEffect, useState } from "../html.js";
import * as api from "../api.js";
import { useTick } from "../alertparts.js";
import { nowUs } from "../clock.js";
import { clockTime, duration, number, plural, when } from "../format.js";
import { Icon, Severity } from "../icons.js";
import { useKeys } from "../keys.js";
import { deviceAddress, navigate, rolloutAddress } from "../router.js";
import * as rules from "../rollouts.js";
import { AskDialog } from "../rolloutask.js";
import { settings } from "../settings.js";
import { may, state, useStore } from "../store.js";

const AGAIN_MS = 5_000;

export function RolloutsPage({ id }) {
  useStore("rollouts", "loaded", "session", "freshness");
  const list = state.rollouts;
  const shown = id ?? list[0]?.id ?? null;
  const step = (by) => {
    const at = list.findIndex((r) => r.id === shown);
    const next = list[Math.max(0, Math.min(list.length - 1, at + by))];
    if (next) navigate(rolloutAddress(next.id), { replace: id !== null });
  };
  useKeys({ j: () => step(1), k: () => step(-1) });
  if (!state.link.everHeard) return html`<div class="page"><h1>Rollouts</h1><p class="mid">Loading the rollouts</p></div>`;
  if (!list.length && !id) return html`<${Empty} />`;
  return html`
    <div class="rollouts ${id ? "one" : ""}">
      <nav class="rl" aria-label="Rollouts"><header><h2>Rollouts</h2></header>
        ${list.map((r) => html`<a key=${r.id} href=${rolloutAddress(r.id)} aria-current=${r.id === shown ? "true" : null} data-rollout=${r.id}>
          <span class="clip"><b class="med">${r.id}</b> <span class="mid">${r.title || r.layer}</span></span>
          <span class="row between"><span class="pill ${rules.tone(r)}">${rules.stateWords(r)}</span><span class="small dim tn">${Math.round(rules.share(r) * 100)} %</span></span>
          <span class="meter" aria-hidden="true"><i class=${rules.tone(r)} style=${{ width: `${rules.share(r) * 100}%` }}></i></span></a>`)}
      </nav>
      <div class="det" tabindex="0" aria-label="Rollout ${shown}">${shown && html`<${Detail} key=${shown} id=${shown} />`}</div>
    </div>
  `;
}

const Empty = () => html`<div class="page"><h1 class="sr">Rollouts</h1><section class="card empty"><${Icon} name="rollout" /><b>No configuration was pushed yet</b>
  <p>A rollout begins on the command line, and is watched and steered here:</p><p class="mono">tidegate config push LAYER FILE --waves 1%,10%,100% --why "…"</p></section></div>`;

/** A rollout and those that did not take it, asked again whenever the stream says that it changed, and now and then. */
function useRollout(id) {
  const [look, set] = useState({ rollout: null, agents: null, problem: "", status: 0 });
  const news = JSON.stringify(state.rollouts.find((r) => r.id === id) ?? null);
  useEffect(() => {
    let gone = false;
    let timer;
    const ask = async () => {
      try {
        const [rollout, agents] = await Promise.all([api.rolloutById(id), api.rolloutAgents(id)]);
        if (!gone) set({ rollout, agents, problem: "", status: 200 });
      } catch (error) {
        if (!gone) set((before) => ({ ...before, problem: error.message, status: error.status ?? 0 }));
      }
      if (!gone) timer = setTimeout(ask, AGAIN_MS);
    };
    ask();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [id, news]);
  return look;
}

function Detail({ id }) {
  useTick(1000);
  const { rollout, agents, problem, status } = useRollout(id);
  const [asked, ask] = useState(null);
  const allowed = rollout && may("edit") ? rules.offered(rollout) : [];
  const on = (...names) => () => {
    const action = names.find((name) => allowed.includes(name));
    return action ? ask(action) : false;
  };
  useKeys({ a: on("approve"), p: on("pause", "resume"), t: on("retry"), x: on("abort"), b: on("rollback") });
  if (!rollout) {
    if (!problem) return html`<div class="page"><p class="mid">Loading ${id}</p></div>`;
    return html`<div class="page"><section class="card empty"><${Icon} name="warn" /><b>${status === 404 ? `There is no rollout ${id}` : `${id} did not load`}</b>
      <p>${status === 404 ? "It may be older than what is kept." : `${problem}. Asked again every 5 s.`}</p><a class="btn" href="/rollouts">All rollouts</a></section></div>`;
  }
  const now = nowUs();
  return html`
    <div class="page rollout">
      ${problem && html`<div class="banner full"><${Icon} name="warn" /><p>What is shown was so a while ago: ${problem}. Asked again every 5 s.</p></div>`}
      <header class="full hd"><div class="grow">
        <div class="tags"><span class="pill ${rules.tone(rollout)}" data-testid="state">${rules.stateWords(rollout)}</span>
          <span class="dim">${rollout.layer}, started ${when(rollout.created_us, now)} by ${rollout.who}</span></div>
        <h1>${rollout.id} ${rollout.title || rollout.why || `changes ${rollout.layer}`}</h1>
        <p class="lead">${rules.sentence(rollout)} ${rollout.next_us && html`<span>All gates hold, so ${rollout.wave + 1 < rollout.waves.length ? `wave ${rollout.wave + 2} starts` : "it is done"} at <b class="med tn">${clockTime(rollout.next_us)}</b> unless someone pauses it.</span>`}</p></div>
        <div class="acts" role="group" aria-label="Actions">${allowed.map((name) => html`<${Act} key=${name} name=${name} rollout=${rollout} onAsk=${ask} />`)}
          ${!may("edit") && rollout.actions.length > 0 && html`<p class="small dim">An operator may pause it or roll it back; you may look.</p>`}</div></header>
      <section class="card full waves" aria-label="Waves">${rollout.waves.map((wave, n) => html`<${Wave} key=${n} wave=${wave} n=${n} rollout=${rollout} />`)}</section>
      <${Gates} rollout=${rollout} now=${now} />
      <${Difference} rollout=${rollout} />
      <${NotTaken} agents=${agents} rollout=${rollout} now=${now} />
      <section class="card full"><header><h2>Who did what, and why</h2></header><div class="b"><ol class="tl">
        ${[...rollout.steps].reverse().map((s) => html`<li key=${s.version}><span class="pt ${{ done: "ok", "rolled-back": "ok", stopped: "crit", "rolling-back": "crit" }[s.to_state] ?? "acc"}"></span>
          <div><b>${STEPS[s.action] ?? s.action}${s.who !== "system" ? ` by ${s.who}` : ""}</b>${s.why && html`<div class="why">${s.why}</div>`}</div><time>${when(s.ts_us, now)}</time></li>`)}</ol></div></section>
      ${asked && html`<${AskDialog} rollout=${rollout} action=${asked} onClose=${() => ask(null)} />`}
    </div>
  `;
}

const STEPS = {
  started: "Started", wave: "Next wave", waiting: "Waits for a person", approved: "Let on", paused: "Paused", resumed: "Resumed",
  retried: "Tried again", aborted: "Aborted", failed: "A gate failed", "rolling-back": "Roll-back asked for", "rolled-back": "Rolled back", done: "Done",
};

function Act({ name, rollout, onAsk }) {
  const action = rules.ACTIONS[name];
  return html`<div class="a"><button class="btn big ${action.tone}" onClick=${() => onAsk(name)}>${action.word(rollout)}${settings.keys && html`<kbd aria-hidden="true">${action.key}</kbd>`}</button>
    <span class="small dim">${rules.consequence(rollout, name)}</span></div>`;
}

function Wave({ wave, n, rollout }) {
  const { each, squares } = rules.squares(wave);
  const now = wave.state === "now" && !rules.isOver(rollout);
  return html`<div class="wave ${now ? "now" : ""}" data-wave=${n + 1}><h2>${n + 1} <span class="clip grow">${wave.name}</span>${wave.state === "done" && rollout.state !== "aborted" ? html`<span class="pill ok"><${Icon} name="check" />passed</span>` : now ? html`<span class="pill acc">now</span>` : wave.manual ? html`<span class="small dim">needs a person</span>` : ""}</h2>
    <p class="sub">${plural(wave.size, "agent")}${each > 1 ? `; a square is ${each}` : ""}</p>
    <div class="dots" aria-hidden="true">${squares.map((k) => html`<i class=${k}></i>`)}</div>
    <ul class="leg">${Object.entries(rules.STANDS).filter(([stand]) => wave.counts[stand]).map(([stand, [k, word]]) => html`<li key=${stand}><span class="dots one" aria-hidden="true"><i class=${k}></i></span><b class="med tn">${number(wave.counts[stand])}</b> ${word}</li>`)}</ul></div>`;
}

/** Too few answers are no fault: they may yet come. */
const failing = (gate) => gate.holds === false && gate.name !== "answers";

function Gates({ rollout, now }) {
  const held = rollout.next_us ? Math.max(0, rollout.hold_s * 1e6 - (rollout.next_us - now)) : null;
  return html`<section class="card gates"><header><h2>Gates</h2><span class="dim">all must hold for ${duration(rollout.hold_s * 1e6)}${held === null ? "" : `; ${duration(held)} so far`}</span></header><div class="b">
    ${rollout.gates.length ? rollout.gates.map((gate) => {
      const [name, wanted, value] = rules.gateWords(gate);
      const bar = rules.gateBar(gate);
      return html`<div class="gate" key=${gate.name} data-gate=${gate.name}><${Icon} name=${gate.holds ? "check" : failing(gate) ? "warn" : "clock"} class=${gate.holds ? "t-ok" : failing(gate) ? "t-warn" : "dim"} />
        <div><b class="med">${name}</b> <span class="small dim">${wanted}</span> <span class="sr">${gate.holds ? "holds" : failing(gate) ? "does not hold" : "not yet"}</span></div>
        <div class="lim" aria-hidden="true"><i class=${failing(gate) ? "w" : ""} style=${{ width: `${bar.value * 100}%` }}></i><u style=${{ left: `${bar.limit * 100}%` }}></u></div><span class="num tn med">${value}</span></div>`;
    }) : html`<p class="dim">No wave is under way.</p>`}
    <p class="small mid">An agent that was there and says nothing for ${duration(rollout.timeout_s * 1e6)} has failed. When a gate fails, ${rollout.on_failure === "rollback" ? "everybody who was told goes back by itself" : "it stops, and a person decides"}.${rollout.pace ? ` At most ${rollout.pace} agents are told a minute.` : ""}</p></div></section>`;
}

function Difference({ rollout }) {
  const lines = rollout.difference.slice(2);
  return html`<section class="card"><header><h2>What changes</h2></header><div class="b">
    <pre class="diff" tabindex="0" aria-label="Difference of ${rollout.layer}">${lines.length ? lines.map((line) => html`<span class=${line.startsWith("+") ? "p" : line.startsWith("-") ? "m" : line.startsWith("@@") ? "at" : ""}>${line}\n</span>`) : "Only files change."}</pre>
    ${rollout.files.length > 0 && html`<p class="small mid">With ${rollout.files.join(", ")}.</p>`}
    <p class="small mid">Each agent verifies the signature itself, and keeps the old configuration to fall back to.</p></div></section>`;
}

function NotTaken({ agents, rollout, now }) {
  if (!agents) return null;
  const failed = rules.counted(rollout, ...rules.FAILED);
  const away = rules.counted(rollout, "away");
  return html`<section class="card full"><header><h2>Did not take it</h2>${failed > 0 && html`<span class="pill crit">${number(failed)} failed</span>`}${away > 0 && html`<span class="pill stale">${number(away)} not heard</span>`}</header>
    ${agents.total === 0 ? html`<div class="b"><p class="dim">Nobody so far.</p></div>` : html`<table class="nt"><thead><tr><th>Agent</th><th class="dk">Wave</th><th>What happened</th><th class="num dk">Runs number</th><th class="num">Last heard</th></tr></thead>
      <tbody>${agents.agents.map((a) => html`<tr key=${a.agent} data-agent=${a.agent}><td><span class="row">${a.failed ? html`<${Severity} of="critical" quiet />` : html`<${Icon} name="plug" class="t-stale" />`}<a class="med" href=${deviceAddress(a.agent)}>${a.agent}</a></span></td>
        <td class="dk mid tn">${a.wave + 1}</td><td>${rules.whyNot(a)}${a.stand === "back" ? html` <span class="pill">back</span>` : a.stand === "going-back" ? html` <span class="pill acc">going back</span>` : ""}</td>
        <td class="num tn dk mid">${a.running ?? "–"}</td><td class="num tn mid nowrap">${a.heard_us === null ? "never" : `${duration(now - a.heard_us)} ago`}</td></tr>`)}</tbody></table>
      ${agents.total > agents.agents.length && html`<p class="b small mid">${plural(agents.total - agents.agents.length, "more agent")} not listed; <span class="mono">tidegate config status ${rollout.id}</span> lists all.</p>`}`}</section>`;
}
