// Whether the comparison can be trusted: guardrails, and the split of shoppers between the arms.

import { cell, el, empty, fill, heading, number, table } from "./dom.js";
import { change, count, fixed, percent, sentence } from "./format.js";

const box = (id) => document.getElementById(id);

const GUARDRAILS = {
  ctr_change: ["CTR against control", "The treatment's CTR relative to control; it must not surely fall below the limit.", change],
  latency_p99_ms: ["Slowest answers (p99)", "99 % of the treatment's answers were faster than this; no more than 1 % may surely be slower than the limit.", (value) => (value === null ? "–" : `${fixed(value, 0)} ms`)],
  fallback_share: ["Answers without the model", "Share of the treatment's queries that were ranked without its model; it must not surely exceed the limit.", percent],
  sample_ratio_p_value: ["Split of shoppers", "How well chance explains the split of shoppers between the arms (a p-value). Below the limit it does not: then the comparison is broken.", (value) => fixed(value, 3)],
};

export function showGuardrails(report) {
  fill(
    box("guardrails"),
    table(
      "Guardrails",
      [
        heading("Guardrail"),
        heading("State", "Breached only where chance is ruled out, however often one looks."),
        heading("Now", "What is measured now.", { class: "figure" }),
        heading("Limit", "What it is held against.", { class: "figure" }),
      ],
      report.guardrails.flatMap(({ name, value, limit, breached, why }) => {
        const [label, tip, write] = GUARDRAILS[name];
        const row = el(
          "tr",
          { class: "explained-below" },
          el("th", { scope: "row" }, label),
          el("td", {}, el("span", { class: `state ${breached ? "critical" : value === null ? "" : "ok"}` }, breached ? "breached" : value === null ? "waiting" : "kept")),
          cell(write(value), tip),
          cell(write(limit), `Limit. ${tip}`),
        );
        return [row, el("tr", {}, el("td", { class: "detail", colspan: "4" }, sentence(why)))];
      }),
    ),
  );
}

export function showArms(report) {
  const ratio = report.sample_ratio;
  if (!report.arms.length) return fill(box("sample-ratio"), empty("No shopper has been assigned to an arm yet."));
  const all = report.arms.reduce((sum, arm) => sum + arm.shoppers, 0);
  const meant = ratio ? { control: 1 - ratio.expected_treatment_share, treatment: ratio.expected_treatment_share } : {};
  const columns = [
    ["Shoppers", "Shoppers who were in this arm alone.", (arm) => count(arm.shoppers)],
    ["Share", "This arm's share of all shoppers.", (arm) => percent(arm.shoppers / all, 1)],
    ["Planned", "The share that was planned for this arm.", (arm) => percent(meant[arm.role] ?? null, 1)],
    ["Impressions", "Items shown to them.", (arm) => count(arm.impressions)],
    ["Clicks", "Impressions that they clicked, each at most once.", (arm) => count(arm.clicked_impressions)],
    ["Purchases", "Purchases that followed from an impression.", (arm) => count(arm.purchases)],
  ];
  const broken = report.guardrails.find(({ name }) => name === "sample_ratio_p_value")?.breached;
  fill(
    box("sample-ratio"),
    el("p", {}, el("span", { class: `state ${broken ? "critical" : ratio ? "ok" : ""}` }, broken ? "broken" : ratio ? "as planned" : "nothing to check"), " ", ratio ? number(`p = ${fixed(ratio.p_value, 3)}`, GUARDRAILS.sample_ratio_p_value[1]) : ""),
    table(
      "The arms in numbers",
      [heading("Arm"), ...columns.map(([text, tip]) => heading(text, tip, { class: "figure" }))],
      report.arms.map((arm) =>
        el("tr", {}, el("th", { scope: "row", class: "plain" }, el("span", { class: `dot ${arm.role}`, "aria-hidden": "true" }), ` ${arm.name}`), columns.map(([, tip, write]) => cell(write(arm), tip))),
      ),
    ),
    report.in_several_arms
      ? el("p", { class: "note" }, number(count(report.in_several_arms), "Shoppers who were seen in more than one arm. They are left out of every figure."), " shoppers were seen in several arms and are left out.")
      : null,
  );
}
