// Fences: the list, the map on which they are drawn, and what each one is for. Nothing counts until it is published.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import * as api from "../api.js";
import { plural } from "../format.js";
import * as shape from "../fencedraft.js";
import { FenceForm } from "../fenceform.js";
import { dropDraft, keepDraft, useDraft } from "../fencedrafts.js";
import { Icon } from "../icons.js";
import { useKeys } from "../keys.js";
import { FenceMap } from "../map/fencemap.js";
import { fenceAddress, navigate } from "../router.js";
import { settings } from "../settings.js";
import { changed, may, shownAlerts, state, useStore } from "../store.js";

const CHECK_MS = 250;
const ICONS = { Point: "circle", LineString: "corridor", MultiLineString: "corridor" };
const TOOLS = [["polygon", "fence", "Polygon"], ["circle", "circle", "Circle"], ["corridor", "corridor", "Corridor"]];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export function FencesPage({ id }) {
  useStore("fences", "loaded", "alerts", "session");
  const fences = useMemo(() => [...state.fences.features].sort((a, b) => a.properties.name.localeCompare(b.properties.name)), [state.fences]);
  const feature = id && id !== "new" ? (fences.find((f) => f.id === id) ?? null) : null;
  const { draft, dirty, canUndo, set, undo } = useDraft(id, feature);
  const [selected, select] = useState(-1);
  const [ghost, setGhost] = useState(null);
  const check = useCheck(draft, dirty);
  const box = useRef(null);
  const frame = useRef(null);
  const map = useRef(null);
  const live = useRef({});
  const edits = may("edit");
  live.current = { draft, selected, edits, set, select };

  const start = (kind) => {
    const next = shape.blank(kind);
    if (kind === "circle") next.fields.radius_m = map.current.handyRadius();
    const kept = draft ? { id: draft.id, version: draft.version, fields: { ...draft.fields, radius_m: next.fields.radius_m, distance_m: next.fields.distance_m } } : {};
    if (draft) set({ ...next, ...kept });
    else {
      keepDraft("new", next);
      navigate(fenceAddress("new"));
    }
    select(-1);
    frame.current.focus();
  };
  const finish = () => {
    const now = live.current.draft;
    if (now && shape.canFinish(now)) live.current.set(shape.finish(now));
  };
  const add = (at) => {
    const { draft: now } = live.current;
    if (now?.drawing) live.current.set(shape.append(now, at));
  };
  const pointAt = (n) => shape.points(live.current.draft)[n];

  useLayoutEffect(() => {
    map.current = new FenceMap(box.current, {
      click: add,
      close: finish,
      pick: (n) => live.current.select(n),
      split: (l, i, at, again) => {
        const before = shape.points(live.current.draft).findIndex(([line, index]) => line === l && index === i - 1);
        live.current.set(shape.insert(live.current.draft, l, i, at), { again });
        return before + 1;
      },
      drop: (n, at, again) => {
        const [l, i] = pointAt(n);
        live.current.set(shape.place(live.current.draft, l, i, at), { again });
      },
      open: (fence) => navigate(fenceAddress(fence)),
    });
    return () => map.current.destroy();
  }, []);
  useEffect(() => map.current.show({ draft, selected, bad: check.bad, ghost, hidden: draft ? id : null }), [draft, selected, check.bad, ghost, id]);
  useEffect(() => {
    select(-1);
    setGhost(null);
    if (!state.link.everHeard) return;
    if (draft && !draft.drawing) map.current.fit(draft);
    else if (!id) map.current.fit();
  }, [id, state.link.everHeard, feature === null]);

  const step = (by) => {
    const at = fences.findIndex((f) => f.id === id);
    const next = fences[Math.max(0, Math.min(fences.length - 1, at + by))];
    if (next) navigate(fenceAddress(next.id), { replace: id !== null });
  };
  useKeys({ j: () => step(1), k: () => step(-1), n: () => (edits ? start("polygon") : false), e: () => (draft && edits ? frame.current.focus() : false), u: () => (canUndo ? undo() : false) });

  const keys = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !press(event)) return;
    event.preventDefault();
  };
  /** What a key does on the map; false where it is none of ours. */
  const press = ({ key, shiftKey }) => {
    if (key === "+" || key === "-") return map.current.zoom(key === "+" ? 1 : -1), true;
    const all = draft ? shape.points(draft) : [];
    const held = all[selected];
    if (key === "Tab" && edits && draft && !draft.drawing) {
      const next = selected < 0 ? (shiftKey ? -1 : 0) : selected + (shiftKey ? -1 : 1);
      const there = next >= 0 && next < all.length;
      select(there ? next : -1);
      return there;
    }
    if (ARROWS[key]) {
      const [x, y] = ARROWS[key];
      const by = shiftKey ? 10 : 1;
      if (held && edits && !draft.drawing) set(shape.nudge(draft, held[0], held[1], x * by, y * by), { again: `keys-${selected}` });
      else map.current.pan(x * (shiftKey ? 4 : 1), -y * (shiftKey ? 4 : 1));
      return true;
    }
    if (!draft || !edits) return false;
    if (draft.drawing) {
      if (key === " ") return add(map.current.centre()), true;
      if (key === "Enter") return finish(), true;
      if (key === "Backspace" || key === "Delete") return set(shape.remove(draft, 0, all.length - 1)), true;
      if (key === "Escape") return discard(), true;
      return false;
    }
    if (!held) return false;
    if (key === "Delete" || key === "Backspace") {
      if (shape.canRemove(draft, held[0])) set(shape.remove(draft, held[0], held[1]));
      else changed("said", "No fewer points would be a shape");
      select(Math.min(selected, all.length - 2));
      return true;
    }
    if (key === "i" || key === "Insert") {
      const middle = shape.middles(draft).find(([l, i]) => l === held[0] && i === held[1] + 1);
      if (middle) {
        set(shape.insert(draft, ...middle));
        select(selected + 1);
      }
      return true;
    }
    if (key === "Escape") return select(-1), true;
    return false;
  };
  const discard = () => {
    dropDraft(id);
    select(-1);
    setGhost(null);
    if (id === "new") navigate("/fences");
  };
  const repair = () => {
    set({ ...shape.fromFeature({ ...check.mended.feature, id: draft.id, properties: { ...draft.fields, version: draft.version } }), id: draft.id });
    select(-1);
    changed("said", `Repaired as ${check.mended.words}`);
  };

  const hot = new Set(shownAlerts().filter((a) => a.state === "open").map((a) => a.subject));
  return html`
    <div class="fences ${id ? "one" : ""}">
      <nav class="fl" aria-label="Fences"><header><h2>${plural(fences.length, "fence")}</h2>${edits && html`<button class="btn" onClick=${() => start("polygon")}>New${settings.keys && html`<kbd aria-hidden="true">n</kbd>`}</button>`}</header>
        ${fences.map((f) => html`<a key=${f.id} href=${fenceAddress(f.id)} aria-current=${f.id === id ? "true" : null} data-fence=${f.id}><${Icon} name=${ICONS[f.geometry.type] ?? "fence"} />
          <span class="med clip">${f.properties.name}</span>${hot.has(f.id) ? html`<${Icon} name="warn" class="t-warn" /><span class="sr">has an open alert</span>` : html`<span></span>`}<span class="m">${about(f)}</span></a>`)}
        ${state.link.everHeard && !fences.length && html`<p class="mid none">No fence yet. Draw one on the map.</p>`}
      </nav>
      <section class="drawing" aria-label="Drawing">
        <div class="mapbox" ref=${frame} tabindex="0" role="application" aria-label=${describe(draft, selected)} aria-describedby="draw-hint" onKeyDown=${keys} onBlur=${() => select(-1)}>
          <div class="fill" ref=${box} data-testid="fence-map"></div>${draft?.drawing && html`<span class="cross" aria-hidden="true"></span>`}</div>
        ${edits && html`<div class="tools float" role="toolbar" aria-label="Draw">${TOOLS.map(([kind, icon, word]) => html`<button aria-pressed=${Boolean(draft?.drawing && draft.type === shape.KINDS[kind])} onClick=${() => start(kind)}><${Icon} name=${icon} />${word}</button>`)}
          <button disabled=${!canUndo} onClick=${undo}><${Icon} name="undo" />Undo</button>
          ${draft?.drawing && draft.type !== "Point" && html`<button class="fin" disabled=${!shape.canFinish(draft)} onClick=${finish}><${Icon} name="check" />Finish</button>`}</div>`}
        <p class="hint float" id="draw-hint">${hint(draft, edits)}</p>
        <div class="zoom float" role="group" aria-label="Map"><button aria-label="Zoom in" onClick=${() => map.current.zoom(1)}><${Icon} name="plus" /></button><button aria-label="Zoom out" onClick=${() => map.current.zoom(-1)}><${Icon} name="minus" /></button><button aria-label="Show all fences" onClick=${() => map.current.fit()}><${Icon} name="fit" /></button></div>
      </section>
      <aside class="insp" tabindex="-1" aria-label=${draft ? draft.fields.name || "New fence" : "Fence"}>
        ${draft ? html`<${FenceForm} key=${id} id=${id} draft=${draft} feature=${feature} dirty=${dirty} check=${check} edits=${edits} onChange=${set} onDiscard=${discard} onRepair=${repair} onGhost=${setGhost} />` : html`<${Nothing} id=${id} count=${fences.length} />`}
      </aside>
    </div>
  `;
}

/** Whether the server would take the draft, asked shortly after each change; and what it would make of a bad shape. */
function useCheck(draft, dirty) {
  const [check, set] = useState({ ok: null, words: "", bad: null, mended: null });
  useEffect(() => {
    if (!draft || draft.drawing || !dirty) return set({ ok: null, words: "", bad: null, mended: null });
    let gone = false;
    const timer = setTimeout(async () => {
      const feature = shape.toFeature(draft);
      try {
        await api.checkFence(feature);
        if (!gone) set({ ok: true, words: "", bad: null, mended: null });
      } catch (error) {
        const words = error.message.replace(/^fences, (fence '[^']*': )?/, "").replace(/ ?\(?tidegate registry repair.*$/, "");
        const mended = error.status === 422 ? await api.repairFence(feature).catch(() => null) : null;
        if (!gone) set({ ok: false, words, bad: shape.badPlace(words), mended: mended?.words ? mended : null });
      }
    }, CHECK_MS);
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [draft, dirty]);
  return check;
}

function about({ properties: p }) {
  const facts = [p.alert_on === "exit" && "exit only", p.speed_limit_mps && `${Math.round(p.speed_limit_mps * 3.6)} km/h`, p.dwell_s && `${Math.round(p.dwell_s / 60)} min`, p.radius_m && `${Math.round(p.radius_m)} m radius`, p.distance_m && `${Math.round(2 * p.distance_m)} m wide`, p.schedule];
  return [`v${p.version}`, ...facts.filter(Boolean)].join(", ");
}

function describe(draft, selected) {
  if (!draft) return "Map of all fences";
  const held = shape.points(draft)[selected];
  if (!held) return `Map with ${draft.fields.name || "a new fence"}: ${shape.shapeWords(draft)}`;
  const [lon, lat] = held[2];
  return `Point ${selected + 1} of ${shape.points(draft).length}, latitude ${lat.toFixed(5)}, longitude ${lon.toFixed(5)}`;
}

function hint(draft, edits) {
  const k = (key) => html`<kbd>${key}</kbd>`;
  if (!draft || !edits) return html`Choose a fence, here or in the list. ${k("←")}${k("→")}${k("↑")}${k("↓")} move the map, ${k("+")}${k("-")} zoom`;
  if (draft.drawing && draft.type === "Point") return html`Click where its middle is, or move the map under the cross and press ${k("Space")}`;
  if (draft.drawing) return html`Click to add points, or move the map under the cross and press ${k("Space")}; ${k("Enter")} finishes, ${k("⌫")} takes one back`;
  if (draft.type === "Point") return html`Drag the middle, or ${k("Tab")} to it: arrows move it 1 m, ${k("⇧")} 10 m`;
  return html`${k("Tab")} next point, arrows move it 1 m, ${k("⇧")} 10 m, ${k("i")} adds one after it, ${k("Del")} removes it; drag a middle to add one`;
}

const Nothing = ({ id, count }) => html`<div class="empty"><${Icon} name="fence" /><b>${id && id !== "new" ? `There is no fence ${id}` : "No fence is chosen"}</b>
  <p>${count ? "Choose one in the list or on the map." : "Choose Polygon, Circle or Corridor over the map to draw the first one."}</p></div>`;
