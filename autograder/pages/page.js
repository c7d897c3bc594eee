// What every local page is given: its state, its actions, saving by itself, single keys.
"use strict";

const climb = (() => {
  const corner = () => document.getElementById("climb-status");

  function say(text, kind = "") {
    corner().textContent = text;
    corner().className = kind;
  }

  async function answered(request) {
    const response = await request;
    const body = await response.json().catch(() => ({error: `the server said ${response.status}`}));
    if (!response.ok) throw Object.assign(new Error(body.error || `the server said ${response.status}`), {refused: response.status < 500});
    return body;
  }

  const state = () => answered(fetch("state"));

  const post = (action, body = {}) =>
    answered(fetch(`do/${action}`, {
      method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
    }));

  // One save is under way at a time; what changes meanwhile is saved after it. A server that does not answer is asked again.
  const waiting = new Map();
  let timer = null;
  let saving = null;

  function autosave(action, collect) {
    waiting.set(action, collect);
    say("...");
    clearTimeout(timer);
    timer = setTimeout(flush, 400);
  }

  function flush() {
    clearTimeout(timer);
    saving = (saving || Promise.resolve()).then(saveAll);
    return saving;
  }

  async function saveAll() {
    for (const [action, collect] of [...waiting]) {
      waiting.delete(action);
      try {
        await post(action, collect());
        if (!waiting.size) say("saved", "good");
      } catch (error) {
        say(error.refused !== undefined ? error.message : "not saved: the server does not answer", "bad");
        if (!error.refused) {
          if (!waiting.has(action)) waiting.set(action, collect);
          timer = setTimeout(flush, 2000);
          return;
        }
      }
    }
  }

  window.addEventListener("beforeunload", (event) => { if (waiting.size) event.preventDefault(); });

  function keys(actions) {
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest("input, textarea, select, [contenteditable]");
      if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
      const act = actions[event.key] || actions[event.key.toLowerCase()];
      if (act) {
        event.preventDefault();
        act();
      }
    });
  }

  return {state, post, autosave, flush, keys, say};
})();
