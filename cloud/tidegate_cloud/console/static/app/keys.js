// Keys. Single letters act only while no field has the focus, and can be switched off (WCAG 2.1.4).
import { useLayoutEffect, useRef } from "./html.js";
import { settings } from "./settings.js";

export const KEYS = [
  ["j", "Next alert"],
  ["k", "Previous alert"],
  ["Enter", "Open it"],
  ["a", "Acknowledge"],
  ["s", "Snooze, then 1 to 5"],
  ["r", "Resolve"],
  ["f", "False alarm"],
  ["x", "Mark, to act on several"],
  ["u", "Undo the last of these"],
  ["Esc", "Close, go back"],
  ["g", "Go, then m a d f r p: map, alerts, devices, fences, rollouts, pipeline"],
  ["/", "Search"],
  ["?", "This list"],
];

// Who is asked first: a menu before the page beneath it, the page before the shell around it.
export const [SHELL, PAGE, MENU] = [0, 1, 2];
const layers = [];

function typing(target) {
  return target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector("dialog[open]")) return; // it handles its own
  if (event.key !== "Escape" && typing(event.target)) return;
  const single = event.key.length === 1;
  if (single && !settings.keys) return;
  // Enter on a link or a button is theirs.
  if (event.key === "Enter" && event.target.closest?.("a, button, summary")) return;
  for (const layer of layers.toSorted((a, b) => b.rank - a.rank)) {
    const handler = layer.current[event.key];
    if (handler && handler(event) !== false) {
      event.preventDefault();
      return;
    }
  }
});

/** Handle keys while the component is there: {j: () => …}. A handler that returns false passes the key on. */
export function useKeys(bindings, rank = PAGE) {
  const layer = useRef(null);
  layer.current ??= { rank, current: bindings };
  layer.current.current = bindings;
  // Not useEffect: its clean-up may wait for the next paint, and a page that is gone must not take a key.
  useLayoutEffect(() => {
    layers.push(layer.current);
    return () => void layers.splice(layers.indexOf(layer.current), 1);
  }, []);
}
