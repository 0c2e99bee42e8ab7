// Asks why before a rollout is told what to do: what it leads to stands beside the button, and the reason is kept.
import { html, useLayoutEffect, useRef, useState } from "./html.js";
import * as api from "./api.js";
import { ACTIONS, consequence } from "./rollouts.js";
import { changed } from "./store.js";

export function AskDialog({ rollout, action, onClose }) {
  const dialog = useRef(null);
  const [why, setWhy] = useState("");
  const [going, go] = useState(false);
  const [problem, setProblem] = useState("");
  const key = useRef(api.newId()); // asked again under the same key it is done once
  const seen = useRef(rollout.version);
  const { word, tone, done } = ACTIONS[action];
  const title = useRef(word(rollout)); // what was opened stays, whatever the rollout does meanwhile
  const what = useRef(consequence(rollout, action));
  useLayoutEffect(() => dialog.current.showModal(), []); // at once: what is typed next belongs in it
  const send = async (event) => {
    event.preventDefault();
    if (!why.trim()) return setProblem("it needs a reason");
    go(true);
    try {
      const answer = await api.rolloutCommand(rollout.id, { action, id: key.current, why: why.trim(), seen_version: seen.current });
      changed("said", answer.answered ? `${rollout.id}: ${done}` : `${rollout.id}: asked; no rollouts' server has answered yet`);
      dialog.current?.close();
    } catch (error) {
      setProblem(error.message);
      if (error.status) {
        key.current = api.newId();
        seen.current = null; // the reader has been told what changed
      }
      go(false);
    }
  };
  return html`
    <dialog ref=${dialog} class="dlg" aria-labelledby="ask-title" onClose=${onClose} onClick=${(event) => event.target === dialog.current && dialog.current.close()}>
      <form onSubmit=${send}>
        <h2 id="ask-title">${title.current}: ${rollout.id}</h2>
        <p>${what.current}.</p>
        <label class="field"><span>Why, for those who read this later</span>
          <input class="inp" name="why" required maxlength="500" autofocus value=${why} onInput=${(event) => setWhy(event.target.value)} /></label>
        ${problem && html`<p class="t-crit" role="alert">Not done: ${problem}</p>`}
        <footer class="row"><button class="btn big ${tone || "pri"}" disabled=${going}>${going ? "Asking" : title.current}</button>
          <button type="button" class="btn big" onClick=${() => dialog.current.close()}>Leave it</button></footer>
      </form>
    </dialog>
  `;
}
