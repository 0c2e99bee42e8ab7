// Addresses: /, /alerts, /alerts/ID, /devices, /devices/ID, /silences, /fences, /fences/ID, /rollouts, /rollouts/ID,
// /pipeline. The server answers each with the same page.
import { useEffect, useState } from "./html.js";

const listeners = new Set();
const go = () => listeners.forEach((listener) => listener());

/** @returns {{page: string, id: string|null, query: URLSearchParams}} */
export function route() {
  const [page = "", id] = location.pathname.split("/").filter(Boolean);
  return { page: page || "map", id: id ? decodeURIComponent(id) : null, query: new URLSearchParams(location.search) };
}

export function navigate(address, { replace = false } = {}) {
  if (address === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  go();
}

export const alertAddress = (id) => `/alerts/${encodeURIComponent(id)}`;
export const deviceAddress = (id) => `/devices/${encodeURIComponent(id)}`;
export const rolloutAddress = (id) => `/rollouts/${encodeURIComponent(id)}`;
export const fenceAddress = (id) => `/fences/${encodeURIComponent(id)}`;
/** Where a silence is made, for alerts of which this is true: `{device: …, rule: …}`. */
export const silenceAddress = (matches) => `/silences?${new URLSearchParams({ new: 1, ...matches })}`;
export const mapAddress = (device) => (device ? `/?device=${encodeURIComponent(device)}` : "/");

export function useRoute() {
  const [current, set] = useState(route);
  useEffect(() => {
    const listener = () => set(route());
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return current;
}

addEventListener("popstate", go);
// Ordinary links, without loading the page again. What a browser does with modified clicks is left to it.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (link.target || link.hasAttribute("download") || link.dataset.external !== undefined) return;
  event.preventDefault();
  navigate(link.getAttribute("href"));
});
