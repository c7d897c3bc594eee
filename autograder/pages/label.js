"use strict";

const part = (id) => document.getElementById(id);
let shown = null;
let busy = false;

function show(state) {
  shown = state;
  const over = state.prompt === undefined;
  part("bar").max = state.total;
  part("bar").value = state.done;
  part("count").textContent = over ? `${state.total} of ${state.total}` : `${state.done + 1} of ${state.total}`;
  part("pair").hidden = over;
  part("end").hidden = !over;
  part("tie").hidden = part("skip").hidden = over;
  part("undo").disabled = state.done === 0;
  if (over) {
    const {left, right, tie, skipped, first} = state.counts;
    part("summary").textContent = `All ${state.total} pairs are judged: ${left + right} with a winner, ${tie} ${tie === 1 ? "tie" : "ties"}, ${skipped} skipped. ` +
      `The answer that stood first won ${first} of ${left + right}.\n\nThey are in ${state.file}. You can close this page; ` +
      `Quit also ends the command in the terminal.`;
    return;
  }
  part("prompt").textContent = state.prompt;
  for (const side of ["first", "second"]) {
    part(side).textContent = state[side] || "(nothing)";
    part(side).className = state[side] ? "sheet answer" : "sheet answer empty";
  }
}

async function ask(action, body) {
  if (busy) return;
  busy = true;
  try {
    show(await climb.post(action, {...body, done: shown.done}));
    climb.say(action === "undo" ? "taken back" : "saved", "good");
  } catch (error) {
    climb.say(error.refused === undefined ? "not saved: the server does not answer" : error.message, "bad");
  } finally {
    busy = false;
  }
}

const judge = (choice) => shown.prompt !== undefined && ask("judge", {choice});
const undo = () => ask("undo", {});

async function quit() {
  if (busy) return;
  await climb.post("quit", {}).catch(() => {});
  document.querySelectorAll("button").forEach((button) => { button.disabled = true; });
  part("pair").hidden = true;
  part("end").hidden = false;
  part("summary").textContent = `${shown.done} of ${shown.total} pairs are judged, in ${shown.file}. The same command goes on from here. ` +
    `You can close this page.`;
  shown = {...shown, prompt: undefined};
}

for (const button of document.querySelectorAll("button[data-choice]")) {
  button.addEventListener("click", () => { judge(button.dataset.choice); button.blur(); });
}
part("undo").addEventListener("click", () => { undo(); part("undo").blur(); });
part("quit").addEventListener("click", quit);
climb.keys({"1": () => judge("1"), "2": () => judge("2"), "0": () => judge("0"), " ": () => judge("0"), s: () => judge("s"), u: undo, q: quit});
climb.state().then(show).catch((error) => climb.say(error.message, "bad"));
