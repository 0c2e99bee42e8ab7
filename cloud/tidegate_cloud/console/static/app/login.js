// Logging in: by name and password, or by a one-time link, whose secret stands behind the # and so reaches no server log.
import * as api from "./api.js";

const form = document.getElementById("login");
const part = (id) => document.getElementById(id);
const { name: nameInput, password: passwordInput } = form.elements;
let choosing = false; // a new password, after a one-time link

/** Where to go on: a page of this console and nothing else. */
function next() {
  const wanted = new URLSearchParams(location.search).get("next") ?? "/";
  const address = new URL(wanted, location.origin);
  return wanted.startsWith("/") && address.origin === location.origin ? address.pathname + address.search : "/";
}

function say(problem) {
  part("problem").textContent = problem;
  part("problem").hidden = !problem;
}

function choose(session) {
  choosing = true;
  part("title").textContent = `Welcome, ${session.who}`;
  part("hint").textContent = "Choose a password, so that you can come back: 10 characters or more, a few words are good.";
  part("hint").hidden = false;
  part("name-field").hidden = true;
  nameInput.required = false;
  nameInput.value = session.user; // for the browser's own keeping
  part("password-label").textContent = "New password";
  passwordInput.autocomplete = "new-password";
  passwordInput.value = "";
  part("go").textContent = "Save password";
  part("later").hidden = false;
  passwordInput.focus();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  say("");
  part("go").disabled = true;
  try {
    if (choosing) await api.setPassword(passwordInput.value);
    else await api.logIn({ name: nameInput.value.trim().toLowerCase(), password: passwordInput.value });
    location.replace(next());
  } catch (error) {
    say(error.message);
    passwordInput.select();
  } finally {
    part("go").disabled = false;
  }
});
part("later").addEventListener("click", () => location.replace(next()));

const secret = location.hash.slice(1);
if (secret) {
  history.replaceState(null, "", location.pathname + location.search); // not into bookmarks
  try {
    const session = await api.logIn({ link: secret });
    if (session.password_due) choose(session);
    else location.replace(next());
  } catch (error) {
    say(`${error.message[0].toUpperCase()}${error.message.slice(1)}.`);
    nameInput.focus();
  }
} else {
  nameInput.focus();
}
