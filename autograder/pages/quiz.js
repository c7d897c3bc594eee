"use strict";

const part = (id) => document.getElementById(id);
let shown = null;
let busy = false;
let warned = null;

function text(id, words) {
  part(id).textContent = words;
}

function show(state) {
  const before = shown;
  shown = state;
  text("title", state.title);
  text("about", state.about);
  text("help", state.help);
  part("example").hidden = !state.example;
  part("bar").max = state.total;
  part("bar").value = state.done;
  text("count", `${state.done} of ${state.total}`);
  if (before === null) part("intro").open = state.done === 0;
  const over = state.phase === "end";
  part("task").hidden = over;
  part("end").hidden = !over;
  part("stop").hidden = over;
  part("resume").hidden = !over || state.done === state.total;
  text("warning", state.warning ? `${state.warning} Forecast once more to say it all the same.` : "");
  if (over) showEnd(state);
  else showTask(state, before);
}

function showTask(state, before) {
  const {task, feedback, phase} = state;
  text("kind", `${task.number} of ${state.total}: ${task.kind}`);
  text("model", `${task.model}: ${task.words}`);
  text("prompt", task.prompt);
  text("question", task.question);
  const told = phase === "told";
  part("asking").hidden = told;
  part("told").hidden = !told;
  if (told) {
    text("answer", `${feedback.answer}.`);
    text("cost", feedback.cost);
    part("cost").className = feedback.good ? "good" : "bad";
    text("wrote", feedback.wrote);
    part("wrote").hidden = part("wrote").previousElementSibling.hidden = !feedback.wrote;
    for (const id of ["explanation", "draws", "how"]) text(id, feedback[id]);
    part("intro").open = false;
    part("next").focus();
  } else if (!state.warning && (before === null || before.phase !== "ask" || before.done !== state.done)) {
    warned = null;
    part("slide").value = 50;
    part("percent").value = "";
    part("percent").focus();
  }
}

function table(id, rows) {
  const body = rows.map((row, number) => {
    const line = document.createElement("tr");
    for (const cell of row) {
      const box = document.createElement(number === 0 ? "th" : "td");
      box.textContent = cell;
      line.append(box);
    }
    return line;
  });
  part(id).replaceChildren(...body);
}

function showEnd(state) {
  part("none").hidden = state.result !== undefined;
  part("result").hidden = state.result === undefined;
  if (state.result !== undefined) {
    for (const name of ["scores", "parts", "kinds"]) table(name, state.result[name]);
    part("sentences").replaceChildren(...state.result.sentences.map((words) => {
      const line = document.createElement("p");
      line.textContent = words;
      return line;
    }));
    part("plot").src = state.plot;
  }
  text("where", `${state.done} of ${state.total} forecasts are in ${state.file}. ` +
    (state.done < state.total ? "The same command goes on from here. " : "") + "Quit also ends the command in the terminal.");
}

async function ask(action, body = {}) {
  if (busy || shown === null) return;
  busy = true;
  try {
    show(await climb.post(action, {...body, done: shown.done}));
    climb.say(action === "forecast" && !shown.warning ? "saved" : "", "good");
  } catch (error) {
    climb.say(error.refused === undefined ? "not saved: the server does not answer" : error.message, "bad");
  } finally {
    busy = false;
  }
}

function say() {
  if (shown === null || shown.phase !== "ask") return;
  const percent = part("percent").value.trim();
  if (percent === "") {
    text("warning", "Give a number from 0 to 100, or move the slider.");
    return;
  }
  const sure = warned === percent;
  warned = percent;
  ask("forecast", {percent, sure});
}

async function quit() {
  if (busy || shown === null) return;
  await ask("quit");
  document.querySelectorAll("button").forEach((button) => { button.disabled = true; });
  climb.say("You can close this page.", "good");
}

part("slide").addEventListener("input", () => {
  part("percent").value = part("slide").value;
  text("warning", "");
});
part("percent").addEventListener("input", () => {
  const number = Number(part("percent").value.replace("%", "").replace(",", "."));
  if (part("percent").value.trim() !== "" && number >= 0 && number <= 100) part("slide").value = number;
  text("warning", "");
});
const scores = () => shown !== null && shown.phase !== "end" && ask("scores");
for (const id of ["slide", "percent"]) {
  part(id).addEventListener("keydown", (event) => {
    const act = {Enter: say, q: quit, e: scores}[event.key];  // a number has no letters: they are keys here too
    if (act && !event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      act();
    }
  });
}
part("say").addEventListener("click", say);
part("next").addEventListener("click", () => ask("next"));
part("stop").addEventListener("click", scores);
part("resume").addEventListener("click", () => ask("next"));
part("quit").addEventListener("click", quit);
climb.keys({e: scores, q: quit});
climb.state().then(show).catch((error) => climb.say(error.message, "bad"));
