// The flow of events: what is stored, how fast, what waits, what could not be read, which parts are alive.

import { axis, colours, draw } from "./charts.js";
import { cell, el, empty, fill, heading, table, tile } from "./dom.js";
import { compact, count, date, duration, fixed, rate, time } from "./format.js";
import { partsTable } from "./parts.js";

const box = (id) => document.getElementById(id);

const SERIES = [
  ["impressions", "Impressions"],
  ["queries", "Queries"],
  ["clicks", "Clicks"],
  ["conversions", "Carts and purchases"],
  ["interactions", "Other events"],
  ["dead_letters", "Dead letters"],
];

export function showFlow(snapshot) {
  const store = snapshot.store.value;
  showTotals(store);
  showRates(store);
  showLag(snapshot.lag);
  showParts(snapshot);
  showDeadLetters(store);
}

function showTotals(store) {
  if (!store) return fill(box("totals"), empty("Waiting for the event store's first answer …"));
  const { totals, arrivals } = store;
  const last = (series) => mean(series.slice(-6));
  const all = Object.values(arrivals.per_s).reduce((sum, series) => sum + last(series), 0);
  fill(
    box("totals"),
    tile("Events per second", rate(all), "Rows stored per second, mean of the last minute, all kinds of events. Corrections of earlier rows count too."),
    tile("Time to store", duration(arrivals.delay_p50_s), `From the moment something was shown to its row in the store: half of the last minute's rows took less than this. 95 % took less than ${duration(arrivals.delay_p95_s)}.`),
    tile("Queries", compact(totals.queries), `${count(totals.queries)} searches stored, each once.`),
    tile("Impressions", compact(totals.impressions), `${count(totals.impressions)} items shown on result pages, each once.`),
    tile("Clicks", compact(totals.clicks), `${count(totals.clicks)} clicks stored, also those without a known impression.`),
    tile("Add to carts", compact(totals.add_to_carts), `${count(totals.add_to_carts)} items put into a cart.`),
    tile("Purchases", compact(totals.purchases), `${count(totals.purchases)} purchases stored, also those without a known impression.`),
    tile("Revenue", compact(totals.revenue), `${fixed(totals.revenue)} in the shop's currency, the sum over all purchases.`),
    tile("Dead letters", compact(totals.dead_letters), `${count(totals.dead_letters)} records that could not be read and were put aside with their reason.`),
    tile("Newest event", totals.last_event_ms ? time(totals.last_event_ms) : "none", totals.last_event_ms ? `The newest search or impression happened on ${date(totals.last_event_ms)}.` : "No event is in the store yet."),
  );
}

const mean = (series) => series.reduce((sum, value) => sum + value, 0) / (series.length || 1);

let drawnRates = "";

function showRates(store) {
  if (!store) return;
  const { at_ms, per_s } = store.arrivals;
  const state = JSON.stringify([at_ms.at(-1), per_s.impressions.at(-1)]);
  if (state === drawnRates) return;
  drawnRates = state;
  const shown = SERIES.filter(([name]) => per_s[name].some((value) => value > 0));
  const names = shown.length ? shown : SERIES.slice(0, 1);
  draw("chart-rates", `Events stored per second over the last ten minutes: ${names.map(([name, label]) => `${label} ${rate(mean(per_s[name].slice(-6)))}`).join(", ")}.`, () => ({
    traces: names.map(([name, label]) => {
      const colour = colours.series(SERIES.findIndex(([other]) => other === name) + 1);
      return {
        type: "scatter",
        mode: "lines",
        name: label,
        x: at_ms.map((ms) => new Date(ms)),
        y: per_s[name],
        line: { width: 2, color: colour },
        hovertemplate: `%{y:.1f} per second<extra>${label}</extra>`,
      };
    }),
    layout: { hovermode: "x unified", yaxis: axis({ rangemode: "tozero" }), xaxis: axis({ tickformat: "%H:%M" }) },
  }));
}

let drawnLag = "";

function showLag(groups) {
  fill(
    box("lag"),
    el(
      "div",
      { class: "tiles" },
      groups.map((group) =>
        tile(
          `${group.name} is behind by`,
          group.records === null ? "unknown" : count(group.records),
          group.records === null
            ? `Not known: ${group.error}.`
            : `Records of ${group.topics.join(" and ")} that consumer group ${group.group} has not finished yet. Near zero means the numbers are current.`,
        ),
      ),
    ),
  );
  const state = JSON.stringify(groups.map((group) => group.history.at(-1)));
  if (state === drawnLag || !groups.some((group) => group.history.length > 1)) return;
  drawnLag = state;
  draw("chart-lag", "Records waiting over the last ten minutes.", () => ({
    traces: groups.map((group, i) => ({
      type: "scatter",
      mode: "lines",
      name: group.name,
      x: group.history.map(([ms]) => new Date(ms)),
      y: group.history.map(([, records]) => records),
      line: { width: 2, color: colours.series(i + 1) },
      hovertemplate: `%{y:,} records<extra>${group.name}</extra>`,
    })),
    layout: { hovermode: "x unified", yaxis: axis({ rangemode: "tozero" }), xaxis: axis({ tickformat: "%H:%M" }) },
  }));
}

function showParts({ parts }) {
  fill(box("parts"), partsTable(parts));
}

function showDeadLetters(store) {
  if (!store) return;
  if (!store.dead_letters.length) return fill(box("dead-letters"), empty("None: every record so far could be read."));
  const rows = store.dead_letters.map((letter) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, el("button", { class: "link", type: "button", "data-reason": letter.reason }, letter.reason)),
      cell(count(letter.total), "All dead letters with this reason."),
      cell(count(letter.recent), "Dead letters with this reason that were stored in the last ten minutes."),
      cell(time(letter.last_ms), `The newest was stored on ${date(letter.last_ms)}.`),
    ),
  );
  fill(
    box("dead-letters"),
    table(
      "Dead letters by reason",
      [
        heading("Reason"),
        heading("All", "All dead letters with this reason.", { class: "figure" }),
        heading("Last 10 min", "Those stored in the last ten minutes.", { class: "figure" }),
        heading("Newest", "When the newest was stored.", { class: "figure" }),
      ],
      rows,
    ),
  );
}

/** Shows the newest dead letters of one reason below the table, when asked for. */
export function startDeadLetters(ask) {
  let asked = 0;
  box("dead-letters").addEventListener("click", async (event) => {
    const reason = event.target.closest("[data-reason]")?.dataset.reason;
    if (reason === undefined) return;
    const mine = ++asked;
    const target = box("dead-letter-list");
    fill(target, empty("Loading …"));
    try {
      const { dead_letters } = await ask("/api/dead-letters", { reason, limit: 20 });
      if (mine !== asked) return;
      const rows = dead_letters.map((letter) =>
        el(
          "tr",
          {},
          el("td", {}, date(letter.at_ms)),
          el("td", {}, `${letter.source_topic} ${letter.source_partition}:${letter.source_offset}`),
          el("td", { class: "detail" }, letter.detail),
          cell(count(letter.payload_bytes), "Size of the record in bytes."),
          el("td", { class: "detail" }, el("code", {}, letter.preview)),
        ),
      );
      fill(
        target,
        el("h4", {}, `Newest with reason ${reason}`),
        table(
          `Newest dead letters with reason ${reason}`,
          [
            heading("Stored"),
            heading("Where", "Topic, partition and offset of the record."),
            heading("What was wrong"),
            heading("Bytes", "Size of the record.", { class: "figure" }),
            heading("Start of the record"),
          ],
          rows,
        ),
      );
    } catch (error) {
      if (mine === asked) fill(target, el("p", { class: "problem critical" }, error.message));
    }
  });
}
