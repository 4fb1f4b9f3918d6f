// Versions of the students over time: who scored which arm, with which figures of the gate, and what became of them.

import { axis, colours, draw } from "./charts.js";
import { cell, el, empty, facts, fill, heading, number, table } from "./dom.js";
import { compact, count, date, duration, fixed, percent, sentence, visible } from "./format.js";

const box = (id) => document.getElementById(id);
const DRAWN = 16;
const STATES = {
  waiting: ["warning", "waits for its turn"],
  replaced: ["", "replaced by a newer one"],
  previous: ["", "the champion before"],
  rolled_back: ["critical", "rolled back"],
  refused: ["critical", "refused"],
  retired: ["", "retired"],
  exported: ["", "exported, no server was known"],
};
const ARMS = { control: "control", treatment: "treatment", both: "both arms" };
const STEPS = {
  published: ["○", "circle-open"],
  promoted: ["▲", "triangle-up"],
  rolled_back: ["✕", "x"],
  refused: ["⊘", "x-open"],
  retired: ["▪", "square"],
};

// The chart library reads markup, so a name that no publisher of this project gives is not shown to it.
const plain = (name) => (/^[a-z]{1,20}-\d{1,12}$/.test(name) ? name : "another");

let drawn = "";

/** Draws the newest versions and all that score an arm, each on a line of its own. */
export function showTimeline(versions, nowMs) {
  const shown = versions.filter((version, place) => place < DRAWN || version.arm);
  const state = JSON.stringify([shown, Math.floor(nowMs / 30_000)]);
  if (state === drawn) return;
  drawn = state;
  const chart = box("chart-versions");
  const rows = Math.max(1, shown.length);
  chart.classList.toggle("tall", rows > 8);
  const says = shown.length ? `Versions over time. ${shown.filter((each) => each.arm).map((each) => `${plain(each.name)} scores ${ARMS[each.arm]}`).join(", ")}.` : "No version yet.";
  draw("chart-versions", says, () => ({ traces: [...turns(shown, nowMs), ...signs(shown)], layout: layout(shown) }));
}

function turns(shown, nowMs) {
  const looks = { control: colours.control, treatment: colours.treatment, both: colours.series(2) };
  return Object.entries(looks).map(([arm, colour]) => {
    const bars = shown.flatMap((version) => version.turns.filter((turn) => turn.arm === arm).map((turn) => ({ name: plain(version.name), start: turn.start_ms, end: turn.end_ms ?? nowMs, open: turn.end_ms === null })));
    return {
      type: "bar",
      orientation: "h",
      name: ARMS[arm],
      y: bars.map((bar) => bar.name),
      base: bars.map((bar) => new Date(bar.start)),
      x: bars.map((bar) => bar.end - bar.start),
      customdata: bars.map((bar) => `${date(bar.start)} to ${bar.open ? "now" : date(bar.end)}, ${duration((bar.end - bar.start) / 1000)}`),
      width: 0.55,
      marker: { color: colour },
      hovertemplate: `%{y} scored ${ARMS[arm]}<br>%{customdata}<extra></extra>`,
      showlegend: bars.length > 0,
    };
  });
}

function signs(shown) {
  return Object.entries(STEPS).map(([name, [, symbol]]) => {
    const points = shown.flatMap((version) => version.steps.filter((step) => step.step === name).map((step) => ({ name: plain(version.name), step })));
    return {
      type: "scatter",
      mode: "markers",
      name: name.replaceAll("_", " "),
      x: points.map(({ step }) => new Date(step.at_ms)),
      y: points.map((point) => point.name),
      customdata: points.map(({ step }) => date(step.at_ms)),
      marker: { symbol, size: 10, color: name === "rolled_back" || name === "refused" ? colours.bad : colours.text, line: { width: 1.5, color: name === "rolled_back" || name === "refused" ? colours.bad : colours.text } },
      hovertemplate: `%{y} ${name.replaceAll("_", " ")}<br>%{customdata}<extra></extra>`,
      showlegend: points.length > 0,
    };
  });
}

function layout(shown) {
  const first = Math.min(...shown.flatMap((version) => [version.at_ms, ...version.turns.map((turn) => turn.start_ms)]));
  return {
    barmode: "overlay",
    xaxis: axis({ type: "date", ...(shown.length ? {} : { visible: false }), ...(Number.isFinite(first) ? { autorange: true } : {}) }),
    yaxis: axis({ type: "category", categoryorder: "array", categoryarray: shown.map((version) => plain(version.name)).reverse() }),
  };
}

const TIPS = {
  golden: "Area under the curve on people's grades that no training sees: 0.5 is chance, 1 is always right.",
  overall: "Difference of the golden AUC to the champion's. It must not be surely worse than a stated margin.",
  tail: "Difference of the AUC to the champion's on recent judgements of rare queries. It must be surely above zero.",
  calibration: "Difference of the calibration error to the champion's: below zero is better calibrated.",
  latency: "Time to score one pair when the gate measured it.",
  learned: "Judgements that it learned and its parent had not, and older ones repeated so that nothing is forgotten.",
  shown: "Impressions that it ranked, alone or behind the towers, and their click-through rate. Arms differ in time and shoppers: the Experiment page compares them fairly.",
};

const signed = (value) => (value === null ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`);

const range = ({ value, low, high }) => (value === null ? "–" : `${signed(value)}${low === null || high === null ? "" : `, ${signed(low)} to ${signed(high)}`}`);

function difference(figure, tip) {
  return el(
    "td",
    { class: "figure effect-cell", "data-tip": tip },
    signed(figure.value),
    figure.low === null || figure.high === null ? null : el("span", { class: "range" }, `${signed(figure.low)} to ${signed(figure.high)}`),
  );
}

const gateHeadings = () => [
  heading("Golden AUC", TIPS.golden, { class: "figure" }),
  heading("Overall", TIPS.overall, { class: "figure" }),
  heading("Tail", TIPS.tail, { class: "figure" }),
];

const gateCells = (gate) => [
  cell(fixed(gate.golden_auc, 4), TIPS.golden),
  difference(gate.golden_auc_difference, TIPS.overall),
  difference(gate.tail_auc_difference, `${TIPS.tail}${gate.tail_queries === null ? "" : ` Over ${count(gate.tail_queries)} queries.`}`),
];

function standing(version) {
  if (version.arm) return [el("span", { class: `state ${version.arm === "control" ? "" : "ok"}` }, ARMS[version.arm]), version.pinned ? el("span", { class: "under" }, "pinned") : null];
  const [look, words] = STATES[version.state] ?? ["", version.state];
  return [el("span", { class: `state ${look}` }, words)];
}

export function showVersions(versions) {
  if (!versions.length) return fill(box("versions"), empty("No student was published yet. `relevance students publish` puts the first one into serving; the trainer makes the next ones."));
  fill(
    box("versions"),
    table(
      "Versions, newest first",
      [
        heading("Version", "Its kind and number, and the version that it was trained from."),
        heading("Scores", "Which arm it scores now, or why none."),
        heading("What was decided last", "The reason of the newest step. All steps are below it."),
        ...gateHeadings(),
        heading("Learned", TIPS.learned, { class: "figure" }),
        heading("Shown", TIPS.shown, { class: "figure" }),
      ],
      versions.map((version) =>
        el(
          "tr",
          {},
          el("th", { scope: "row", class: "plain" }, visible(version.name), el("span", { class: "under" }, version.parent ? `from ${visible(version.parent)}` : "the first")),
          el("td", {}, standing(version)),
          el("td", { class: "decided" }, sentence(visible(version.decision)), lineage(version)),
          gateCells(version.gate),
          el("td", { class: "figure effect-cell", "data-tip": TIPS.learned }, count(version.fresh), version.replayed === null ? null : el("span", { class: "range" }, `${count(version.replayed)} repeated`)),
          el("td", { class: "figure effect-cell", "data-tip": TIPS.shown }, compact(version.impressions), version.impressions ? el("span", { class: "range" }, `CTR ${percent(version.clicks / version.impressions)}`) : null),
        ),
      ),
      { id: "versions-table" },
    ),
  );
}

/** Every step of a version, and which judgements it has seen. */
function lineage(version) {
  const offsets = Object.entries(version.offsets).map(([name, next]) => `${visible(name)} up to ${count(next)}`);
  const ranges = Object.entries(version.ranges).map(([name, [from, to]]) => `${visible(name)} ${count(from)} to ${count(to)}`);
  return el(
    "details",
    {},
    el("summary", {}, "Steps and lineage"),
    el("ol", { class: "steps" }, version.steps.map((step) => el("li", {}, el("span", { class: "when" }, date(step.at_ms)), ` ${STEPS[step.step]?.[0] ?? "·"} ${visible(step.step.replaceAll("_", " "))}: `, sentence(visible(step.decision)) || "no reason given."))),
    facts([
      ["Calibration error", number(range(version.gate.calibration_difference), TIPS.calibration)],
      ["Latency", number(version.gate.pair_ms === null ? "–" : `${fixed(version.gate.pair_ms, 1)} ms a pair, its champion ${fixed(version.gate.champion_pair_ms, 1)} ms`, TIPS.latency)],
      ["Update", version.update_id === null ? "none: published by hand" : `${count(version.update_id)}, ${count(version.judgements)} new judgements`],
      ["Read in it", ranges.join(", ") || "–"],
      ["Seen in all", offsets.join(", ") || "–"],
    ]),
  );
}

const OUTCOMES = { kept: ["", "kept"], doubted: ["warning", "doubted"], halted: ["critical", "halted"], waiting: ["warning", "waiting"] };

export function showKeptBack(updates) {
  if (!updates.length) return fill(box("kept-back"), empty("None so far."));
  const judged = "Judgements that were new in this update.";
  fill(
    box("kept-back"),
    table(
      "Updates that made no version, newest first",
      [heading("Update", "Its number and kind."), heading("Outcome"), heading("Why"), ...gateHeadings(), heading("Judgements", judged, { class: "figure" })],
      updates.map((update) => {
        const [look, word] = OUTCOMES[update.outcome] ?? ["", update.outcome];
        return el(
          "tr",
          {},
          el("th", { scope: "row", class: "plain" }, `${visible(update.kind)}, update ${update.update_id}`, el("span", { class: "under" }, date(update.at_ms))),
          el("td", {}, el("span", { class: `state ${look}` }, visible(word))),
          el("td", { class: "decided" }, sentence(visible(update.why))),
          gateCells(update.gate),
          cell(count(update.judgements), judged),
        );
      }),
      { id: "kept-back-table" },
    ),
  );
}
