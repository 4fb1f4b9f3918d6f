// The loop in figures: its tiles, how long learning takes, what the teacher costs.

import { axis, colours, draw } from "./charts.js";
import { cell, el, empty, facts, fill, heading, number, table, tile } from "./dom.js";
import { compact, count, date, duration, percent } from "./format.js";

const box = (id) => document.getElementById(id);
const sum = (values) => values.reduce((all, value) => all + value, 0);
const share = (part, whole) => (whole ? part / whole : null);

const scoring = (versions, arm) => versions.filter((each) => each.arm === arm || each.arm === "both").map((each) => each.name).join(", ");

export function showTiles({ versions, updates, freshness, groups, cost, tokens_per_hour }) {
  const waiting = sum(groups.map((group) => group.waiting));
  const control = scoring(versions, "control");
  const treatment = scoring(versions, "treatment");
  fill(
    box("figures"),
    tile("Treatment", treatment || "none", "The version that scores the treatment's shoppers now.", "wide"),
    tile("Control", control || "none", "The version that scores the control's shoppers now.", "wide"),
    tile("Versions", count(versions.length), "Versions that were published, refused or exported."),
    tile("Updates", count(sum(Object.values(updates))), `${count(updates.passed)} passed the gate, ${count(updates.kept)} were kept back by it, ${count(updates.doubted)} waited because a guard was in doubt, ${count(updates.halted)} were halted by a guard.`),
    tile("Event to served", duration(freshness.p50_s), `Half of the learned pairs took less than this from the event to the first version that learned from it and scores an arm; 95 % took less than ${duration(freshness.p95_s)}.`),
    tile("Sampled", compact(sum(groups.map((group) => group.pairs))), `${count(sum(groups.map((group) => group.pairs)))} pairs were sent to the teacher.`),
    tile("Waiting", count(waiting), "Sampled pairs that have no answer yet and whose deadline is ahead."),
    tile("Judged, last hour", compact(cost.hour_judgements), `${count(cost.hour_judgements)} judgements in the last hour, ${count(cost.hour_refusals)} answers refused.`),
    tile("Budget used", percent(share(cost.hour_tokens, tokens_per_hour), 0), `${count(cost.hour_tokens)} tokens in the last hour of ${count(tokens_per_hour)} that the sampler may spend. Judgements that others asked for count too.`),
  );
}

const STAGES = {
  sampled: ["Event to sampled", "From the pair's newest impression to its choice by the sampler. History that was loaded counts from its arrival."],
  judged: ["Sampled to judged", "Waiting for the teacher, and its answer."],
  trained: ["Judged to trained", "Waiting for enough judgements, and the update."],
  served: ["Trained to served", "Gate, publishing, promotion to an arm."],
};

let drawnStages = "";

export function showFreshness(freshness) {
  const stages = freshness.stages.filter((stage) => STAGES[stage.name]);
  fill(
    box("stages"),
    table(
      "Time of each stage",
      [
        heading("Stage"),
        heading("Half within", "Half of the pairs took less than this.", { class: "figure" }),
        heading("95 % within", "95 % of the pairs took less than this.", { class: "figure" }),
        heading("Share", "Of the time from event to served.", { class: "figure" }),
        heading("Pairs", "Pairs whose time in this stage is known.", { class: "figure" }),
      ],
      [
        ...stages.map((stage) => row(...STAGES[stage.name], stage, percent(stage.share, 0))),
        row("Event to served", "The whole way.", { ...freshness, pairs: freshness.whole, ahead: 0 }, "", "whole"),
      ],
    ),
  );
  const ahead = stages.filter((stage) => stage.ahead);
  fill(
    box("fresh-note"),
    freshness.pairs ? `${count(freshness.pairs)} judged pairs were learned, ${count(freshness.served)} of them by a version that scores or scored an arm. ` : "",
    ahead.map((stage) => number(`${STAGES[stage.name][0]}: not known for ${count(stage.ahead)} pairs, the clocks differ. `, `They came before the point before, by ${duration(stage.ahead_s)} at most: the shop's clock and this one's differ. They are left out.`)),
  );
  const state = JSON.stringify(stages);
  if (state === drawnStages) return;
  drawnStages = state;
  const known = stages.filter((stage) => stage.share !== null);
  const says = known.map((stage) => `${STAGES[stage.name][0]} ${percent(stage.share, 0)}`).join(", ");
  draw("chart-stages", says ? `Share of each stage: ${says}.` : "No pair has come all the way yet.", () => ({
    traces: known.map((stage, n) => ({
      type: "bar",
      orientation: "h",
      name: STAGES[stage.name][0],
      y: [""],
      x: [stage.share],
      marker: { color: colours.series([5, 2, 1, 3][n % 4]) },
      text: [stage.share >= 0.08 ? percent(stage.share, 0) : ""],
      textposition: "inside",
      insidetextanchor: "middle",
      insidetextfont: { color: colours.card },
      textangle: 0,
      hovertemplate: `${STAGES[stage.name][0]}: %{x:.1%}<extra></extra>`,
    })),
    layout: { barmode: "stack", xaxis: axis({ range: [0, 1], tickformat: ".0%" }), yaxis: axis({ showticklabels: false }), showlegend: true, legend: { orientation: "h", traceorder: "normal", x: 0, y: 1.05, yanchor: "bottom", font: { size: 11, color: colours.quiet } } },
  }));
}

function row(name, tip, figures, part, look = null) {
  return el(
    "tr",
    { class: look },
    el("th", { scope: "row", "data-tip": tip }, name),
    cell(duration(figures.p50_s), `${tip} Half of the pairs took less.`),
    cell(duration(figures.p95_s), `${tip} 95 % of the pairs took less.`),
    cell(part, "Of the time from event to served."),
    cell(count(figures.pairs), "Pairs whose time in this stage is known."),
  );
}

let drawnCost = "";

export function showCost({ cost, cost_over_time: over, usd_total, tokens_per_hour }) {
  const all = cost.prompt_tokens + cost.completion_tokens;
  fill(
    box("cost"),
    cost.judgements
      ? facts([
          ["Judgements", number(count(cost.judgements), `The newest was given on ${date(cost.last_ms)}.`)],
          ["Tokens", number(compact(all), `${count(cost.prompt_tokens)} of prompts, ${count(cost.completion_tokens)} of answers.`)],
          ["From the cache", number(percent(share(cost.cached_tokens, cost.prompt_tokens), 1), `${count(cost.cached_tokens)} of the prompts' tokens stood in the server's prefix cache.`)],
          ["A judgement", number(`${count(all / cost.judgements)} tokens`, "Prompt and answer, mean of all judgements.")],
          ["Price in all", number(usd_total === null ? "no price is set" : `$${usd_total.toFixed(2)}`, usd_total === null ? "Set teacher.usd_per_million_prompt_tokens and usd_per_million_completion_tokens to see it." : "By the prices in the settings.")],
          ["Refused", number(`${count(cost.refusals)} answers`, "Answers that were no judgement.")],
          ["Last hour", number(`${compact(cost.hour_tokens)} tokens`, `${count(cost.hour_tokens)} of ${count(tokens_per_hour)} that the sampler may spend in an hour.`)],
        ])
      : empty("Nothing was judged yet. `relevance up` with a teacher judges what is sampled."),
  );
  const state = JSON.stringify(over);
  if (state === drawnCost) return;
  drawnCost = state;
  draw("chart-cost", `Tokens over time, ${compact(sum(over.buckets.map(([, , tokens]) => tokens)))} in the time shown.`, () => ({
    traces: [
      {
        type: "bar",
        x: over.buckets.map(([ms]) => new Date(ms + over.bucket_ms / 2)),
        y: over.buckets.map(([, , tokens]) => tokens),
        customdata: over.buckets.map(([, n]) => n),
        width: over.bucket_ms * 0.9,
        marker: { color: colours.series(2) },
        hovertemplate: "%{y:,} tokens, %{customdata:,} judgements<extra></extra>",
      },
    ],
    layout: { xaxis: axis({ type: "date" }), yaxis: axis({ rangemode: "tozero", tickformat: "~s" }), showlegend: false },
  }));
}
