// The list of judgements.

import { judgementPlace } from "./addresses.js";
import { cell, el, empty, heading, table } from "./dom.js";
import { count, date, fixed, visible } from "./format.js";
import { nameChoices, startList } from "./list.js";

const SCORE = "The relevance score, from 0 to 1: the expectation of the grades' gains.";

export function startJudgements() {
  startList({
    path: "/api/judgements",
    rows: "judgements",
    filters: ["grade", "mismatch", "teacher", "q"],
    table: judgementsTable,
    found: (n) => `${count(n)} judgements, newest first. Choose a query to read one.`,
    nothing,
  });
}

/** Fills the choices of the filters from what there is. */
export function nameJudgements({ choices, teachers }) {
  nameChoices({ grade: choices.grades, mismatch: choices.subtasks, teacher: [...new Set(teachers.map((each) => each.teacher_id))].sort() });
}

function nothing({ older, filtered }) {
  if (older) return empty("No older judgement.");
  if (filtered) return empty("No judgement fits this choice so far.");
  return empty("Nothing was judged yet. Judgements appear here as soon as a teacher's are published.");
}

function judgementsTable(rows) {
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
        el("th", { scope: "row", class: "text" }, el("a", { href: judgementPlace(row) }, visible(row.query) || "(no words)")),
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
