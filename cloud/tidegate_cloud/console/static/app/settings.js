// What this browser remembers of its reader: the theme, whether single keys act. The name is the session's.

const KEY = "tidegate";
const DEFAULTS = { name: "", theme: "auto", keys: true };

function read() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return { ...DEFAULTS }; // storage is forbidden, or holds nonsense
  }
}

export const settings = read();
const listeners = new Set();

export function onSettings(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function change(values) {
  Object.assign(settings, values);
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...settings, name: undefined }));
  } catch {
    // it then lasts as long as the page
  }
  applyTheme();
  for (const listener of listeners) listener(settings);
}

/** "light" or "dark": what the reader chose, or else the system. */
export function theme() {
  if (settings.theme !== "auto") return settings.theme;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

export function applyTheme() {
  if (settings.theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = settings.theme;
  for (const listener of themeListeners) listener(theme());
}

const themeListeners = new Set();

/** For what is drawn on a canvas and so does not follow style sheets. */
export function onTheme(listener) {
  themeListeners.add(listener);
  return () => themeListeners.delete(listener);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
applyTheme();
