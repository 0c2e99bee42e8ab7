// Before the first paint, so that a dark page never flashes white. A classic script on purpose: modules run later.
try {
  const theme = JSON.parse(localStorage.getItem("tidegate") ?? "{}").theme;
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // no storage: the system's theme it is
}
