// The teacher's page: figures at the top, the list of judgements, or one judgement beside its pair. Which of them
// is in the address, so Back works.

import { redraw } from "./charts.js";
import { follow } from "./follow.js";
import { nameJudgements, startJudgements } from "./judgements.js";
import { showJudgement } from "./judgement.js";
import { showList } from "./list.js";
import { showFigures } from "./teacher_figures.js";
import { startThemeButton } from "./theme_button.js";
import { startTips } from "./tips.js";

const box = (id) => document.getElementById(id);
const FIGURES_EVERY_MS = 10_000;

const figures = follow(
  "/api/teacher",
  FIGURES_EVERY_MS,
  (overview) => { showFigures(overview); nameJudgements(overview); },
  () => box("one").hidden,
);

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
startJudgements();
addEventListener("hashchange", route);
route();
