// How the pipeline is: each stage's rate, delay, lag and dead letters, and what Kafka's topics get.
import { html, useEffect, useState } from "../html.js";
import { useTick } from "../alertparts.js";
import { Refused, pipeline } from "../api.js";
import { nowUs } from "../clock.js";
import { clockTime, duration, number, plural } from "../format.js";
import { Icon } from "../icons.js";
import { STAGES, headline, rate, refused, slowest, titleOf, within } from "../stages.js";
import { state, useStore } from "../store.js";

const EVERY_MS = 2_000;
const OLD_US = 10e6;

/** What the server last said, and what went wrong since. Asked again two seconds after each answer. */
function usePipeline() {
  const [look, set] = useState({ view: null, problem: "" });
  useEffect(() => {
    let timer;
    let gone = false;
    const ask = async () => {
      try {
        const view = await pipeline();
        if (!gone) set({ view, problem: "" });
      } catch (error) {
        const problem = error instanceof Refused ? error.message : "the server does not answer";
        if (!gone) set((before) => ({ ...before, problem }));
      }
      if (!gone) timer = setTimeout(ask, EVERY_MS);
    };
    ask();
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, []);
  return look;
}

export function PipelinePage() {
  useStore("health", "freshness");
  useTick(1000);
  const { view, problem } = usePipeline();
  if (!view) {
    return html`<div class="page pipeline"><h1>Pipeline</h1>
      ${problem ? html`<div class="banner crit"><${Icon} name="warn" /><p>The pipeline cannot be looked at: ${problem}. Asked again every 2 s.</p></div>` : html`<p class="mid">Loading the stages</p>`}</div>`;
  }
  const age = Math.max(0, nowUs() - view.server_us);
  const old = problem !== "" || age > OLD_US;
  const dead = refused(view.stages);
  return html`
    <div class="page pipeline ${old ? "old" : ""}">
      <header><h1>${old ? `How the pipeline was at ${clockTime(view.server_us)}` : headline(view.stages, state.health)}</h1>
        <p class="lead">${dead === null ? "No stage was asked what it refused." : dead ? `${plural(dead, "record")} could not be used and ${dead === 1 ? "was" : "were"} set aside since the stages started.` : "Nothing has been refused since the stages started."}
          ${" "}<span class="tn dim">Looked at ${duration(age)} ago.</span></p></header>
      ${old && html`<div class="banner"><${Icon} name="warn" /><p>Data as of <b class="tn">${clockTime(view.server_us)}</b>: ${problem || "no newer answer"}. Asked again every 2 s.</p></div>`}
      <section class="card stages" aria-label="Stages">${view.stages.map((stage) => html`<${Stage} key=${stage.name} stage=${stage} slow=${!old && slowest(state.health) === stage.name} old=${old} />`)}</section>
      <section class="card" tabindex="0" aria-label="Topics"><header><h2>Topics on Kafka</h2><span class="dim">records, and how many a second over the last 10 s</span></header>
        ${
          view.topics.length
            ? html`<table><thead><tr><th>Topic</th><th class="num">A second</th><th class="num">So far</th></tr></thead>
              <tbody>${view.topics.map((topic) => html`<tr key=${topic.name} data-topic=${topic.name}><td class="mono">${topic.name}</td><td class="num tn">${number(topic.per_s)}</td><td class="num tn">${number(topic.records)}</td></tr>`)}</tbody></table>`
            : html`<div class="empty"><b>Kafka has not said yet where its topics end</b><p>The console asks once a second.</p></div>`
        }</section>
    </div>
  `;
}

function Stage({ stage, slow, old }) {
  const words = STAGES[stage.name] ?? {};
  return html`
    <div class="st ${slow ? "hot" : ""}" data-stage=${stage.name}>
      <h2>${titleOf(stage.name)}<${Verdict} up=${stage.up} slow=${slow} old=${old} /></h2>
      <p class="dim small">${words.what}</p>
      ${
        stage.up
          ? html`<dl class="facts">
              <${Fact} name=${words.came ?? "In"} value=${rate(stage.in_per_s)} />
              <${Fact} name=${words.went ?? "Out"} value=${rate(stage.out_per_s)} />
              <${Fact} name=${words.waits ?? "Waiting"} value=${number(stage.lag)} />
              <${Fact} name="Half done within" value=${within(stage.delay_p50_s)} />
              <${Fact} name="99 % done within" value=${within(stage.delay_p99_s)} />
              <${Fact} name="Refused" value=${number(stage.dead_letters)} warn=${stage.dead_letters > 0} />
            </dl>`
          : html`<p class="mid">${stage.up === null ? "The console was not told where its metrics are (--scrape)." : "Its metrics do not answer. It may be down, or only out of reach of the console."}</p>`
      }
    </div>
  `;
}

const Fact = ({ name, value, warn }) => html`<dt>${name}</dt><dd class="tn ${warn ? "t-warn" : ""}">${value}</dd>`;

function Verdict({ up, slow, old }) {
  if (up === null) return html`<span class="pill">not looked at</span>`;
  if (old) return html`<span class="pill stale">not known now</span>`;
  if (!up) return html`<span class="pill crit"><${Icon} name="x" />no answer</span>`;
  return slow ? html`<span class="pill warn"><${Icon} name="warn" />slowest now</span>` : html`<span class="pill ok"><${Icon} name="check" />answers</span>`;
}
