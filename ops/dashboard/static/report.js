// The experiment: who wins, by how much, how sure, on which queries, over which time, and whether to trust it.

import { axis, colours, draw, erase, faded } from "./charts.js";
import { cell, el, fill, heading, number, table } from "./dom.js";
import { change, date, fixed, interval, percent, sentence } from "./format.js";
import { showArms, showGuardrails } from "./trust.js";

const box = (id) => document.getElementById(id);

const METRICS = {
  ctr: {
    short: "CTR",
    title: "Click-through rate (CTR)",
    says: "the share of impressions that were clicked, by the shoppers of this arm",
    write: percent,
  },
  cvr: {
    short: "CVR",
    title: "Conversion rate (CVR)",
    says: "purchases that followed from an impression, per click, by the shoppers of this arm",
    write: percent,
  },
  revenue_per_shopper: {
    short: "Revenue",
    title: "Revenue per shopper",
    says: "what the shoppers of this arm spent on items they were shown, divided by how many they are, in the shop's currency",
    write: fixed,
  },
};

const CLASSES = ["head", "torso", "tail"];
const CLASS_TIPS = {
  head: "The most frequent queries.",
  torso: "Queries between the frequent and the rare ones.",
  tail: "The rare queries: many different ones, each seldom asked.",
};

let chosen = "ctr";
let latest = null;
let shown = 0;
let ask = null;

export function startReport(fetcher) {
  ask = fetcher;
  fill(
    box("metric-tabs"),
    Object.entries(METRICS).map(([name, { short, title }]) =>
      el("button", { type: "button", "data-metric": name, "data-tip": title, "aria-pressed": String(name === chosen) }, short),
    ),
  );
  box("metric-tabs").addEventListener("click", (event) => {
    const name = event.target.closest("[data-metric]")?.dataset.metric;
    if (!name) return;
    chosen = name;
    for (const tab of box("metric-tabs").children) tab.setAttribute("aria-pressed", String(tab.dataset.metric === name));
    if (latest) showFigures(latest);
  });
}

/** Fetches the report when the snapshot says that there is a newer one. */
export async function showReport({ report, arms }) {
  if (!report.at_ms) {
    showNoReport(report.error || "The experiment's report is being computed …");
    return;
  }
  if (report.at_ms === shown) return;
  shown = report.at_ms;
  try {
    latest = { report: await ask("/api/experiment", {}), arms };
    showFigures(latest);
  } catch (error) {
    shown = 0;
    if (!latest) showNoReport(error.message);
  }
}

function showNoReport(why) {
  fill(box("verdict"), el("p", { class: "big" }, "No result yet"), el("p", { class: "note" }, why));
}

function showFigures({ report, arms }) {
  for (const node of document.querySelectorAll(".metric-name")) node.textContent = METRICS[chosen].title.toLowerCase().replace("(ctr)", "(CTR)").replace("(cvr)", "(CVR)");
  showVerdict(report);
  showMetrics(report, arms);
  showEffects(report);
  showClasses(report, arms);
  showOverTime(report);
  showGuardrails(report);
  showTraffic(report, arms);
  showArms(report);
}

const MARKS = { better: "▲", worse: "▼", stop: "■", open: "◆" };

function showVerdict(report) {
  const { verdict } = report;
  const card = box("verdict");
  card.className = `card ${verdict.tone}`;
  const since = report.start_ms === null ? "" : ` Running since ${date(report.start_ms)}.`;
  fill(card, el("p", { class: "big" }, `${MARKS[verdict.tone]} ${sentence(verdict.text)}`), el("p", { class: "note" }, sentence(verdict.note), report.state === "running" ? since : ""));
}

const tone = (estimate) => {
  if (!estimate) return "";
  if (estimate.relative_interval.lower > 0) return "better";
  return estimate.relative_interval.upper < 0 ? "worse" : "";
};

function showMetrics(report, arms) {
  const [control, treatment] = arms;
  const effects = effectsOf(report, "all");
  fill(
    box("metrics"),
    Object.entries(METRICS).map(([name, metric]) => {
      const effect = effects[name];
      const estimate = effect?.estimate;
      const side = (arm, look, value, range) => [
        el("dt", {}, el("span", { class: `dot ${look}`, "aria-hidden": "true" }), arm),
        el(
          "dd",
          {},
          number(metric.write(value ?? null), `${metric.title} of ${arm}: ${metric.says}.`),
          range ? number(` ${interval(range.lower, range.upper, metric.write)}`, `The true value of ${arm} lies in this range with ${level(report)} confidence, however often one looks.`, { class: "note" }) : "",
        ),
      ];
      return el(
        "div",
        { class: "card metric", id: `metric-${name}` },
        el("h3", {}, metric.title),
        estimate
          ? [
              el("p", {}, number(change(estimate.relative), `${treatment} compared with ${control}: the relative difference. ${adjusted(estimate)}`, { class: `number effect ${tone(estimate)}` })),
              el("p", { class: "range" }, number(interval(estimate.relative_interval.lower, estimate.relative_interval.upper, change), `The true difference lies in this range with ${level(report)} confidence, however often one looks (always-valid interval).`)),
              el("p", { class: "note" }, says(estimate, arms)),
            ]
          : el("p", { class: "empty" }, waiting(effect?.why_not)),
        el("dl", {}, side(control, "control", effect?.control, effect?.control_interval), side(treatment, "treatment", effect?.treatment, effect?.treatment_interval)),
      );
    }),
  );
}

const adjusted = (estimate) =>
  estimate.cuped
    ? `It is adjusted for what the same shoppers did before the experiment, which took ${percent(estimate.variance_reduction, 0)} off the noise.`
    : "";

function says(estimate, [control, treatment]) {
  const look = tone(estimate);
  if (look === "better") return `✓ ${treatment} is better`;
  if (look === "worse") return `✕ ${treatment} is worse`;
  return `No sure difference between ${control} and ${treatment} yet`;
}

const level = (report) => percent(1 - report.alpha, 0);

const waiting = (why) => sentence(why ?? "no figures yet");

/** One dot and bar per row: name, estimate. */
function forest(rows) {
  const known = rows.filter(([, estimate]) => estimate);
  const dots = (picked, colour, name) => ({
    type: "scatter",
    mode: "markers",
    name,
    x: picked.map(([, e]) => 100 * e.relative),
    y: picked.map(([label]) => label),
    customdata: picked.map(([, e]) => [change(e.relative), change(e.relative_interval.lower), change(e.relative_interval.upper)]),
    marker: { size: 11, color: colour },
    error_x: {
      type: "data",
      symmetric: false,
      array: picked.map(([, e]) => 100 * (e.relative_interval.upper - e.relative)),
      arrayminus: picked.map(([, e]) => 100 * (e.relative - e.relative_interval.lower)),
      color: colour,
      thickness: 3,
      width: 0,
    },
    hovertemplate: "%{y}: %{customdata[0]}<br>between %{customdata[1]} and %{customdata[2]}<extra></extra>",
    showlegend: false,
  });
  const order = rows.map(([label]) => label).reverse();
  return {
    traces: [
      dots(known.filter(([, e]) => tone(e) === "better"), colours.good),
      dots(known.filter(([, e]) => tone(e) === "worse"), colours.bad),
      dots(known.filter(([, e]) => tone(e) === ""), colours.control),
    ],
    layout: {
      xaxis: axis({ ticksuffix: " %", zeroline: true, zerolinewidth: 2, rangemode: "tozero" }),
      yaxis: axis({ categoryorder: "array", categoryarray: order, range: [-0.6, order.length - 0.4], tickfont: { size: 13, color: colours.text } }),
    },
  };
}

const inWords = (rows) =>
  rows.filter(([, e]) => e).map(([label, e]) => `${label} ${change(e.relative)}, between ${change(e.relative_interval.lower)} and ${change(e.relative_interval.upper)}`).join("; ");

function showEffects(report) {
  const effects = effectsOf(report, "all");
  const rows = Object.entries(METRICS).map(([name, { short }]) => [short, effects[name]?.estimate]);
  chart("chart-effects", rows.some(([, e]) => e), `Effect of the treatment: ${inWords(rows)}.`, () => forest(rows), "The chart appears with the first estimate.");
  const series = seriesOf(report, "all", chosen);
  chart("chart-time", series.length > 0, "The effect over time with its interval.", () => overTime(series, span([series])), "The curve appears with the first estimate.");
}

/** A line in its band. `range` is the vertical axis, in percent. */
function overTime(points, range) {
  const colour = colours.treatment;
  const x = points.map((point) => new Date(point.at_ms));
  const edge = (y, extra) => ({ type: "scatter", mode: "lines", x, y, line: { width: 0 }, hoverinfo: "skip", showlegend: false, ...extra });
  return {
    traces: [
      edge(points.map((point) => 100 * point.upper)),
      edge(points.map((point) => 100 * point.lower), { fill: "tonexty", fillcolor: faded(colour, 0.2) }),
      {
        type: "scatter",
        mode: points.length > 1 ? "lines" : "markers",
        x,
        y: points.map((point) => 100 * point.relative),
        customdata: points.map((point) => [change(point.relative), change(point.lower), change(point.upper)]),
        line: { width: 2.5, color: colour },
        marker: { color: colour },
        hovertemplate: "%{customdata[0]}, between %{customdata[1]} and %{customdata[2]}<extra></extra>",
        showlegend: false,
      },
    ],
    layout: {
      hovermode: "x unified",
      xaxis: axis({ tickformat: "%H:%M\n%d %b", nticks: 5 }),
      yaxis: axis({ ticksuffix: " %", zeroline: true, zerolinewidth: 2, range }),
    },
  };
}

/** The first, very wide intervals would flatten all others: the axis shows the later half of them whole. */
function span(series) {
  const later = series.flatMap((points) => points.slice(Math.floor(points.length / 2)));
  const low = Math.min(0, ...later.map((point) => 100 * point.lower));
  const high = Math.max(0, ...later.map((point) => 100 * point.upper));
  const room = 0.25 * (high - low) || 1;
  return [low - room, high + room];
}

function showClasses(report, [control, treatment]) {
  const { write, title, says: meaning } = METRICS[chosen];
  const found = CLASSES.map((name) => [name, effectsOf(report, name)[chosen]]);
  const rows = found.map(([name, effect]) => [name, effect?.estimate]);
  chart("chart-classes", rows.some(([, e]) => e), `Effect on ${title} by class of query: ${inWords(rows)}.`, () => forest(rows), "The chart appears with the first estimate by class.");
  fill(
    box("classes"),
    table(
      `${title} by class of query`,
      [
        heading("Queries"),
        heading(control, `${title} of ${control}: ${meaning}.`, { class: "figure" }),
        heading(treatment, `${title} of ${treatment}: ${meaning}.`, { class: "figure" }),
        heading("Effect", "Relative difference of the treatment to control, and the range that holds the true one however often one looks.", { class: "figure" }),
      ],
      found.map(([name, effect]) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, el("span", { class: `class ${name}`, "data-tip": CLASS_TIPS[name] }, name)),
          cell(write(effect?.control ?? null), `${title} of ${control} on ${name} queries.`),
          cell(write(effect?.treatment ?? null), `${title} of ${treatment} on ${name} queries.`),
          effect?.estimate
            ? cell([el("span", { class: tone(effect.estimate) }, change(effect.estimate.relative)), el("span", { class: "range" }, interval(effect.estimate.relative_interval.lower, effect.estimate.relative_interval.upper, change))], `Effect on ${title} on ${name} queries, and the range that holds the true one.`, { class: "figure effect-cell" })
            : el("td", { class: "figure detail wrap" }, waiting(effect?.why_not)),
        ),
      ),
    ),
  );
}

function showOverTime(report) {
  const all = CLASSES.map((name) => seriesOf(report, name, chosen));
  const range = span(all);
  CLASSES.forEach((name, i) => {
    const points = all[i];
    const now = points.at(-1);
    chart(
      `chart-effect-${name}`,
      points.length > 0,
      now ? `Effect over time on ${name} queries; now ${change(now.relative)}, between ${change(now.lower)} and ${change(now.upper)}.` : "",
      () => overTime(points, range),
      "The curve appears with the first estimate for these queries.",
    );
  });
}

function chart(id, known, says, make, otherwise) {
  const target = box(id);
  const note = target.nextElementSibling?.matches(".no-chart") ? target.nextElementSibling : null;
  target.hidden = !known;
  if (known) {
    note?.remove();
    draw(id, says, make);
    return;
  }
  erase(id);
  if (!note && otherwise) target.after(el("p", { class: "empty no-chart" }, otherwise));
}

/** How often each arm was clicked between one look and the next. */
function showTraffic(report, arms) {
  for (const name of CLASSES) {
    const looks = (report.series[name] ?? []).filter((look) => arms.some((arm) => look.arms[arm]?.impressions));
    chart(
      `chart-ctr-${name}`,
      looks.length > 1,
      `CTR over time on ${name} queries, by arm.`,
      () => ({
        traces: arms.map((arm, i) => ({
          type: "scatter",
          mode: "lines",
          name: arm,
          x: looks.map((look) => new Date(look.at_ms)),
          y: looks.map((look) => (look.arms[arm]?.ctr ?? null) && 100 * look.arms[arm].ctr),
          customdata: looks.map((look) => [look.arms[arm]?.clicks, look.arms[arm]?.impressions]),
          line: { width: 2, color: i ? colours.treatment : colours.control },
          hovertemplate: `%{y:.2f} % (%{customdata[0]} of %{customdata[1]})<extra>${arm}</extra>`,
        })),
        layout: {
          hovermode: "x unified",
          xaxis: axis({ tickformat: "%H:%M\n%d %b", nticks: 4 }),
          yaxis: axis({ ticksuffix: " %", rangemode: "tozero" }),
        },
      }),
      "The curve appears after a few moments of traffic.",
    );
  }
}

const effectsOf = (report, name) => Object.fromEntries((report.classes[name] ?? []).map((effect) => [effect.metric, effect]));

function seriesOf(report, name, metric) {
  return (report.series[name] ?? []).flatMap(({ at_ms, effects }) => {
    const estimate = effects.find((effect) => effect.metric === metric)?.estimate;
    return estimate ? [{ at_ms, relative: estimate.relative, lower: estimate.relative_interval.lower, upper: estimate.relative_interval.upper }] : [];
  });
}
