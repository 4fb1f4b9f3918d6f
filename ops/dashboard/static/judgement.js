// One judgement beside its pair: the texts with their evidence highlighted, the chain, the grades, what it cost.

import { eventsAddress, whyAddress } from "./addresses.js";
import { ask } from "./ask.js";
import { el, facts, fill, heading, number, table } from "./dom.js";
import { count, date, duration, fixed, percent, times, visible } from "./format.js";

const box = (id) => document.getElementById(id);
const VERDICTS = { match: ["✓", "match"], mismatch: ["✗", "mismatch"], unstated: ["?", "unstated"] };
/** Where evidence overlaps, the first of these is what is shown. */
const KINDS = ["mismatch", "match", "unstated"];

let asked = 0;

/** Asks for the judgement of this identity and shows it, or why it can't be shown. */
export async function showJudgement(identity) {
  const mine = ++asked;
  fill(box("judgement"));
  say("Loading …");
  try {
    const found = await ask("/api/judgement", identity);
    if (mine !== asked) return;
    const { query, item_id } = found.judgement;
    fill(box("judgement"), ...judgementParts(found), el("p", {}, el("a", { href: whyAddress(query, item_id) }, "Why this score: what the student makes of this pair, and what shoppers did ›")));
    say("");
  } catch (error) {
    if (mine === asked) say(error.message);
  }
}

function say(text) {
  box("one-note").textContent = text;
}

/** What there is to read of a judgement, as `/api/judgement` gives it. */
export function judgementParts(found) {
  const { judgement } = found;
  return [
    el(
      "div",
      { class: "one-head" },
      el("h2", {}, "Judgement ", el("span", { class: "grade" }, visible(judgement.grade))),
      number(`score ${fixed(judgement.relevance_score, 3)}`, "The relevance score, from 0 to 1: the expectation of the grades' gains."),
      el("span", { class: "note" }, `${visible(judgement.teacher_id)}, ${date(judgement.at_ms)}`),
    ),
    el(
      "div",
      { class: "beside" },
      el("section", { class: "card", "aria-label": "Query" }, el("h3", {}, "Query"), text(found.query_pieces, found.verdicts)),
      el("section", { class: "card", "aria-label": "Item" }, el("h3", {}, "Item"), text(found.item_pieces, found.verdicts, "title")),
    ),
    el(
      "div",
      { class: "card" },
      el("h3", {}, "What the chain of thought found"),
      el("p", { class: "legend" }, Object.entries(VERDICTS).map(([kind, [sign, word]]) => el("span", {}, el("span", { class: `tag ${kind}` }, sign), word))),
      verdicts(found),
    ),
    el(
      "div",
      { class: "two" },
      el("div", { class: "card" }, el("h3", {}, "Grades"), el("p", { class: "note" }, "The probability of each grade, from its token."), bars(judgement)),
      el("div", { class: "card" }, el("h3", {}, "The chain as it was written"), el("pre", { class: "chain", tabindex: "0" }, visible(judgement.chain_of_thought) || "(none: the teacher gave the grade alone)")),
    ),
    el(
      "div",
      { class: "three" },
      el("div", { class: "card" }, el("h3", {}, "Identity"), facts(identity(judgement))),
      el("div", { class: "card" }, el("h3", {}, "Cost"), facts(cost(found))),
      el("div", { class: "card" }, el("h3", {}, "Traffic"), traffic(found)),
    ),
  ];
}

const kindOf = (verdict) => (Object.hasOwn(VERDICTS, verdict.verdict) ? verdict.verdict : "unstated");

/** A text with its evidence marked, each with its label where it ends. */
export function text(pieces, found, look = "") {
  const content = pieces.map((piece) => {
    if (!piece.inside.length) return visible(piece.text);
    const kind = KINDS.find((name) => piece.inside.some((n) => kindOf(found[n]) === name));
    const tip = piece.inside.map((n) => `${visible(found[n].subtask)}: ${kindOf(found[n])}`).join(", ");
    return [el("mark", { class: kind, "data-tip": tip }, visible(piece.text)), piece.ends.map((n) => tag(found[n]))];
  });
  return el("p", { class: `read ${look}`, dir: "auto" }, content.flat(2));
}

function tag(verdict) {
  const kind = kindOf(verdict);
  const [sign, word] = VERDICTS[kind];
  return el("span", { class: `tag ${kind}` }, el("span", { "aria-hidden": "true" }, `${sign} `), visible(verdict.subtask), el("span", { class: "for-readers" }, `: ${word}`));
}

function verdicts({ verdicts: found, unreadable, judgement }) {
  if (unreadable) return el("p", { class: "empty" }, "The verdicts are stored in a form that this page can't read. The chain below is what the teacher wrote.");
  if (!found.length) return el("p", { class: "empty" }, judgement.chain_of_thought ? "The chain names no subtask: the query asks for none of them." : "No chain was written: the teacher gave the grade alone.");
  const words = (quoted, isFound) =>
    el("td", { class: "words" }, quoted ? visible(quoted) : el("span", { class: "note" }, "none"), quoted && !isFound ? el("span", { class: "absent" }, "not in the text") : null);
  return table(
    "Verdicts by subtask",
    [
      heading("Subtask"),
      heading("Verdict", "Match: the item meets the wish. Mismatch: it contradicts it. Unstated: it does not say."),
      heading("Words of the query", "Quoted by the teacher from the query."),
      heading("Words of the item", "Quoted by the teacher from the item's text."),
    ],
    found.map((verdict) => {
      const [sign, word] = VERDICTS[kindOf(verdict)];
      const known = Object.hasOwn(VERDICTS, verdict.verdict);
      return el(
        "tr",
        {},
        el("th", { scope: "row" }, visible(verdict.subtask)),
        el("td", {}, el("span", { class: `verdict ${kindOf(verdict)}` }, known ? `${sign} ${word}` : visible(verdict.verdict))),
        words(verdict.query_words, verdict.query_found),
        words(verdict.item_words, verdict.item_found),
      );
    }),
  );
}

/** The probability of each grade; `grade` is the likeliest. */
export function bars({ grades, grade }) {
  const shares = Object.entries(grades).sort(([, a], [, b]) => b - a);
  return el(
    "dl",
    { class: "bars" },
    shares.map(([label, share]) =>
      el(
        "div",
        { class: label === grade ? "chosen" : null },
        el("dt", {}, el("span", { class: "grade" }, visible(label))),
        el("dd", {}, el("progress", { max: 1, value: Number.isFinite(share) ? share : 0, "aria-label": `Probability of ${visible(label)}` })),
        el("dd", { class: "figure", "data-tip": "Softmax over the grades' tokens alone; the shares sum to 1." }, percent(share, 1)),
      ),
    ),
  );
}

const identity = (judgement) => [
  ["Query", visible(judgement.query)],
  ["Item", visible(judgement.item_id)],
  ["Item text", el("code", {}, visible(judgement.content_hash))],
  ["Teacher", visible(judgement.teacher_id)],
  ["Prompt", el("code", {}, visible(judgement.prompt_hash))],
];

const cost = ({ judgement, usd }) => [
  ["Prompt", `${count(judgement.prompt_tokens)} tokens, ${count(judgement.cached_tokens)} of them from the cache`],
  ["Answer", `${count(judgement.completion_tokens)} tokens`],
  ["Time", duration(judgement.latency_ms / 1000)],
  ["Price", usd === null ? "no price is set" : `$${usd.toPrecision(2)}`],
  ["Quotations", `${count(judgement.quotes)}, ${count(judgement.unlocated)} of them not in the texts`],
];

function traffic({ traffic: shown, judgement }) {
  if (!shown.impressions) return el("p", { class: "empty" }, "This pair has not been shown to a shopper.");
  return facts([
    ["Shown", el("a", { href: eventsAddress(shown.normalised_query, judgement.item_id) }, times(shown.impressions))],
    ["Clicked", `${times(shown.clicks)}, CTR ${percent(shown.clicks / shown.impressions)}`],
    ["Position", shown.position ? `${fixed(shown.position, 1)} on average` : "not said"],
    ["Last shown", date(shown.last_ms)],
  ]);
}
