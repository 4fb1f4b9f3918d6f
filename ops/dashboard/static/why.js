// The page of a pair: pairs by words, or one pair and why it has its score. Which of them is in the address.

import { whyAddress } from "./addresses.js";
import { cell, el, empty, heading, table } from "./dom.js";
import { count, date, fixed, visible } from "./format.js";
import { showList, startList } from "./list.js";
import { leavePair, showPair } from "./pair.js";
import { startThemeButton } from "./theme_button.js";
import { startTips } from "./tips.js";

const box = (id) => document.getElementById(id);
const TIPS = {
  score: "The relevance score that the teacher gave, from 0 to 1.",
  impressions: "How often the item was shown for the query.",
  clicks: "Impressions that were clicked, each at most once.",
};

function pairsTable(rows) {
  return table(
    "Pairs",
    [
      heading("Query", "What the shopper asked for."),
      heading("Item", "The first line of the item's text where it is known, and its id in the shop."),
      heading("Known", "Judged by the teacher, sampled for it, or only shown to shoppers."),
      heading("Score", TIPS.score, { class: "figure" }),
      heading("Impressions", TIPS.impressions, { class: "figure" }),
      heading("Clicks", TIPS.clicks, { class: "figure" }),
      heading("Newest", "When it was last judged, sampled or shown."),
    ],
    rows.map((row) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", class: "text" }, el("a", { href: whyAddress(row.query, row.item_id) }, visible(row.query) || "(no words)")),
        el("td", { class: "text" }, row.title ? [visible(row.title), el("span", { class: "under" }, visible(row.item_id))] : visible(row.item_id)),
        el("td", { class: "plain" }, row.judged ? [el("span", { class: "state ok" }, "judged"), " ", el("span", { class: "grade" }, visible(row.grade))] : el("span", { class: "state" }, row.sampled ? "sampled" : "shown")),
        cell(fixed(row.relevance_score), TIPS.score),
        cell(count(row.impressions), TIPS.impressions),
        cell(count(row.clicks), TIPS.clicks),
        el("td", { class: "detail" }, date(row.last_ms)),
      ),
    ),
  );
}

function route() {
  const [, view, given] = /^#(\w*)\??(.*)$/s.exec(location.hash) ?? [null, "", ""];
  if (view !== "" && view !== "list" && view !== "pair") return;
  const one = view === "pair";
  const place = Object.fromEntries(new URLSearchParams(given));
  box("one").hidden = !one;
  box("all").hidden = one;
  if (one) {
    showPair(place.query ?? "", place.item ?? "");
    scrollTo(0, 0);
    return;
  }
  leavePair();
  box("back").href = location.hash || "#list";
  showList(place);
}

startTips();
startThemeButton();
startList({
  path: "/api/pairs",
  rows: "pairs",
  filters: ["q"],
  table: pairsTable,
  found: (n) => `${count(n)} pairs. Choose a query to see why its item has its score.`,
  nothing: ({ filtered }) => empty(filtered ? "No pair has all of these words." : "Nothing was sampled or judged yet. Search by words for pairs that were only shown."),
});
addEventListener("hashchange", route);
route();
