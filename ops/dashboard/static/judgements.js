// The list of judgements: filters, newest first, one page after another.

import { ask } from "./ask.js";
import { cell, el, empty, fill, heading, table } from "./dom.js";
import { count, date, fixed, visible } from "./format.js";

const box = (id) => document.getElementById(id);
const form = () => box("filters");
const ROWS = 50;
const FILTERS = ["grade", "mismatch", "teacher", "q"];
const SCORE = "The relevance score, from 0 to 1: the expectation of the grades' gains.";

let place = {};
let asked = 0;
let named = "";

export function startList() {
  form().addEventListener("change", apply);
  form().addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  let typing;
  form().elements.q.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(apply, 300); });
  box("again").addEventListener("click", load);
}

/** Shows the list at a place: filters by name, and the judgement before which it begins. */
export function showList(next) {
  place = next;
  for (const name of FILTERS) choose(name, place[name] ?? "");
  load();
}

/** Fills the choices of the filters from what there is. */
export function nameChoices({ choices, teachers }) {
  const known = { grade: choices.grades, mismatch: choices.subtasks, teacher: [...new Set(teachers.map((each) => each.teacher_id))].sort() };
  const state = JSON.stringify(known);
  if (state === named) return;
  named = state;
  for (const [name, values] of Object.entries(known)) {
    const select = form().elements[name];
    const first = select.options[0];
    select.replaceChildren(first, ...values.map((value) => el("option", { value }, visible(value))));
    choose(name, place[name] ?? "");
  }
}

function choose(name, value) {
  const field = form().elements[name];
  if (field.options && ![...field.options].some((option) => option.value === value)) {
    field.append(el("option", { value }, visible(value)));
  }
  if (field.value !== value) field.value = value;
}

function apply() {
  go(Object.fromEntries(FILTERS.map((name) => [name, form().elements[name].value])));
}

const address = (next) => `#list?${new URLSearchParams(Object.entries(next).filter(([, value]) => value))}`;

function go(next) {
  if (FILTERS.some((name) => next[name] !== (place[name] ?? ""))) location.hash = address(next);
}

async function load() {
  const mine = ++asked;
  say("Loading …");
  try {
    const { judgements } = await ask("/api/judgements", { ...place, limit: ROWS });
    if (mine !== asked) return;
    fill(box("list-table"), judgements.length ? listTable(judgements) : nothing());
    say(judgements.length ? `${count(judgements.length)} judgements, newest first. Choose a query to read one.` : "");
    turn(judgements);
  } catch (error) {
    if (mine !== asked) return;
    fill(box("list-table"));
    say(error.message);
  }
}

function say(text) {
  if (box("list-note").textContent !== text) box("list-note").textContent = text;
}

function nothing() {
  if (place.before_ms) return empty("No older judgement.");
  if (FILTERS.some((name) => place[name])) return empty("No judgement fits this choice so far.");
  return empty("Nothing was judged yet. Judgements appear here as soon as a teacher's are published.");
}

function turn(rows) {
  const { before_ms, before_id, ...filters } = place;
  const last = rows.at(-1);
  box("newest").hidden = before_ms === undefined;
  box("newest").href = address(filters);
  box("older").hidden = rows.length < ROWS;
  if (last) box("older").href = address({ ...filters, before_ms: last.at_ms, before_id: last.id });
}

function listTable(rows) {
  return table(
    "Judgements",
    [
      heading("Query", "What the shopper asked for, as the teacher read it."),
      heading("Item", "The first line of the item's text, and its id in the shop."),
      heading("Grade", "The likeliest grade."),
      heading("Score", SCORE, { class: "figure" }),
      heading("Mismatches", "Subtasks in which the item contradicts the query, as the chain of thought has it."),
      heading("Judged", "When, and by which teacher."),
    ],
    rows.map((row) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", class: "text" }, el("a", { href: `#judgement?${identity(row)}` }, visible(row.query) || "(no words)")),
        el("td", { class: "text" }, visible(row.title), el("span", { class: "under" }, visible(row.item_id))),
        el("td", {}, el("span", { class: "grade" }, visible(row.grade))),
        cell(fixed(row.relevance_score), SCORE),
        el(
          "td",
          {},
          el("span", { class: "clashes" }, row.mismatches.map((name) => el("span", { class: "state critical" }, `✗ ${visible(name)}`))),
          row.unlocated ? el("span", { class: "absent" }, `${count(row.unlocated)} quoted, not found`) : null,
        ),
        el("td", { class: "detail" }, date(row.at_ms), el("span", { class: "under" }, visible(row.teacher_id))),
      ),
    ),
  );
}

const identity = (row) =>
  new URLSearchParams({ query: row.query, item: row.item_id, content: row.content_hash, teacher: row.teacher_id, prompt: row.prompt_hash });
