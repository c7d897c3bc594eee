"use strict";

const part = (id) => document.getElementById(id);
const LETTERS = "qwertyiop"; // beside the comments in use; no key of another kind is among them
let questions = [];
let question = null; // the one being marked
let answers = [];
let at = 0;
let comments = new Map(); // comment -> how many answers have it

const half = (worth) => Math.round(worth * 2) / 4; // a quarter of a point is the smallest step
const current = () => answers[at];
const total = (points) => points.reduce((sum, value) => sum + value, 0);
const told = (value) => String(Math.round(value * 1000) / 1000);

async function start() {
  questions = (await climb.state()).questions;
  const first = questions.findIndex((one) => one.marked < one.total);
  await choose(Math.max(0, first));
}

function showQuestions() {
  part("questions").replaceChildren(...questions.map((one, number) => {
    const option = new Option(`${one.title} (${one.marked} of ${one.total})`, String(number));
    option.selected = one === question;
    return option;
  }));
}

async function choose(number) {
  await flush();
  question = questions[number];
  const found = await climb.post("open", {question: question.id});
  answers = found.answers;
  comments = new Map();
  for (const one of answers) if (one.comment) comments.set(one.comment, (comments.get(one.comment) || 0) + 1);
  part("title").textContent = question.title;
  part("prompt").textContent = question.prompt;
  part("explanation").textContent = question.explanation ? `In short: ${question.explanation}` : "";
  at = Math.max(0, answers.findIndex((one) => one.points === null));
  part("work").hidden = false;
  show();
}

function show() {
  const answer = current();
  question.marked = answers.filter((one) => one.points !== null).length;
  showQuestions();
  part("bar").max = answers.length;
  part("bar").value = question.marked;
  part("count").textContent = `${question.marked} of ${answers.length} marked`;
  const same = answer.same > 1 ? `, written by ${answer.same} students` : "";
  part("which").textContent = `Answer ${at + 1} of ${answers.length}${same}`;
  part("answer").textContent = answer.text;
  part("items").replaceChildren(...question.items.map((item, number) => line(item, number, answer.points)));
  const worth = total(question.items.map((item) => item.worth));
  part("sum").textContent = answer.points === null ? `(not marked, of ${told(worth)})` : `${told(total(answer.points))} of ${told(worth)}`;
  if (document.activeElement !== part("comment")) part("comment").value = answer.comment;
  showComments();
}

function line(item, number, points) {
  const element = document.createElement("li");
  const key = document.createElement("kbd");
  key.textContent = number < 9 ? String(number + 1) : "";
  const text = document.createElement("span");
  text.textContent = item.text;
  const value = document.createElement("span");
  value.className = "points";
  value.textContent = `${points === null ? "–" : told(points[number])} / ${told(item.worth)}`;
  if (points !== null) element.className = points[number] >= item.worth ? "full" : points[number] > 0 ? "half" : "zero";
  element.append(key, text, value);
  element.addEventListener("click", () => turn(number));
  return element;
}

function showComments() {
  const used = [...comments].sort((a, b) => b[1] - a[1]).slice(0, LETTERS.length);
  part("comments").replaceChildren(...used.map(([comment], number) => {
    const element = document.createElement("li");
    const key = document.createElement("kbd");
    key.textContent = LETTERS[number];
    const text = document.createElement("span");
    text.textContent = comment;
    element.append(key, text);
    element.addEventListener("click", () => put(comment));
    return element;
  }));
}

// What is not on disk yet, by answer: going on to the next one loses nothing of the last. One save is under way at a time.
const waiting = new Map();
let timer = null;
let saving = null;

function keep(answer) {
  const body = {question: question.id, code: answer.code, points: answer.points, comment: answer.points === null ? "" : answer.comment};
  waiting.set(`${body.question} ${body.code}`, body);
  climb.say("...");
  clearTimeout(timer);
  timer = setTimeout(flush, 300);
  show();
}

function flush() {
  clearTimeout(timer);
  saving = (saving || Promise.resolve()).then(saveAll);
  return saving;
}

async function saveAll() {
  for (const [key, body] of [...waiting]) {
    let problem = "";
    try {
      await climb.post("save", body);
    } catch (error) {
      if (!error.refused) {
        climb.say(error.refused === undefined ? "not saved: the server does not answer" : error.message, "bad");
        timer = setTimeout(flush, 2000);
        return;
      }
      problem = error.message;
    }
    if (waiting.get(key) === body) waiting.delete(key);
    if (problem) climb.say(problem, "bad");
    else if (!waiting.size) climb.say("saved", "good");
  }
}

window.addEventListener("beforeunload", (event) => { if (waiting.size) event.preventDefault(); });

function turn(number) {
  const answer = current(), {worth} = question.items[number] || {};
  if (worth === undefined) return;
  if (answer.points === null) answer.points = question.items.map(() => 0);
  const was = answer.points[number];
  answer.points[number] = was === 0 ? worth : was >= worth && half(worth) > 0 && half(worth) < worth ? half(worth) : 0;
  keep(answer);
}

function set(points) {
  current().points = points;
  keep(current());
}

function comment(text) {
  const answer = current();
  if (text === answer.comment) return;
  answer.comment = text;
  if (text && answer.points === null) answer.points = question.items.map(() => 0);
  keep(answer);
}

function put(text) {
  const before = part("comment").value.trim();
  const made = before === "" ? text : before.includes(text) ? before : `${before} ${text}`;
  part("comment").value = made;
  comment(made);
}

// A comment counts as in use once its answer is left.
function leave() {
  part("comment").blur();
  comments = new Map();
  for (const one of answers) if (one.comment) comments.set(one.comment.trim(), (comments.get(one.comment.trim()) || 0) + 1);
  flush();
}

function go(to) {
  if (to < 0 || to >= answers.length) return;
  leave();
  at = to;
  show();
  window.scrollTo(0, 0);
}

function unmarked() {
  leave();
  const order = [...answers.keys()].map((n) => (at + 1 + n) % answers.length);
  const found = order.find((n) => answers[n].points === null);
  if (found === undefined) {
    climb.say("all answers to this question are marked", "good");
    show();
  } else go(found);
}

async function nextQuestion() {
  leave();
  const here = questions.indexOf(question);
  await choose((here + 1) % questions.length);
}

async function quit() {
  leave();
  await flush();
  const {told: summary} = await climb.post("quit", {});
  part("work").hidden = part("moves").hidden = part("asked").hidden = true;
  part("end").hidden = false;
  part("summary").textContent = `${summary}. The same command goes on from here. You can close this page.`;
}

const failed = (error) => climb.say(error.message, "bad");
const guarded = (act) => () => Promise.resolve().then(act).catch(failed);
const full = () => set(question.items.map((item) => item.worth));
const none = () => set(question.items.map(() => 0));
const clear = () => { current().comment = ""; part("comment").value = ""; set(null); };
const moves = {back: () => go(at - 1), next: () => go(at + 1), open: unmarked, all: full, none, clear, quit};
for (const [id, act] of Object.entries(moves)) part(id).addEventListener("click", () => { guarded(act)(); part(id).blur(); });
part("questions").addEventListener("change", (event) => { const number = Number(event.target.value); event.target.blur(); leave(); guarded(() => choose(number))(); });
part("comment").addEventListener("input", () => comment(part("comment").value));
part("comment").addEventListener("keydown", (event) => { if (event.key === "Escape") { leave(); show(); } });

const keys = {
  k: moves.back, ArrowLeft: moves.back, j: moves.next, ArrowRight: moves.next, Enter: moves.next, n: unmarked,
  f: full, "0": none, u: clear, g: guarded(nextQuestion), c: () => part("comment").focus(),
};
for (let digit = 1; digit <= 9; digit += 1) keys[String(digit)] = () => turn(digit - 1);
[...LETTERS].forEach((letter, number) => {
  keys[letter] = () => { const element = part("comments").children[number]; if (element) element.click(); };
});
climb.keys(keys);
start().catch(failed);
