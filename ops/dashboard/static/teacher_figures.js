// The top of the teacher's page: what judgements cost, which grades they give, how far people agree.

import { axis, colours, draw } from "./charts.js";
import { cell, el, empty, fill, heading, number, table, tile } from "./dom.js";
import { compact, count, date, fixed, interval, percent, visible } from "./format.js";

const box = (id) => document.getElementById(id);
const seconds = (value) => `${fixed(value)} s`;
const share = (part, whole) => (whole ? part / whole : null);

export function showFigures(overview) {
  showTiles(overview);
  box("known").hidden = !overview.all && !overview.reports.length && !overview.refusals.length;
  if (box("known").hidden) return;
  showMix(overview.mix);
  showDrift(overview.drift);
  showAgreement(overview.reports);
  showTeachers(overview.teachers);
  showRefusals(overview.refusals);
}

function showTiles({ all, cost, refusals }) {
  if (!all) return fill(box("figures"), empty("Nothing was judged yet. `relevance teacher judge QUERY TITLE --publish` judges a pair and sends the judgement here, `--file` many."));
  const refused = refusals.reduce((sum, { pairs }) => sum + pairs, 0);
  fill(
    box("figures"),
    tile("Judgements", compact(all.judgements), `${count(all.judgements)} pairs judged, each once for a teacher, a prompt and an item text.`),
    tile("Mean score", fixed(all.mean_score), "The mean relevance score, from 0 to 1, of all judgements."),
    tile("Prompt tokens", count(all.prompt_tokens), "Tokens of the prompt, mean of all judgements."),
    tile("From the cache", percent(share(all.cached_tokens, all.prompt_tokens), 1), `Share of the prompt's tokens that the server had in its prefix cache: ${count(all.cached_tokens)} of ${count(all.prompt_tokens)}.`),
    tile("Answer tokens", count(all.completion_tokens), "Tokens that the teacher wrote, mean of all judgements."),
    tile("Time, half", seconds(all.p50_s), "Half of the judgements took less than this from request to answer, waiting among others."),
    tile("Time, 95 %", seconds(all.p95_s), "95 % of the judgements took less than this from request to answer."),
    tile("Refused", percent(share(refused, refused + all.judgements), 1), `${count(refused)} pairs got an answer that was no judgement. Pairs that were judged later are among them.`),
    tile("Not located", percent(share(all.unlocated, all.quotes), 1), `Share of the quoted words that stand in neither text: ${count(all.unlocated)} of ${count(all.quotes)}.`),
    tile("Price of 1,000", cost.usd_per_1000_judgements === null ? "not set" : `$${cost.usd_per_1000_judgements.toFixed(2)}`, cost.usd_total === null ? "Set teacher.usd_per_million_prompt_tokens and usd_per_million_completion_tokens to see what judgements cost." : `All of them together: $${cost.usd_total.toFixed(2)}.`),
  );
}

let drawnMix = "";
const PATTERNS = ["", "/", ".", "x", "\\", "+"];
const COLOURS = [2, 1, 3, 5, 4, 6];

// The chart library reads markup, so a label that is none of a policy's is not shown to it.
const plain = (label) => (/^[A-Za-z0-9]{1,12}$/.test(label) ? label : "other");

function showMix(mix) {
  const state = JSON.stringify(mix);
  if (!mix || state === drawnMix) return;
  drawnMix = state;
  const totals = mix.at_ms.map((_, i) => mix.counts.reduce((sum, counts) => sum + counts[i], 0));
  const all = totals.reduce((sum, n) => sum + n, 0);
  const says = mix.grades.map((label, n) => `${plain(label)} ${percent(share(mix.counts[n].reduce((sum, value) => sum + value, 0), all), 0)}`);
  draw("chart-mix", `Grades over time, in all: ${says.join(", ")}.`, () => ({
    traces: mix.grades.map((label, n) => ({
      type: "bar",
      name: plain(label),
      x: mix.at_ms.map((ms) => new Date(ms + mix.bucket_ms / 2)),
      y: mix.counts[n].map((value, i) => value / totals[i]),
      customdata: mix.counts[n],
      width: mix.bucket_ms * 0.9,
      marker: {
        color: colours.series(COLOURS[n % COLOURS.length]),
        pattern: { shape: PATTERNS[n % PATTERNS.length], fgcolor: colours.text, fgopacity: 0.45, size: 6, solidity: 0.25, fillmode: "overlay" },
      },
      hovertemplate: `%{y:.1%} (%{customdata:,})<extra>${plain(label)}</extra>`,
    })),
    layout: { barmode: "stack", bargap: 0, hovermode: "x unified", yaxis: axis({ range: [0, 1], tickformat: ".0%" }), xaxis: axis({ type: "date" }), legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal", font: { size: 11, color: colours.quiet } } },
  }));
}

const DRIFT = {
  stable: ["ok", "The grade mix is stable"],
  moving: ["warning", "The grade mix is moving"],
  moved: ["critical", "The grade mix has moved"],
  unknown: ["", "Too few judgements to tell whether the grade mix has moved"],
};

function showDrift(drift) {
  if (!drift) return fill(box("drift"));
  const [look, words] = DRIFT[drift.state];
  fill(
    box("drift"),
    el("span", { class: `state ${look}` }, drift.state === "unknown" ? "not known" : drift.state),
    ` ${words}. `,
    drift.psi === null ? "" : number(`PSI ${fixed(drift.psi, 3)}`, "Population stability index of the newest teacher's grades since then against those before. Below 0.1 it is stable; at 0.25 and more it has moved, if chance is ruled out too."),
    el("span", { class: "why" }, `${visible(drift.teacher_id)} since ${date(drift.since_ms)} against before: ${drift.why}.`),
  );
}

const AGREEMENT = [
  ["kappa", "Kappa", "Quadratic weighted kappa of the teacher's grades with people's: 0 is chance, 1 is the same grades."],
  ["auc", "AUC", "How often the score puts a relevant item above an irrelevant one: 0.5 is chance, 1 is always."],
  ["ece", "ECE", "Calibration error: how far the score is from people's gain on average; 0 is best."],
  ["ece_calibrated", "ECE, corrected", "The same after an isotonic correction fitted on other queries' grades of people."],
];
let shownReports = "";

function showAgreement(figures) {
  const state = JSON.stringify(figures);
  if (state === shownReports) return;
  shownReports = state;
  if (!figures.length) return fill(box("agreement"), empty("No report yet. `relevance teacher evaluate --people GRADES --publish` compares a teacher with people's grades and sends its report here."));
  const reports = [...Map.groupBy(figures, (figure) => `${figure.report_id} ${figure.teacher_id} ${figure.prompt_hash} ${figure.data_set}`).values()];
  fill(
    box("agreement"),
    table(
      "Agreement with people",
      [heading("Data", "Whose grades the teacher's were compared with."), ...AGREEMENT.map(([, label, tip]) => heading(label, tip, { class: "figure" }))],
      reports.map((report) => {
        const named = new Map(report.map((figure) => [figure.metric, figure]));
        const [{ data_set, teacher_id, at_ms, n_pairs, n_queries }] = report;
        return el(
          "tr",
          {},
          el("th", { scope: "row", class: "text" }, visible(data_set), el("span", { class: "under" }, `${count(n_pairs)} pairs of ${count(n_queries)} queries, ${visible(teacher_id)}, ${date(at_ms)}`)),
          AGREEMENT.map(([name, , tip]) => estimate(named.get(name), tip)),
        );
      }),
    ),
    ...reports.map(details),
  );
}

function estimate(figure, tip) {
  if (!figure) return cell("–", `${tip} The report does not give it.`);
  if (figure.value === null) return cell("–", `${tip} Not known: ${figure.why}.`);
  const range = interval(figure.low, figure.high, (value) => fixed(value));
  return el("td", { class: "figure", "data-tip": `${tip} The range is its 95 % interval.` }, fixed(figure.value, 3), el("span", { class: "under" }, range === "–" ? "" : range));
}

function details(report) {
  const [{ data_set, teacher_id, prompt_hash }] = report;
  return el(
    "details",
    {},
    el("summary", {}, `All figures: ${visible(data_set)}, ${visible(teacher_id)}`),
    el("p", { class: "note" }, "Prompt ", el("code", {}, visible(prompt_hash))),
    table(
      "All figures of the report",
      [heading("Figure"), heading("Value", "As the report names and counts it.", { class: "figure" }), heading("95 % interval", "Where the true value lies with 95 % confidence, by resampling queries.", { class: "figure" })],
      report.map((figure) =>
        el(
          "tr",
          {},
          el("th", { scope: "row", class: "text" }, visible(figure.metric), figure.why ? el("span", { class: "under" }, visible(figure.why)) : null),
          cell(figure.value === null ? "–" : Number(figure.value.toPrecision(4)), "As the report names and counts it."),
          cell(interval(figure.low, figure.high, (value) => Number(value.toPrecision(3))), "Where the true value lies with 95 % confidence."),
        ),
      ),
    ),
  );
}

const COLUMNS = [
  ["Judgements", "Pairs judged, each item text once.", (row) => count(row.judgements)],
  ["Mean score", "Mean relevance score, from 0 to 1.", (row) => fixed(row.mean_score)],
  ["Prompt tokens", "Mean of a judgement.", (row) => count(row.prompt_tokens)],
  ["Cached", "Share of the prompt's tokens from the prefix cache.", (row) => percent(share(row.cached_tokens, row.prompt_tokens), 1)],
  ["Answer tokens", "Mean of a judgement.", (row) => count(row.completion_tokens)],
  ["Half within", "Half of the judgements took less than this.", (row) => seconds(row.p50_s)],
  ["95 % within", "95 % of the judgements took less than this.", (row) => seconds(row.p95_s)],
  ["Not located", "Share of quoted words that stand in neither text.", (row) => percent(share(row.unlocated, row.quotes), 1)],
  ["Newest", "When it judged last.", (row) => date(row.last_ms)],
];

function showTeachers(rows) {
  if (!rows.length) return fill(box("teachers"), empty("No judgement yet."));
  fill(
    box("teachers"),
    table(
      "Figures by teacher and prompt",
      [heading("Teacher", "The model's name, and the prompt's."), ...COLUMNS.map(([label, tip]) => heading(label, tip, { class: "figure" }))],
      rows.map((row) =>
        el(
          "tr",
          {},
          el("th", { scope: "row", class: "text" }, visible(row.teacher_id), el("span", { class: "under" }, el("code", {}, visible(row.prompt_hash)))),
          COLUMNS.map(([, tip, write]) => cell(write(row), tip)),
        ),
      ),
    ),
  );
}

function showRefusals(rows) {
  if (!rows.length) return fill(box("refusals"), empty("None: every answer so far was a judgement."));
  fill(
    box("refusals"),
    table(
      "Refused answers by reason",
      [heading("Reason"), heading("Pairs", "Pairs whose newest refusal has this reason.", { class: "figure" }), heading("Newest", "When it happened last.", { class: "figure" })],
      rows.map((row) => el("tr", {}, el("th", { scope: "row", class: "text" }, visible(row.reason.replaceAll("_", " "))), cell(count(row.pairs), "Pairs whose newest refusal has this reason."), cell(date(row.last_ms), "When it happened last."))),
    ),
  );
}
