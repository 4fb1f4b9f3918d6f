// The drill-down: an arm's queries, a query's items, a pair's events. The place is in the address, so Back works.

import { whyAddress } from "./addresses.js";
import { cell, el, empty, fill, heading, table } from "./dom.js";
import { count, date, duration, fixed, percent, time } from "./format.js";

const box = (id) => document.getElementById(id);
const form = () => box("filters");

const COLUMNS = [
  ["query", "Query", "What the shopper typed, in lower case and tidied."],
  [null, "Class", "Head: among the most frequent queries. Tail: rare. Torso: between them. Unknown: the search itself was not seen."],
  ["impressions", "Impressions", "How many items were shown for this query."],
  ["clicks", "Clicks", "Impressions that were clicked, each at most once, within the click window."],
  ["ctr", "CTR", "Click-through rate: clicks divided by impressions."],
  ["purchases", "Purchases", "Purchases that followed from an impression of this query."],
  ["revenue", "Revenue", "What those purchases brought in, in the shop's currency."],
];

const TIPS = Object.fromEntries(COLUMNS.map(([name, , tip]) => [name, tip]));

let place = {};
let level = "queries";
let asked = 0;
let ask = null;

/** `fetcher(path, parameters)` answers with JSON or throws an Error with a sentence. */
export function startExplore(fetcher) {
  ask = fetcher;
  addEventListener("hashchange", read);
  form().addEventListener("change", apply);
  form().addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  let typing;
  form().elements.q.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(apply, 300); });
  box("again").addEventListener("click", load);
  box("explore-table").addEventListener("click", (event) => {
    const { sort, query, item } = event.target.closest("[data-sort], [data-query], [data-item]")?.dataset ?? {};
    if (sort) go({ ...place, sort, order: place.sort === sort && place.order === "desc" ? "asc" : "desc" });
    else if (query !== undefined) go({ ...place, query });
    else if (item !== undefined) go({ ...place, item });
  });
  read();
}

/** Fills the choice of arms once they are known. */
export function nameArms(arms) {
  const select = form().elements.arm;
  if (select.options.length) return;
  for (const [value, text] of [["", "all traffic"], ...arms.map((arm) => [arm, arm])]) {
    select.append(el("option", { value }, text));
  }
  select.value = place.arm ?? "";
}

function read() {
  const given = new URLSearchParams(location.hash.startsWith("#look") ? location.hash.slice(6) : "");
  place = { sort: "impressions", order: "desc", ...Object.fromEntries(given) };
  const { arm, q, class: traffic, limit } = form().elements;
  arm.value = place.arm ?? "";
  q.value = place.q ?? "";
  traffic.value = place.class ?? "";
  limit.value = place.limit ?? "25";
  load();
}

function go(next) {
  const given = Object.entries(next).filter(([name, value]) => value !== "" || name === "query" || name === "item");
  location.hash = `look?${new URLSearchParams(given)}`;
}

function apply() {
  const { arm, q, class: traffic, limit } = form().elements;
  go({ ...place, arm: arm.value, q: q.value, class: traffic.value, limit: limit.value });
}

async function load() {
  const mine = ++asked;
  const { arm = "", query, item } = place;
  const before = level;
  level = query === undefined ? "queries" : item === undefined ? "pairs" : "events";
  showCrumbs();
  for (const label of document.querySelectorAll(".for-queries")) label.hidden = level !== "queries";
  say("Loading …");
  try {
    let shown;
    if (level === "queries") {
      const { q = "", class: traffic = "", sort, order, limit = "25" } = place;
      const { queries } = await ask("/api/queries", { arm, q, class: traffic, sort, order, limit });
      shown = [queriesTable(queries), queries.length ? `${count(queries.length)} queries shown${queries.length === Number(limit) ? ", there may be more" : ""}. Choose one to see its items.` : ""];
    } else if (level === "pairs") {
      const { pairs } = await ask("/api/query", { arm, query, limit: 200 });
      shown = [pairsTable(pairs), pairs.length ? `${count(pairs.length)} items were shown for this query. Choose one to see its events.` : ""];
    } else {
      const { events } = await ask("/api/pair", { arm, query, item, limit: 500 });
      shown = [eventsTable(events), events.length ? `The newest ${count(events.length)} events of this query and item, newest first.` : ""];
    }
    if (mine !== asked) return;
    fill(box("explore-table"), ...(item && query ? [why(query, item)] : []), shown[0]);
    say(shown[1]);
    if (level !== before) box("explore").scrollIntoView();
  } catch (error) {
    if (mine !== asked) return;
    fill(box("explore-table"));
    say(error.message);
  }
}

function say(text) {
  if (box("explore-note").textContent !== text) box("explore-note").textContent = text;
}

const why = (query, item) => el("p", {}, el("a", { href: whyAddress(query, item) }, "Why this score ›"));

const named = (query) => (query === "" ? "(search not seen)" : query);

function showCrumbs() {
  const { query, item, ...queries } = place;
  const step = (text, target) => el("li", {}, target ? el("a", { href: `#look?${new URLSearchParams(target)}` }, text) : el("span", { "aria-current": "page" }, text));
  const arm = place.arm ? `Queries of ${place.arm}` : "Queries of all traffic";
  fill(
    box("crumbs"),
    step(arm, level === "queries" ? null : queries),
    level === "queries" ? null : step(named(query), level === "pairs" ? null : { ...queries, query }),
    level === "events" ? step(item, null) : null,
  );
}

function queriesTable(rows) {
  if (!rows.length) return empty(place.q || place.class || place.arm ? "No query fits this choice so far." : "No search has been stored yet. Queries appear here as soon as the shop sends events.");
  const headings = COLUMNS.map(([name, text, tip]) => {
    const sorted = name !== null && place.sort === name;
    const look = { scope: "col", class: name && name !== "query" ? "figure" : null, "aria-sort": sorted ? (place.order === "asc" ? "ascending" : "descending") : null };
    if (name === null) return heading(text, tip, look);
    return el("th", look, el("button", { type: "button", class: "sort", "data-sort": name, "data-tip": tip }, text, el("span", { "aria-hidden": "true", class: "arrow" }, sorted ? (place.order === "asc" ? "▲" : "▼") : "")));
  });
  return table("Queries", headings, rows.map((row) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", class: "text" }, el("button", { class: "link", type: "button", "data-query": row.query }, named(row.query))),
      el("td", {}, el("span", { class: `class ${row.traffic_class}` }, row.traffic_class)),
      cell(count(row.impressions), TIPS.impressions),
      cell(count(row.clicks), TIPS.clicks),
      cell(percent(row.ctr), TIPS.ctr),
      cell(count(row.purchases), TIPS.purchases),
      cell(fixed(row.revenue), TIPS.revenue),
    ),
  ));
}

const PAIR_COLUMNS = [
  ["Impressions", "How often this item was shown for this query.", (row) => count(row.impressions)],
  ["Clicks", "Impressions that were clicked, each at most once.", (row) => count(row.clicks)],
  ["CTR", "Clicks divided by impressions.", (row) => percent(row.ctr)],
  ["COEC", "Clicks over expected clicks: how often it was clicked compared with what is usual at the positions where it was shown. 1 is usual, 2 is twice as often.", (row) => fixed(row.coec)],
  ["Expected clicks", "The clicks that impressions at the same positions get on average, over all traffic.", (row) => fixed(row.expected_clicks, 1)],
  ["Position", "Mean position on the result page; 1 is the top.", (row) => (row.position ? fixed(row.position, 1) : "–")],
  ["Score", "Mean relevance score, from 0 to 1, that ranked the item.", (row) => fixed(row.score)],
  ["Purchases", "Purchases that followed from an impression of this pair.", (row) => count(row.purchases)],
  ["Revenue", "What those purchases brought in, in the shop's currency.", (row) => fixed(row.revenue)],
];

function pairsTable(rows) {
  if (!rows.length) return empty("No item was shown for this query in this arm.");
  return table(
    "Items shown for the query",
    [heading("Item", "The item's id in the shop."), ...PAIR_COLUMNS.map(([text, tip]) => heading(text, tip, { class: "figure" }))],
    rows.map((row) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", class: "text" }, el("button", { class: "link", type: "button", "data-item": row.item_id }, row.item_id)),
        PAIR_COLUMNS.map(([, tip, write]) => cell(write(row), tip)),
      ),
    ),
  );
}

const ATTRIBUTIONS = {
  "": "",
  impression: "counted",
  too_late: "too late to count",
  no_impression: "impression not seen",
};

const EVENT_TIPS = {
  after: "Time from the impression to this event.",
  position: "Position on the result page; 1 is the top.",
  revenue: "What the purchase brought in, in the shop's currency.",
  score: "Relevance score, from 0 to 1, that ranked the item.",
};

function eventsTable(rows) {
  if (!rows.length) return empty("No event of this query and item in this arm.");
  return table(
    "Events of the query and item",
    [
      heading("Time", "When it happened, your local time."),
      heading("Event"),
      heading("Arm", "The experiment's arm that the shopper was in."),
      heading("Counts as", "Whether a click or purchase could be joined to an impression within its window."),
      heading("After", EVENT_TIPS.after, { class: "figure" }),
      heading("Position", EVENT_TIPS.position, { class: "figure" }),
      heading("Score", EVENT_TIPS.score, { class: "figure" }),
      heading("Revenue", EVENT_TIPS.revenue, { class: "figure" }),
      heading("Shopper", "The shopper's id as the shop sent it."),
      heading("Version", "The student version whose score ranked the page."),
    ],
    rows.map((row) =>
      el(
        "tr",
        { class: `event ${row.kind}` },
        el("td", { "data-tip": date(row.at_ms) }, time(row.at_ms)),
        el("td", {}, el("span", { class: `state ${row.kind === "purchase" ? "ok" : "quiet"}` }, row.kind.replaceAll("_", " "))),
        el("td", {}, row.arm || "–"),
        el("td", {}, ATTRIBUTIONS[row.attribution] ?? row.attribution),
        cell(row.delay_ms === null ? "" : duration(row.delay_ms / 1000), EVENT_TIPS.after),
        cell(row.position || "–", EVENT_TIPS.position),
        cell(row.score === null ? "" : fixed(row.score), EVENT_TIPS.score),
        cell(row.revenue === null ? "" : fixed(row.revenue), EVENT_TIPS.revenue),
        el("td", { class: "detail" }, row.client_id),
        el("td", { class: "detail" }, row.student_version),
      ),
    ),
  );
}
