// Drafts of fences, kept while the page lives: a look at another page costs nobody their drawing.
import { useEffect, useMemo, useState } from "./html.js";
import { blank, fromFeature } from "./fencedraft.js";
import { changed, subscribe } from "./store.js";

const UNDO_MAX = 100;
const drafts = new Map(); // fence id → {draft, past, tag}

/** Begin a draft, as if it had been drawn. */
export function keepDraft(id, draft) {
  drafts.set(id, { draft, past: [], tag: null });
  changed("drafts");
}

export function dropDraft(id) {
  drafts.delete(id);
  changed("drafts");
}

/**
 * The draft of a fence: what was drawn, else the fence as it is.
 * `set(draft, {again})`: changes under the same `again` in a row are undone at once, as a drag is.
 */
export function useDraft(id, feature) {
  const [, redraw] = useState(0);
  useEffect(() => subscribe(["drafts"], () => redraw((n) => n + 1)), []);
  if (id === "new" && !drafts.has("new")) drafts.set("new", { draft: blank("polygon"), past: [], tag: null });
  const kept = drafts.get(id);
  const asItIs = useMemo(() => (feature ? fromFeature(feature) : null), [feature]);
  const draft = kept?.draft ?? asItIs;
  const set = (next, { again = null } = {}) => {
    const before = drafts.get(id) ?? { draft, past: [], tag: null };
    if (next === before.draft) return;
    const past = again !== null && again === before.tag ? before.past : [...before.past, before.draft].slice(-UNDO_MAX);
    drafts.set(id, { draft: next, past, tag: again });
    changed("drafts");
  };
  const undo = () => {
    const { past } = drafts.get(id);
    if (!past.length) return;
    if (past.length === 1 && feature && id !== "new") drafts.delete(id);
    else drafts.set(id, { draft: past.at(-1), past: past.slice(0, -1), tag: null });
    changed("drafts");
  };
  return { draft, dirty: kept !== undefined, canUndo: Boolean(kept?.past.length), set, undo };
}
