// The feature store's page: parity, freshness, lag, what the store holds, audits.

import { axis, colours, draw } from "./charts.js";
import { cell, el, empty, fill, heading, table, tile } from "./dom.js";
import { follow } from "./follow.js";
import { compact, count, date, duration, percent, time, visible } from "./format.js";
import { startThemeButton } from "./theme_button.js";
import { startTips } from "./tips.js";

const box = (id) => document.getElementById(id);
const EVERY_MS = 5_000;
const HISTORY = "history_";
const NEWEST = "newest_ms_";

function show({ part, shop, lag, reads, audits }, atMs) {
  showTiles(part, shop, lag, reads, audits, atMs);
  showReads(reads);
  showLag(lag);
  showViews(part, atMs);
  showAudits(audits);
}

const compared = (audit) => audit.equal + audit.different;
const apart = (audit) => Object.values(audit.not_comparable).reduce((sum, n) => sum + n, 0);

/** Parity is never rounded up to what it is not. */
function parity(audit) {
  if (!compared(audit)) return "–";
  return audit.different ? percent(Math.min(audit.equal / compared(audit), 0.9999)) : "100 %";
}

function showTiles(part, shop, lag, reads, audits, atMs) {
  const audit = audits.find(({ view }) => view === "pair_engagement");
  const counters = part?.counters ?? {};
  fill(
    box("figures"),
    tile("Parity", audit ? parity(audit) : "not audited", audit ? `${count(audit.equal)} of ${count(compared(audit))} logged reads equal history, by the audit of ${date(audit.at_ms)}.` : "`relevance features audit` compares what serving read with history."),
    tile("Pushes behind", lag?.records === null || !lag ? "unknown" : count(lag.records), "Records of engagement, catalogue and judgements that are not in the store yet."),
    tile("Counted to readable", counters.delay_ms === undefined ? "–" : duration(counters.delay_ms / 1000), "How long the oldest engagement window of the last push had been counted before it could be read."),
    tile("Newest engagement", counters[`${NEWEST}pair_engagement`] ? duration((atMs - counters[`${NEWEST}pair_engagement`]) / 1000) : "–", "How old the newest row of pair engagement is."),
    tile("Age when served", reads.age_p99_ms === null ? "–" : duration(reads.age_p99_ms / 1000), `99 % of the answers of the last hour were younger than this when they were served, half of them than ${reads.age_p50_ms === null ? "–" : duration(reads.age_p50_ms / 1000)}.`),
    tile("Without an answer", reads.reads ? percent(reads.unanswered / reads.reads) : "–", `${count(reads.unanswered)} of ${count(reads.reads)} pairs shown in the last hour were served without features because the online store did not answer.`),
    tile("With engagement", reads.reads ? percent(reads.known / reads.reads, 1) : "–", "Share of the pairs shown in the last hour that had engagement."),
    tile("Degraded searches", shop?.counters.feature_reads_degraded === undefined ? "–" : compact(shop.counters.feature_reads_degraded), "Searches since the shop's start in which the store did not answer for some item."),
    tile("Texts changed", counters.content_changes === undefined ? "–" : compact(counters.content_changes), `Items whose text changed since the part's start; ${count(counters.judged_again ?? 0)} judged pairs of changed items were sent to the teacher again.`),
    tile("Came late", counters.late === undefined ? "–" : compact(counters.late), "Rows since the part's start that were older than what was online: they are in the history alone."),
  );
}

function showReads({ minutes }) {
  const at = minutes.map(([ms]) => new Date(ms));
  draw("chart-reads", `Pairs read in each of ${minutes.length} minutes`, () => ({
    traces: [
      { type: "bar", name: "answered", x: at, y: minutes.map(([, all, none]) => all - none), marker: { color: colours.control } },
      { type: "bar", name: "without an answer", x: at, y: minutes.map(([, , none]) => none), marker: { color: colours.bad } },
    ],
    layout: { barmode: "stack", xaxis: axis({ type: "date" }), yaxis: axis({ rangemode: "tozero" }) },
  }));
}

function showLag(lag) {
  const history = lag?.history ?? [];
  draw("chart-lag", `Records behind, ${history.length} points`, () => ({
    traces: [{ type: "scatter", mode: "lines", x: history.map(([ms]) => new Date(ms)), y: history.map(([, records]) => records), line: { color: colours.control } }],
    layout: { xaxis: axis({ type: "date" }), yaxis: axis({ rangemode: "tozero" }), showlegend: false },
  }));
}

function showViews(part, atMs) {
  const counters = part?.counters ?? {};
  const views = Object.keys(counters).filter((name) => name.startsWith(HISTORY)).map((name) => name.slice(HISTORY.length)).sort();
  if (!views.length) return fill(box("views"), empty("The part features has said nothing yet."));
  fill(
    box("views"),
    table(
      "Rows by view",
      [heading("View"), heading("Rows", "Rows in the offline store.", { class: "figure" }), heading("Newest", "How old the newest row is that was pushed since the part's start.", { class: "figure" })],
      views.map((view) => {
        const newest = counters[`${NEWEST}${view}`];
        return el("tr", {}, el("th", { scope: "row", class: "text" }, el("code", {}, view)), cell(count(counters[`${HISTORY}${view}`]), "Rows in the offline store."), cell(newest ? `${duration((atMs - newest) / 1000)} old` : "–", "How old the newest row is."));
      }),
    ),
  );
}

const reason = (name) => name.replaceAll("_", " ");

function showAudits(audits) {
  if (!audits.length) {
    box("differences-card").hidden = true;
    return fill(box("audits"), empty("No audit yet."));
  }
  fill(
    box("audits"),
    table(
      "Audits, newest first",
      [
        heading("When"),
        heading("View", "What was compared: logged reads of pair engagement; of the other views what is online now; item vectors beside their version; query vectors as Triton makes them."),
        heading("Parity", "Equal reads among those compared.", { class: "figure" }),
        heading("Compared", "Reads that had one right answer.", { class: "figure" }),
        heading("Different", "Reads that training would see otherwise.", { class: "figure" }),
        heading("Not comparable", "Reads without a single right answer, by reason.", { class: "figure" }),
        heading("Searches", "Searches audited, and their share of those that were logged; of other views the share of the keys.", { class: "figure" }),
      ],
      audits.map((audit) =>
        el(
          "tr",
          {},
          el("th", { scope: "row", class: "text" }, date(audit.at_ms), el("span", { class: "under" }, `${time(audit.first_ms)} to ${time(audit.last_ms)}`)),
          el("td", { class: "text" }, el("code", {}, audit.view)),
          cell(parity(audit), "Equal reads among those compared."),
          cell(count(compared(audit)), "Reads that had one right answer."),
          cell(count(audit.different), "Reads that training would see otherwise."),
          el("td", { class: "figure" }, count(apart(audit)), el("span", { class: "under" }, Object.entries(audit.not_comparable).map(([name, n]) => `${reason(name)} ${count(n)}`).join(", "))),
          cell(`${audit.searches ? count(audit.searches) : "–"} (${percent(audit.share, 0)})`, "Searches audited, and their share of those that were logged; of other views the share of the keys."),
        ),
      ),
    ),
  );
  showDifferences(audits.find((audit) => audit.different));
}

function showDifferences(audit) {
  box("differences-card").hidden = !audit;
  if (!audit) return;
  let examples;
  try {
    examples = JSON.parse(audit.examples);
  } catch {
    return fill(box("differences"), empty("The examples are too long to be shown here; they are in feature_audits."));
  }
  const short = (value) => (Array.isArray(value) ? `${value.length} numbers` : (value ?? "–"));
  const row = (values) => (Array.isArray(values) ? short(values) : values ? Object.entries(values).map(([name, value]) => `${reason(name)} ${short(value)}`).join(", ") : "nothing");
  fill(
    box("differences"),
    table(
      "Reads that differ",
      [heading("Pair"), heading("Served"), heading("History")],
      examples.map(({ read, expected }) =>
        el("tr", {}, el("th", { scope: "row", class: "text" }, visible(read.query ?? read.key[0]), el("span", { class: "under" }, visible(read.item_id ?? read.key.slice(1).join(" ")))), el("td", { class: "words" }, row(read.served)), el("td", { class: "words" }, row(expected))),
      ),
    ),
  );
}

startTips();
startThemeButton();
follow("/api/features", EVERY_MS, show)();
