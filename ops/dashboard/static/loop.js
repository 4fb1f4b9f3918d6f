// The loop's page: versions and what became of them, how long learning takes, what was sampled and why, its cost.

import { el, fill } from "./dom.js";
import { follow } from "./follow.js";
import { count, date, sentence, visible } from "./format.js";
import { showList } from "./list.js";
import { showCost, showFreshness, showTiles } from "./loop_figures.js";
import { partsTable } from "./parts.js";
import { showSampling, startSampled } from "./sampled.js";
import { startThemeButton } from "./theme_button.js";
import { startTips } from "./tips.js";
import { showKeptBack, showTimeline, showVersions } from "./versions.js";

const box = (id) => document.getElementById(id);
const EVERY_MS = 5_000;

function show(overview, atMs) {
  showAlerts(overview.alerts);
  showTiles(overview, atMs);
  fill(box("parts"), partsTable(overview.parts));
  showTimeline(overview.versions, atMs);
  showVersions(overview.versions);
  showKeptBack(overview.kept_back);
  showFreshness(overview.freshness);
  showSampling(overview);
  showCost(overview);
}

/** Guards that stopped publishing stand above everything. */
function showAlerts(alerts) {
  fill(
    box("alerts"),
    alerts.map(({ kind, since_ms, updates, judgements, alarms, why }) =>
      el(
        "div",
        { class: "problem critical alert" },
        el("p", { class: "big" }, `✕ Publishing of the ${visible(kind)} student is stopped`),
        el("ul", {}, alarms.length ? alarms.map((alarm) => el("li", {}, el("b", {}, `${visible(alarm.guard.replaceAll("_", " "))}: `), sentence(visible(alarm.why)))) : el("li", {}, sentence(visible(why)))),
        el("p", {}, `Since ${date(since_ms)}, ${count(updates)} ${updates === 1 ? "update" : "updates"} in a row. ${count(judgements)} judgements are set aside; the version that serves stays. Publishing goes on by itself with the first update on which no guard fires; `, el("code", {}, "relevance students accept"), " takes in what was set aside, if the change is wanted."),
      ),
    ),
  );
}

function route() {
  const [, view, given] = /^#(\w*)\??(.*)$/s.exec(location.hash) ?? [null, "", ""];
  if (view !== "" && view !== "list") return;
  showList(Object.fromEntries(new URLSearchParams(given)));
}

startTips();
startThemeButton();
startSampled();
addEventListener("hashchange", route);
route();
follow("/api/loop", EVERY_MS, show)();
