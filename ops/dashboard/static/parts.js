// Parts of the stack and whether they are alive.

import { cell, el, empty, heading, table } from "./dom.js";
import { count, duration } from "./format.js";

const SILENT_AFTER_S = 10;

/** A table of parts, or how to start them. */
export function partsTable(parts) {
  if (!parts.length) return empty("No part has given a sign of life here. Start them with `relevance up`.");
  const rows = parts.map((part) => {
    const silent = part.age_s > SILENT_AFTER_S;
    const [state, look] = silent
      ? [part.state === "stopping" ? "stopped" : "silent", part.state === "stopping" ? "quiet" : "critical"]
      : [part.state, part.state === "ready" ? "ok" : "warning"];
    const counters = Object.entries(part.counters).map(([name, value]) => `${name.replaceAll("_", " ")} ${count(value)}`);
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, part.name),
      el("td", {}, el("span", { class: `state ${look}` }, state)),
      cell(duration(part.age_s), "Time since this part's last sign of life; they come once a second."),
      el("td", { class: "detail", "data-tip": counters.length ? `Since its start: ${counters.join(", ")}.` : null }, part.detail),
    );
  });
  return table(
    "Parts of the stack",
    [heading("Part"), heading("State"), heading("Seen", "Time since the part's last sign of life.", { class: "figure" }), heading("Doing", "What the part says of itself. Hover a row for its counters since start.")],
    rows,
  );
}
