// What a fence is for, beside the map: its name, its shape in numbers, its rules, its versions; and publishing it.
import { html, useEffect, useState } from "./html.js";
import * as api from "./api.js";
import { nowUs } from "./clock.js";
import { when } from "./format.js";
import * as shape from "./fencedraft.js";
import { Icon } from "./icons.js";
import { SEVERITIES } from "./alerts.js";
import { fenceAddress, navigate } from "./router.js";
import { changed, state } from "./store.js";
import { dropDraft } from "./fencedrafts.js";

const POINTS_MAX = 60;

export function FenceForm({ id, draft, feature, dirty, check, edits, onChange, onDiscard, onRepair, onGhost }) {
  const f = draft.fields;
  const field = (name, value) => onChange(shape.withField(draft, name, value), { again: `field-${name}` });
  const current = feature?.properties.version ?? 0;
  const behind = dirty && draft.version !== 0 && draft.version !== current;
  return html`
    <section><h2><span class="grow clip">${f.name || "New fence"}</span>${dirty ? html`<span class="pill acc">Draft of v${current + 1}</span>` : html`<span class="pill">v${draft.version}</span>`}</h2>
      <${Check} draft=${draft} check=${check} dirty=${dirty} onRepair=${onRepair} />
      <label class="field"><span>Name</span><input class="inp" name="name" maxlength="120" readonly=${!edits} value=${f.name} onInput=${(e) => field("name", e.target.value)} /></label>
      <dl class="facts"><dt>Shape</dt><dd data-testid="shape">${shape.shapeWords(draft)}</dd></dl>
      ${draft.type === "Point" && html`<${Quantity} label="Radius" unit="m" value=${f.radius_m} min=${1} edits=${edits} onValue=${(v) => field("radius_m", v)} />`}
      ${draft.type.endsWith("LineString") && html`<${Quantity} label="Half its width" unit="m" value=${f.distance_m} min=${1} edits=${edits} onValue=${(v) => field("distance_m", v)} />`}
      <${Points} draft=${draft} edits=${edits} onChange=${onChange} />
    </section>
    <section><h2>Rules</h2>
      <ul class="says">${shape.sentences(draft).map((s) => html`<li>${s}</li>`)}${!shape.sentences(draft).length && html`<li class="dim">It raises nothing; who enters and leaves is on record.</li>`}</ul>
      <${Rules} f=${f} edits=${edits} field=${field} /></section>
    ${feature && html`<${Versions} id=${id} version=${current} draft=${draft} edits=${edits} onChange=${onChange} onGhost=${onGhost} />`}
    ${behind && html`<section><div class="banner warn" role="alert"><${Icon} name="warn" /><div><p>Somebody published v${current} meanwhile; this draft is of v${draft.version}.</p>
      <p class="row"><button class="btn" onClick=${() => onDiscard()}>Take theirs</button><button class="btn" onClick=${() => onChange({ ...draft, version: current })}>Go on with mine</button></p></div></div></section>`}
    ${edits && html`<${Foot} id=${id} draft=${draft} dirty=${dirty} check=${check} current=${current} onDiscard=${onDiscard} />`}
  `;
}

function Check({ draft, check, dirty, onRepair }) {
  if (!dirty || draft.drawing || check.ok === null) return html`<p class="sr" role="status"></p>`;
  if (check.ok) return html`<p class="t-ok small row" role="status"><${Icon} name="check" />The shape and the rules are valid</p>`;
  return html`<div class="banner crit" role="alert"><${Icon} name="warn" /><div><p>It cannot be published: ${check.words}</p>
    ${check.bad && html`<p class="small">The place is ringed on the map.</p>`}
    ${check.mended && html`<p><button class="btn" onClick=${onRepair}>Repair: make it ${check.mended.words}</button></p>`}</div></div>`;
}

const Quantity = ({ label, unit, value, min, edits, onValue, step = 1 }) => html`<label class="field num"><span>${label}</span>
  <span class="row"><input class="inp" type="number" min=${min} step=${step} readonly=${!edits} value=${value ?? ""} onInput=${(e) => onValue(e.target.value === "" ? null : Number(e.target.value))} /><span class="mid">${unit}</span></span></label>`;

/** Every point as numbers: for those who have them, or do not use a map. */
function Points({ draft, edits, onChange }) {
  const all = shape.points(draft);
  if (!all.length || all.length > POINTS_MAX) return null;
  const put = (l, i, at, n, value) => Number.isFinite(value) && Math.abs(value) <= (n ? 90 : 360) && onChange(shape.place(draft, l, i, at.map((old, k) => (k === n ? value : old))), { again: `point-${l}-${i}-${n}` });
  return html`<details class="pts"><summary>Points as numbers</summary><ol>${all.map(([l, i, at], n) => html`<li key=${`${l}-${i}`}><span class="dim tn">${n + 1}</span>
    ${[1, 0].map((k) => html`<input class="inp tn" type="number" step="0.00001" readonly=${!edits} aria-label="${k ? "Latitude" : "Longitude"} of point ${n + 1}" value=${at[k]} onChange=${(e) => put(l, i, at, k, Number(e.target.value))} />`)}
    ${edits && html`<button class="btn quiet sq" aria-label="Remove point ${n + 1}" disabled=${!shape.canRemove(draft, l)} onClick=${() => onChange(shape.remove(draft, l, i))}><${Icon} name="x" /></button>`}</li>`)}</ol></details>`;
}

function Rules({ f, edits, field }) {
  const groups = [...new Set([...Array.from(state.devices.values(), (d) => d.group), ...f.groups])].filter(Boolean).sort();
  const turn = (group) => field("groups", f.groups.includes(group) ? f.groups.filter((g) => g !== group) : [...f.groups, group]);
  const select = (label, name, options) => html`<label class="field"><span>${label}</span><select class="inp" name=${name} disabled=${!edits} value=${f[name]} onChange=${(e) => field(name, e.target.value)}>${options.map(([v, w]) => html`<option value=${v} selected=${v === f[name]}>${w}</option>`)}</select></label>`;
  const limit = (label, name, unit, shown, first, scale) => html`<div class="limit"><label class="row"><input type="checkbox" class="switch" role="switch" disabled=${!edits} checked=${f[name] !== null} onChange=${(e) => field(name, e.target.checked ? first : null)} />${label}</label>
    ${f[name] !== null && html`<${Quantity} label=${shown} unit=${unit} value=${Math.round((f[name] / scale) * 100) / 100} min=${0.1} step="any" edits=${edits} onValue=${(v) => field(name, v === null ? 0 : v * scale)} />`}</div>`;
  return html`<div class="rules">
    <fieldset><legend>Applies to</legend><div class="bar">${groups.map((g) => html`<button type="button" class="chip ${f.groups.includes(g) ? "set" : ""}" aria-pressed=${f.groups.includes(g)} disabled=${!edits} onClick=${() => turn(g)}>${g}</button>`)}</div>
      <p class="small dim">${f.groups.length ? "Only vehicles of these groups." : "Every vehicle, while none is chosen."}</p></fieldset>
    <div class="pair">${select("Alert when a vehicle", "alert_on", [["enter", "enters"], ["exit", "leaves"], ["none", "neither"]])}${select("Severity", "severity", Object.entries(SEVERITIES))}</div>
    ${limit("Alert on long stays", "dwell_s", "min", "Longer than", 900, 60)}
    ${limit("Alert on speed", "speed_limit_mps", "km/h", "Faster than", 20 / 3.6, 1 / 3.6)}
    <label class="field"><span>Hours, as Mo-Fr 07:00-18:00; Sa 08:00-12:00</span><input class="inp" name="schedule" readonly=${!edits} value=${f.schedule} onInput=${(e) => field("schedule", e.target.value)} /></label>
    ${f.schedule && html`<div class="pair">${select("In these hours", "schedule_mode", [["presence", "vehicles may be inside"], ["active", "the fence is there"]])}
      <label class="field"><span>Time zone</span><input class="inp" name="time_zone" placeholder="UTC" readonly=${!edits} value=${f.time_zone} onInput=${(e) => field("time_zone", e.target.value)} /></label></div>`}
    <div class="row events">${[["enter_events", "Record who enters"], ["exit_events", "Record who leaves"]].map(([name, word]) => html`<label class="row"><input type="checkbox" class="switch" role="switch" disabled=${!edits} checked=${f[name]} onChange=${(e) => field(name, e.target.checked)} />${word}</label>`)}</div>
  </div>`;
}

/** What the fence was: shown on the map beside the draft, or taken as the draft. */
function Versions({ id, version, draft, edits, onChange, onGhost }) {
  const [versions, set] = useState(null);
  const [shown, show] = useState(null);
  useEffect(() => {
    let gone = false;
    api.fenceVersions(id).then((found) => !gone && set(found), () => !gone && set([]));
    return () => void (gone = true);
  }, [id, version]);
  const look = (v) => {
    const next = shown === v.version ? null : v.version;
    show(next);
    onGhost(next === null ? null : v.feature);
  };
  const back = (v) => onChange({ ...shape.fromFeature(v.feature), version: draft.version });
  return html`<section><h2>Versions</h2><ol class="vs">${(versions ?? []).map((v) => html`<li key=${v.at_us} data-version=${v.version}><b class="med">${v.version === null ? "–" : `v${v.version}`}</b>
    <div><span class="mid">${v.version === null ? "Removed" : v.why || (v.version === version ? "As it is now" : "No reason given")}</span>
      <div class="small dim">${[v.who, when(v.at_us, nowUs())].filter(Boolean).join(", ")}</div></div>
    ${v.feature && v.version !== version ? html`<span class="row"><button class="btn quiet" aria-pressed=${shown === v.version} onClick=${() => look(v)}>${shown === v.version ? "Hide" : "Show"}</button>${edits && html`<button class="btn quiet" onClick=${() => back(v)}>Bring back</button>`}</span>` : html`<span></span>`}</li>`)}</ol>
    <p class="small dim">As far back as Kafka has them.</p></section>`;
}

function Foot({ id, draft, dirty, check, current, onDiscard }) {
  const [why, setWhy] = useState("");
  const [going, go] = useState(false);
  const [problem, setProblem] = useState("");
  const [removing, remove] = useState(false);
  const name = draft.id || shape.idFrom(draft.fields.name);
  const ready = dirty && !draft.drawing && check.ok === true && draft.fields.name.trim() && name && !going && (draft.version === current || id === "new");
  const run = async (work) => {
    go(true);
    setProblem("");
    try {
      await work();
    } catch (error) {
      setProblem(error.message);
    }
    go(false);
  };
  const publish = (event) => {
    event.preventDefault();
    return run(async () => {
      const kept = await api.putFence(name, shape.toFeature({ ...draft, id: name }), draft.version, why.trim());
      state.fences = { ...state.fences, features: [...state.fences.features.filter((f) => f.id !== name), kept] };
      dropDraft(id);
      changed("fences");
      changed("said", `Published ${kept.properties.name}, v${kept.properties.version}`);
      setWhy("");
      navigate(fenceAddress(name), { replace: id === "new" });
    });
  };
  const drop = () =>
    run(async () => {
      await api.deleteFence(id, current);
      dropDraft(id);
      state.fences = { ...state.fences, features: state.fences.features.filter((f) => f.id !== id) };
      changed("fences");
      changed("said", `Removed ${draft.fields.name}`);
      navigate("/fences");
    });
  return html`<form class="foot" onSubmit=${publish}>
    ${problem && html`<p class="t-crit" role="alert">Not saved: ${problem}</p>`}
    ${dirty && html`<label class="field"><span>What changed and why, for those who read this later</span><input class="inp" name="why" maxlength="200" value=${why} onInput=${(e) => setWhy(e.target.value)} /></label>`}
    <div class="row">${dirty && html`<button class="btn pri big" disabled=${!ready}>Publish v${current + 1}</button><button type="button" class="btn big" onClick=${onDiscard}>Discard</button>`}
      ${!dirty && id !== "new" && (removing ? html`<button type="button" class="btn big danger" disabled=${going} onClick=${drop}>Remove ${draft.fields.name}</button><button type="button" class="btn big" onClick=${() => remove(false)}>Leave it</button>` : html`<button type="button" class="btn big danger" onClick=${() => remove(true)}>Remove…</button>`)}</div>
    <p class="small dim">${removing && !dirty ? "Alerts about it end by themselves. Its versions stay on record and can be brought back." : dirty ? (draft.drawing ? "Finish the shape first." : draft.fields.name.trim() ? "Takes effect at once, for readings from then on." : "It needs a name.") : "Change anything to begin a draft."}</p></form>`;
}
