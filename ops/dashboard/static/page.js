// The page: receives snapshots, shows them, says when they stop coming.

import { ask } from "./ask.js";
import { el, fill } from "./dom.js";
import { nameArms, startExplore } from "./explore.js";
import { showFlow, startDeadLetters } from "./flow.js";
import { duration } from "./format.js";
import { showReport, startReport } from "./report.js";
import { startThemeButton } from "./theme_button.js";
import { startTips } from "./tips.js";

const box = (id) => document.getElementById(id);
const RECONNECT_MS = 3000;
const LATE_AFTER_S = 8;

let stream = null;
let received = null;
let connected = false;
let lastError = "";

function connect() {
  if (stream || document.hidden) return;
  stream = new EventSource("/api/live");
  stream.onopen = () => { connected = true; };
  stream.onmessage = (event) => {
    connected = true;
    received = performance.now();
    show(JSON.parse(event.data));
    tick();
  };
  stream.onerror = async () => {
    connected = false;
    tick();
    // The browser comes back by itself after a lost connection, not after an answer that is an error.
    if (stream?.readyState !== EventSource.CLOSED) return;
    stream = null;
    try {
      await ask("/api/health", {});
      lastError = "";
    } catch (error) {
      lastError = error.message;
    }
    setTimeout(connect, RECONNECT_MS);
  };
}

// A browser keeps six connections to a server at most, so a tab that nobody sees gives its own back.
function disconnect() {
  stream?.close();
  stream = null;
}

function tick() {
  const pill = box("connection");
  const age = received === null ? null : (performance.now() - received) / 1000;
  const late = age !== null && age > LATE_AFTER_S;
  let text = "Connecting …";
  if (connected && age !== null) text = late ? `Numbers are ${duration(age)} old` : "Live";
  else if (age !== null) text = `Connection lost. Numbers are ${duration(age)} old, trying again …`;
  else if (lastError) text = lastError;
  const look = connected ? (late ? "warning" : age === null ? "" : "ok") : received === null ? "" : "critical";
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${look}`;
  document.body.classList.toggle("stale", age !== null && (!connected || late));
}

function show(snapshot) {
  nameArms(snapshot.arms);
  box("experiment-name").textContent = `Experiment “${snapshot.experiment}”`;
  showHealth(snapshot.health, snapshot.store.value?.totals.last_event_ms);
  showReport(snapshot);
  showFlow(snapshot);
}

function showHealth({ level, problems }, lastEvent) {
  const card = box("health");
  card.className = `card ${level}`;
  const title = { ok: "✓ Healthy", warning: "⚠ Running, but look at this", critical: "✕ Not healthy" }[level];
  fill(
    card,
    el("p", { class: "big" }, title),
    problems.length
      ? el("ul", {}, problems.map((problem) => el("li", { class: problem.level }, problem.text)))
      : el("p", { class: "note" }, lastEvent ? "All parts give signs of life, events flow and are up to date." : "All parts give signs of life. No event has come in yet."),
  );
}

startTips();
startThemeButton();
startReport(ask);
startExplore(ask);
startDeadLetters(ask);
connect();
addEventListener("pagehide", disconnect);
addEventListener("pageshow", connect);
document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
setInterval(tick, 1000);
