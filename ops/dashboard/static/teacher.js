// The teacher's page: figures at the top, the list of judgements, or one judgement beside its pair. Which of them
// is in the address, so Back works.

import { ask } from "./ask.js";
import { redraw } from "./charts.js";
import { time } from "./format.js";
import { nameChoices, showList, startList } from "./judgements.js";
import { showJudgement } from "./judgement.js";
import { showFigures } from "./teacher_figures.js";
import { startThemeButton } from "./theme_button.js";
import { startTips } from "./tips.js";

const box = (id) => document.getElementById(id);
const FIGURES_EVERY_MS = 10_000;

let asking = false;

async function figures() {
  if (asking || document.hidden || !box("one").hidden) return;
  asking = true;
  try {
    const { value, at_ms, error } = await ask("/api/teacher", {});
    // A chart that nobody sees has no size to be drawn in.
    if (!box("one").hidden) return;
    showFigures(value);
    nameChoices(value);
    say(error ? `Figures of ${time(at_ms)}: ${error}` : `As of ${time(at_ms)}`, error ? "warning" : "ok");
  } catch (error) {
    say(error.message, "critical");
  } finally {
    asking = false;
  }
}

function say(text, look) {
  const pill = box("connection");
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${look}`;
}

function route() {
  const [, view, given] = /^#(\w*)\??(.*)$/s.exec(location.hash) ?? [null, "", ""];
  if (view !== "" && view !== "list" && view !== "judgement") return;
  const one = view === "judgement";
  const back = !one && !box("one").hidden;
  box("one").hidden = !one;
  box("all").hidden = box("connection").hidden = one;
  const place = Object.fromEntries(new URLSearchParams(given));
  if (one) {
    showJudgement(place);
    scrollTo(0, 0);
    return;
  }
  showList(place);
  box("back").href = location.hash || "#list";
  if (back) {
    redraw();
    box("list").scrollIntoView();
  }
  figures();
}

startTips();
startThemeButton();
startList();
addEventListener("hashchange", route);
document.addEventListener("visibilitychange", figures);
setInterval(figures, FIGURES_EVERY_MS);
route();
