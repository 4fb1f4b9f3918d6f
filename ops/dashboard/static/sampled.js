// What was sampled and why: over time, by lane and class, by term of the priority, and the list of pairs.

import { whyAddress } from "./addresses.js";
import { axis, colours, draw, faded } from "./charts.js";
import { cell, el, empty, fill, heading, table } from "./dom.js";
import { compact, count, date, fixed, percent, visible } from "./format.js";
import { startList } from "./list.js";

const box = (id) => document.getElementById(id);
const CLASSES = ["head", "torso", "tail", "unknown"];
const CLASS_COLOURS = { head: 5, torso: 2, tail: 1, unknown: 3 };
export const TERMS = {
  tail: "How rare the query is: 1 is rarest.",
  uncertainty: "How unsure the served student is: 1 is most unsure.",
  contradiction: "How far the score and what shoppers did disagree.",
  novelty: "How few pairs of this query were judged: 1 is none.",
  priority: "The product of the terms.",
};
const STATES = { judged: "ok", refused: "critical", expired: "warning", waiting: "" };
const STATE_TIPS = {
  judged: "There is a judgement of this text since then.",
  refused: "The teacher's answer was no judgement.",
  expired: "Neither came before the deadline.",
  waiting: "The teacher has not answered yet.",
};

export function showSampling({ sampled, terms, groups }) {
  showOverTime(sampled);
  showTerms(terms.filter((term) => !term.uniform && TERMS[term.term]));
  showGroups(groups);
}

let drawnTime = "";

function showOverTime({ bucket_ms, at_ms, counts }) {
  const state = JSON.stringify([at_ms, counts]);
  if (state === drawnTime) return;
  drawnTime = state;
  const shown = CLASSES.filter((name) => counts[name]);
  const total = (name) => counts[name].reduce((sum, n) => sum + n, 0);
  draw("chart-sampled", shown.length ? `Sampled pairs over time, in all: ${shown.map((name) => `${name} ${count(total(name))}`).join(", ")}.` : "No pair was sampled in the last day.", () => ({
    traces: shown.map((name) => ({
      type: "bar",
      name,
      x: at_ms.map((ms) => new Date(ms + bucket_ms / 2)),
      y: counts[name],
      width: bucket_ms * 0.9,
      marker: { color: colours.series(CLASS_COLOURS[name]) },
      hovertemplate: `%{y:,}<extra>${name}</extra>`,
    })),
    layout: { barmode: "stack", bargap: 0, hovermode: "x unified", showlegend: true, xaxis: axis({ type: "date" }), yaxis: axis({ rangemode: "tozero" }) },
  }));
}

let drawnTerms = "";

function showTerms(terms) {
  const state = JSON.stringify(terms);
  if (state === drawnTerms) return;
  drawnTerms = state;
  const ordered = Object.keys(TERMS).map((name) => terms.find((term) => term.term === name)).filter(Boolean).reverse();
  draw("chart-terms", ordered.length ? `Median of each term: ${ordered.map((term) => `${term.term} ${fixed(term.middle)}`).join(", ")}.` : "No pair was sampled in the last day.", () => ({
    traces: [
      {
        type: "bar",
        orientation: "h",
        y: ordered.map((term) => term.term),
        base: ordered.map((term) => term.low),
        x: ordered.map((term) => term.high - term.low),
        width: 0.5,
        marker: { color: faded(colours.series(1), 0.35) },
        hoverinfo: "skip",
      },
      {
        type: "scatter",
        mode: "markers",
        y: ordered.map((term) => term.term),
        x: ordered.map((term) => term.middle),
        customdata: ordered.map((term) => [term.low, term.high, term.pairs]),
        marker: { symbol: "line-ns-open", size: 18, color: colours.series(1), line: { width: 3, color: colours.series(1) } },
        hovertemplate: "%{y}: median %{x:.3f}<br>middle half %{customdata[0]:.3f} to %{customdata[1]:.3f}<br>%{customdata[2]:,} pairs<extra></extra>",
      },
    ],
    layout: { barmode: "overlay", showlegend: false, xaxis: axis({ rangemode: "tozero" }), yaxis: axis({ type: "category" }) },
  }));
}

const GROUP_COLUMNS = [
  ["Pairs", "Pairs that were sent to the teacher.", (row) => count(row.pairs)],
  ["Share", "Of all sampled pairs.", (row, all) => percent(row.pairs / all, 0)],
  ["Judged", STATE_TIPS.judged, (row) => count(row.judged)],
  ["Waiting", STATE_TIPS.waiting, (row) => count(row.waiting)],
  ["Refused", STATE_TIPS.refused, (row) => count(row.refused)],
  ["Expired", STATE_TIPS.expired, (row) => count(row.expired)],
  ["Tokens", "Tokens that the sampler expected them to cost.", (row) => compact(row.tokens)],
];

export const lane = (uniform) => (uniform ? "by lot" : "by priority");

function showGroups(groups) {
  if (!groups.length) return fill(box("groups"), empty("Nothing was sampled yet. The sampler begins as soon as shoppers have seen items and a budget is set."));
  const all = groups.reduce((sum, group) => sum + group.pairs, 0);
  fill(
    box("groups"),
    table(
      "Sampled pairs by class and lane",
      [heading("Lane"), heading("Class", "Head: among the most frequent queries. Tail: rare. Torso: between them."), ...GROUP_COLUMNS.map(([label, tip]) => heading(label, tip, { class: "figure" }))],
      groups.map((group) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, lane(group.uniform)),
          el("td", {}, el("span", { class: `class ${CLASSES.includes(group.traffic_class) ? group.traffic_class : ""}` }, visible(group.traffic_class))),
          GROUP_COLUMNS.map(([, tip, write]) => cell(write(group, all), tip)),
        ),
      ),
    ),
  );
}

export function startSampled() {
  startList({
    path: "/api/sampled",
    rows: "sampled",
    filters: ["class", "lane", "state", "q"],
    table: sampledTable,
    found: (n) => `${count(n)} pairs, newest first. Choose a query to see why its item has its score.`,
    nothing: ({ older, filtered }) => empty(older ? "No older pair." : filtered ? "No pair fits this choice so far." : "Nothing was sampled yet."),
  });
}

function sampledTable(rows) {
  return table(
    "Sampled pairs",
    [
      heading("Query"),
      heading("Item", "The first line of the item's text, and its id in the shop."),
      heading("Class", "How frequent the query is."),
      heading("Lane", "Which part of the budget paid for it."),
      heading("Priority", TERMS.priority, { class: "figure" }),
      ...["tail", "uncertainty", "contradiction", "novelty"].map((name) => heading(name, TERMS[name], { class: "figure" })),
      heading("State", "What became of it."),
      heading("Sampled"),
    ],
    rows.map((row) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", class: "text" }, el("a", { href: whyAddress(row.query, row.item_id) }, visible(row.query) || "(no words)")),
        el("td", { class: "text" }, visible(row.title), el("span", { class: "under" }, visible(row.item_id))),
        el("td", {}, el("span", { class: `class ${row.traffic_class}` }, row.traffic_class)),
        el("td", { class: "plain" }, lane(row.uniform)),
        cell(fixed(row.priority, 3), TERMS.priority),
        ["tail", "uncertainty", "contradiction", "novelty"].map((name) => cell(fixed(row.reasons[name]), TERMS[name])),
        el("td", { class: "plain" }, el("span", { class: `state ${STATES[row.state]}`, "data-tip": STATE_TIPS[row.state] }, row.state), row.grade ? [" ", el("span", { class: "grade" }, visible(row.grade))] : null),
        el("td", { class: "detail" }, date(row.at_ms)),
      ),
    ),
  );
}
