// One pair: the teacher's judgement, the student's tags, the scores of each version, its way through the loop.

import { eventsAddress, judgementPlace } from "./addresses.js";
import { ask } from "./ask.js";
import { axis, colours, draw, erase } from "./charts.js";
import { cell, el, empty, facts, fill, heading, number, table, tile } from "./dom.js";
import { say } from "./follow.js";
import { count, date, fixed, percent, time, visible } from "./format.js";
import { bars, judgementParts, text } from "./judgement.js";
import { TERMS, lane } from "./sampled.js";

const box = (id) => document.getElementById(id);
const EVERY_MS = 10_000;
const SCORE = "Relevance score, from 0 to 1.";

let shown = null;
let asked = 0;
let asking = false;
let version = "";

/** Shows a pair and keeps what is said of it current until `leavePair`. */
export function showPair(query, item) {
  shown = { query, item };
  version = "";
  asked += 1;
  box("pair").hidden = true;
  box("one-note").textContent = "Loading …";
  fill(box("pair-student"), empty("The student is asked …"));
  refresh();
  askStudent();
}

export function leavePair() {
  shown = null;
  asked += 1;
  say("Choose a pair", "");
}

async function refresh() {
  if (!shown || document.hidden || asking) return;
  const mine = asked;
  asking = true;
  try {
    const found = await ask("/api/why", shown);
    if (mine !== asked) return;
    box("pair").hidden = false;
    box("one-note").textContent = "";
    show(found);
    say(`As of ${time(Date.now())}`, "ok");
  } catch (error) {
    if (mine !== asked) return;
    // What is shown stays; what never was says why.
    if (box("pair").hidden) box("one-note").textContent = error.message;
    say(error.message, "critical");
  } finally {
    asking = false;
    if (mine !== asked) refresh();
  }
}

async function askStudent() {
  const mine = asked;
  const chosen = version;
  try {
    const said = await ask("/api/student", { ...shown, ...(chosen ? { version: chosen } : {}) });
    if (mine === asked && chosen === version) showStudent(said);
  } catch (error) {
    if (mine === asked && chosen === version) fill(box("pair-student"), empty(error.message));
  }
}

function show(found) {
  fill(
    box("pair-head"),
    el("h2", {}, visible(found.query) || "(no words)"),
    el("span", { class: "note" }, `item ${visible(found.item_id)}`),
    el("a", { href: eventsAddress(shown.query, found.item_id) }, "Events of this pair ›"),
  );
  showScores(found);
  fill(box("pair-judgement"), ...(found.judgement ? judgementParts(found.judgement) : [unjudged(found)]));
  showChoice(found.serving);
  showVersions(found.scores);
  showOverTime(found.over_time);
  showSampled(found.sampled);
  showLearned(found);
}

function unjudged({ query, item_text: words }) {
  return el(
    "div",
    { class: "beside" },
    el("section", { class: "card", "aria-label": "Query" }, el("h3", {}, "Query"), el("p", { class: "read", dir: "auto" }, visible(query)), el("p", { class: "note" }, "The teacher has not judged this pair.")),
    el("section", { class: "card", "aria-label": "Item" }, el("h3", {}, "Item"), words ? el("p", { class: "read title", dir: "auto" }, visible(words)) : empty("Its text is not known here: it was never sampled or judged.")),
  );
}

function showScores({ judgement, scores }) {
  const [newest] = scores;
  const impressions = scores.reduce((sum, row) => sum + row.impressions, 0);
  const clicks = scores.reduce((sum, row) => sum + row.clicks, 0);
  fill(
    box("pair-scores"),
    tile("Teacher's score", fixed(judgement?.judgement.relevance_score), "The newest judgement's relevance score: the expectation of the grades' gains."),
    tile("Scored last", fixed(newest?.score), newest ? `Mean score by ${visible(newest.student_version)}, which scored it last, on ${date(newest.last_ms)}.` : "No version has scored it."),
    tile("Impressions", count(impressions), "How often the item was shown for the query, by all versions."),
    tile("Clicks", count(clicks), "Impressions that were clicked, each at most once."),
    tile("CTR", impressions ? percent(clicks / impressions, 1) : "–", "Clicks divided by impressions."),
  );
}

function showChoice(serving) {
  const choices = Object.entries(serving).map(([arm, number_]) => [String(number_), `interaction-${number_} (${arm})`]);
  const one = new Map(choices.map(([value, label]) => [value, choices.filter(([other]) => other === value).length > 1 ? `interaction-${value} (both arms)` : label]));
  const select = box("student-choice").querySelector("select");
  const state = JSON.stringify([...one]);
  if (select?.dataset.state === state) return;
  if (!one.size) return fill(box("student-choice"));
  // The newest, which scores the treatment, is asked unless another is chosen.
  const list = [...one].reverse();
  const made = el("select", { "aria-label": "Version to ask", "data-state": state }, list.map(([value, label]) => el("option", { value }, label)));
  made.value = version || list[0][0];
  made.addEventListener("change", () => {
    version = made.value;
    fill(box("pair-student"), empty("The student is asked …"));
    askStudent();
  });
  const again = el("button", { type: "button" }, "Ask again");
  again.addEventListener("click", askStudent);
  box("student-choice").replaceChildren(made, again);
}

function showStudent(said) {
  if (said.away) return fill(box("pair-student"), el("div", { class: "card", id: "student-away" }, empty(`The student can't be asked now: ${visible(said.away)}.`)));
  const tags = said.tags.map((tag) => ({ subtask: percent(tag.probability, 0), verdict: tag.verdict }));
  const [grade] = Object.entries(said.grades).reduce((best, each) => (each[1] > best[1] ? each : best), ["", -1]);
  const tagged = (verdict) => said.tags.filter((tag) => tag.verdict === verdict).length;
  fill(
    box("pair-student"),
    el(
      "div",
      { class: "one-head" },
      number(`score ${fixed(said.score, 3)}`, SCORE),
      el("span", { class: "note" }, `${visible(said.student_version)}, asked just now. Words that matched: ${tagged("match")}, that clashed: ${tagged("mismatch")}. Beside each is how sure the student is.`),
    ),
    el(
      "div",
      { class: "beside" },
      el("section", { class: "card", "aria-label": "Query as the student reads it" }, el("h3", {}, "Query"), text(said.query_pieces, tags)),
      el("section", { class: "card", "aria-label": "Item as the student reads it" }, el("h3", {}, "Item"), text(said.item_pieces, tags, "title")),
    ),
    el("div", { class: "card" }, el("h3", {}, "The student's grades"), el("p", { class: "note" }, "The probability that the student gives each grade."), bars({ grades: said.grades, grade })),
  );
}

const from = ({ first_ms, last_ms }) => (date(first_ms) === date(last_ms) ? date(first_ms) : `${date(first_ms)} to ${date(last_ms)}`);

const VERSION_COLUMNS = [
  ["Score", "Mean relevance score over its impressions, from 0 to 1.", (row) => fixed(row.score)],
  ["Range", "Lowest and highest score.", (row) => (row.low === null ? "–" : `${fixed(row.low)} to ${fixed(row.high)}`)],
  ["Position", "Mean position on the result page; 1 is the top.", (row) => (row.position ? fixed(row.position, 1) : "–")],
  ["Impressions", "How often this version showed the pair.", (row) => count(row.impressions)],
  ["Clicks", "Impressions that were clicked, each at most once.", (row) => count(row.clicks)],
];

function showVersions(rows) {
  if (!rows.length) return fill(box("pair-versions"), empty("It was not shown to a shopper."));
  fill(
    box("pair-versions"),
    table(
      "Scores by version, the last one first",
      [heading("Version", "The student whose score ranked the page."), ...VERSION_COLUMNS.map(([label, tip]) => heading(label, tip, { class: "figure" }))],
      rows.map((row) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, visible(row.student_version) || "not said", el("span", { class: "under" }, from(row))),
          VERSION_COLUMNS.map(([, tip, write]) => cell(write(row), tip)),
        ),
      ),
    ),
  );
}

function showOverTime({ bucket_ms, buckets }) {
  box("pair-never").hidden = buckets.length > 0;
  box("chart-pair").hidden = !buckets.length;
  if (!buckets.length) return erase("chart-pair");
  const total = (place) => buckets.reduce((sum, bucket) => sum + bucket[place], 0);
  const bar = (place, name, color) => ({
    type: "bar",
    name,
    x: buckets.map(([ms]) => new Date(ms + bucket_ms / 2)),
    y: buckets.map((bucket) => bucket[place]),
    width: bucket_ms * 0.9,
    marker: { color },
    hovertemplate: `%{y:,}<extra>${name}</extra>`,
  });
  // Between few impressions the library would count in halves.
  const whole = Math.max(...buckets.map((bucket) => bucket[1])) < 5 ? { dtick: 1 } : {};
  // A single bar would fill the chart.
  const range = [new Date(buckets[0][0] - 3 * bucket_ms), new Date(buckets.at(-1)[0] + 4 * bucket_ms)];
  draw("chart-pair", `Over time: ${count(total(1))} impressions, ${count(total(2))} clicks.`, () => ({
    traces: [bar(1, "impressions", colours.control), bar(2, "clicks", colours.treatment)],
    layout: { barmode: "overlay", showlegend: true, hovermode: "x unified", xaxis: axis({ type: "date", range }), yaxis: axis({ rangemode: "tozero", tickformat: ",d", ...whole }) },
  }));
}

function showSampled(rows) {
  if (!rows.length) return fill(box("pair-sampled"), empty("It was not sampled."));
  const terms = Object.keys(TERMS);
  fill(
    box("pair-sampled"),
    table(
      "When and why it was sampled",
      [heading("When"), heading("Lane", "Which part of the budget paid for it."), ...terms.map((name) => heading(name, TERMS[name], { class: "figure" }))],
      rows.map((row) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, date(row.at_ms), el("span", { class: "under" }, `${visible(row.traffic_class) || "class unknown"}, until ${time(row.deadline_ms)}`)),
          el("td", {}, lane(row.uniform)),
          terms.map((name) => cell(fixed(row.reasons[name], name === "priority" ? 3 : 2), TERMS[name])),
        ),
      ),
    ),
  );
}

function showLearned({ judgements, lessons }) {
  if (!judgements.length) return fill(box("pair-learned"), empty("It was not judged."));
  fill(
    box("pair-learned"),
    judgements.map((judgement) =>
      facts([
        ["Judged", [date(judgement.at_ms), ", ", el("span", { class: "grade" }, visible(judgement.grade)), " ", number(fixed(judgement.relevance_score, 3), SCORE), el("a", { class: "under", href: `/teacher${judgementPlace(judgement)}` }, `by ${visible(judgement.teacher_id)}, prompt ${visible(judgement.prompt_hash)}`)]],
        ["Taken in by", updates(lessons.filter((lesson) => lesson.name === judgement.name))],
      ]),
    ),
  );
}

const OUTCOMES = { passed: "passed the gate", kept: "was kept back by the gate", doubted: "waited for more judgements: a guard was in doubt", halted: "was halted by a guard" };

function updates(lessons) {
  if (!lessons.length) return "no update yet";
  return lessons.map((lesson) =>
    el(
      "span",
      { class: "under" },
      `${visible(lesson.kind)} update ${lesson.update_id}, ${date(lesson.at_ms)}: ${lesson.held_back ? "kept for the gate, not learned; it" : "it"} ${OUTCOMES[lesson.outcome] ?? visible(lesson.outcome)}`,
      lesson.student_version ? `, version ${visible(lesson.student_version)}` : "",
    ),
  );
}

document.addEventListener("visibilitychange", refresh);
setInterval(refresh, EVERY_MS);
