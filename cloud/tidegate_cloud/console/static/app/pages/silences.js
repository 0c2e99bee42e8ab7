// Silences: which alerts page nobody, and when. Made for one alert, for a pattern, once or again and again.
import { html, useEffect, useRef, useState } from "../html.js";
import * as api from "../api.js";
import { StatePill, useTick } from "../alertparts.js";
import { nowUs } from "../clock.js";
import { plural } from "../format.js";
import { Icon } from "../icons.js";
import { useKeys } from "../keys.js";
import { alertAddress, navigate } from "../router.js";
import { settings } from "../settings.js";
import * as rules from "../silences.js";
import { changed, may, shownAlerts, state, useStore } from "../store.js";

const AGAIN_MS = 5_000;
const HOURS = [["1", "1 hour"], ["4", "4 hours"], ["12", "12 hours"], ["24", "1 day"], ["168", "1 week"]];
const TITLES = { now: "In force", ahead: "To come", over: "Over" };

export function SilencesPage({ query }) {
  useStore("alerts", "loaded", "session");
  useTick(1000);
  const [list, setList] = useState(null);
  const [problem, setProblem] = useState("");
  const [making, make] = useState(query.get("new") === "1");
  const load = () => api.silences().then((found) => (setList(found), setProblem("")), (error) => setProblem(error.message));
  useEffect(() => {
    load();
    const timer = setInterval(load, AGAIN_MS);
    return () => clearInterval(timer);
  }, []);
  const edits = may("edit");
  useKeys({ n: () => (edits ? make(true) : false), Escape: () => (making ? make(false) : navigate("/alerts")) });
  const now = nowUs();
  const end = async (silence) => {
    try {
      // One that has not begun, or comes again and again, has nothing that could be cut short: it goes.
      const begun = rules.standing(silence, now) === "now" && !rules.recurs(silence);
      if (begun) await api.putSilence(silence.id, { ...silence, ends_us: Math.round(Math.max(nowUs(), silence.starts_us + 1)) }, silence.version);
      else await api.deleteSilence(silence.id);
      changed("said", "The silence is over; what it hid comes out");
    } catch (error) {
      changed("said", `Not saved: ${error.message}`);
    }
    load();
  };
  const remove = (silence) => api.deleteSilence(silence.id).then(load, (error) => changed("said", `Not saved: ${error.message}`));
  return html`
    <div class="page silences">
      <header class="row between"><div><h1>Silences</h1><p class="lead">Alerts that match are kept and shown, and page nobody until the silence is over.</p></div>
        ${edits && !making && html`<button class="btn pri big" onClick=${() => make(true)}>New silence${settings.keys && html`<kbd aria-hidden="true">n</kbd>`}</button>`}</header>
      ${problem && html`<div class="banner warn" role="alert"><${Icon} name="warn" /><p>Silences did not load: ${problem}. Asked again every 5 s.</p></div>`}
      ${making && html`<${Form} query=${query} onDone=${() => (make(false), load())} />`}
      ${list === null ? html`<p class="mid">Loading the silences</p>` : list.length === 0 && !making ? html`<section class="card empty"><${Icon} name="mute" /><b>Nothing is silenced</b><p>Every alert is told to whom its policy names.</p></section>` : ""}
      ${["now", "ahead", "over"].map((which) => {
        const found = (list ?? []).filter((s) => rules.standing(s, now) === which).sort((a, b) => b.starts_us - a.starts_us);
        return found.length > 0 && html`<section class="card" key=${which}><header><h2>${TITLES[which]}</h2></header><ul class="sl">${found.map((s) => html`<${Silence} key=${s.id} silence=${s} which=${which} edits=${edits} onEnd=${() => end(s)} onRemove=${() => remove(s)} />`)}</ul></section>`;
      })}
    </div>
  `;
}

function Silence({ silence, which, edits, onEnd, onRemove }) {
  const hidden = rules.hiddenBy(silence, shownAlerts());
  return html`<li data-silence=${silence.id}><div><b class="med">${rules.matchWords(silence)}</b><p class="mid">${silence.why || "No reason given"}</p>
    <p class="small dim">${rules.timeWords(silence, nowUs())}; made by ${silence.who || "nobody named"}</p>
    ${hidden.length > 0 && html`<ul class="hid">${hidden.slice(0, 5).map((a) => html`<li key=${a.id}><a href=${alertAddress(a.id)}>${a.title}</a> <${StatePill} alert=${a} /></li>`)}${hidden.length > 5 && html`<li class="dim small">and ${plural(hidden.length - 5, "more alert")}</li>`}</ul>`}</div>
    ${edits && html`<button class="btn" onClick=${which === "over" ? onRemove : onEnd}>${which === "over" ? "Remove" : which === "ahead" || rules.recurs(silence) ? "Take it back" : "End it now"}</button>`}</li>`;
}

function Form({ query, onDone }) {
  const given = Object.keys(rules.FIELDS).filter((name) => query.get(name));
  const [matchers, setMatchers] = useState(given.length ? given.map((name) => ({ name, op: "=", value: query.get(name) })) : [{ name: "device", op: "=", value: "" }]);
  const [hours, setHours] = useState("4");
  const [often, setOften] = useState(false);
  const [days, setDays] = useState([]);
  const [times, setTimes] = useState(["22:00", "06:00"]);
  const [why, setWhy] = useState("");
  const [problem, setProblem] = useState("");
  const key = useRef(api.newId().slice(0, 12));
  const first = useRef(null);
  useEffect(() => first.current?.focus(), []);
  const put = (n, change) => setMatchers(matchers.map((m, i) => (i === n ? { ...m, ...change } : m)));
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const send = async (event) => {
    event.preventDefault();
    const now = Math.round(nowUs());
    const silence = { matchers, starts_us: now, why: why.trim(), ...(often ? { days, from_time: times[0], to_time: times[1], time_zone: zone } : { ends_us: now + Number(hours) * 3600e6 }) };
    try {
      await api.putSilence(key.current, silence, 0);
      changed("said", `Silenced: ${rules.matchWords(silence)}`);
      onDone();
    } catch (error) {
      setProblem(error.message.replace(/^silences, (silence '[^']*': )?/, ""));
    }
  };
  return html`<form class="card mk" onSubmit=${send} aria-label="New silence"><h2>New silence</h2>
    <fieldset><legend>Alerts of which all of this is true</legend>${matchers.map((m, n) => html`<div class="match" key=${n}>
      <select class="inp" aria-label="What of it" ref=${n === 0 ? first : null} value=${m.name} onChange=${(e) => put(n, { name: e.target.value })}>${Object.entries(rules.FIELDS).map(([v, w]) => html`<option value=${v} selected=${v === m.name}>${w}</option>`)}</select>
      <select class="inp" aria-label="How" value=${m.op} onChange=${(e) => put(n, { op: e.target.value })}>${rules.OPS.map(([v, w]) => html`<option value=${v} selected=${v === m.op}>${w}</option>`)}</select>
      <input class="inp" aria-label="Value" required maxlength="200" list=${m.name === "device" ? "silence-devices" : null} value=${m.value} onInput=${(e) => put(n, { value: e.target.value })} />
      ${matchers.length > 1 ? html`<button type="button" class="btn quiet sq" aria-label="Remove this condition" onClick=${() => setMatchers(matchers.filter((_, i) => i !== n))}><${Icon} name="x" /></button>` : html`<span></span>`}</div>`)}
      <datalist id="silence-devices">${Array.from(state.devices.keys(), (id) => html`<option value=${id} />`)}</datalist>
      <button type="button" class="btn" onClick=${() => setMatchers([...matchers, { name: "severity", op: "=", value: "" }])}><${Icon} name="plus" />And</button>
      <p class="small dim">"Looks like" knows * and ?.</p></fieldset>
    <fieldset><legend>When</legend><div class="bar">
      ${HOURS.map(([v, w]) => html`<button type="button" class="chip ${!often && hours === v ? "set" : ""}" aria-pressed=${!often && hours === v} onClick=${() => (setOften(false), setHours(v))}>${w}</button>`)}
      <button type="button" class="chip ${often ? "set" : ""}" aria-pressed=${often} onClick=${() => setOften(true)}>Again and again</button></div>
      ${often && html`<div class="bar often">${rules.DAYS.map((d) => html`<button type="button" class="chip ${days.includes(d) ? "set" : ""}" aria-pressed=${days.includes(d)} onClick=${() => setDays(days.includes(d) ? days.filter((x) => x !== d) : rules.DAYS.filter((x) => x === d || days.includes(x)))}>${d[0].toUpperCase() + d.slice(1)}</button>`)}
        <label class="row">from <input class="inp" type="time" required value=${times[0]} onInput=${(e) => setTimes([e.target.value, times[1]])} /></label><label class="row">to <input class="inp" type="time" required value=${times[1]} onInput=${(e) => setTimes([times[0], e.target.value])} /></label><span class="small dim">${zone}; every day while none is chosen</span></div>`}</fieldset>
    <label class="field"><span>Why, for those who wonder why nobody was paged</span><input class="inp" name="why" required maxlength="200" value=${why} onInput=${(e) => setWhy(e.target.value)} /></label>
    ${problem && html`<p class="t-crit" role="alert">Not saved: ${problem}</p>`}
    <div class="row"><button class="btn pri big">Silence</button><button type="button" class="btn big" onClick=${onDone}>Leave it</button></div></form>`;
}
