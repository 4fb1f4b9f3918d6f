// Figures that a page asks for again and again while someone looks; how current they are stands in its pill.

import { ask } from "./ask.js";
import { time } from "./format.js";

/**
 * Asks `path` every `everyMs` and gives its value and when it was made to `show`, while `wanted` says yes. Returns
 * what asks at once: nothing is asked before it was called or `everyMs` went by.
 */
export function follow(path, everyMs, show, wanted = () => true) {
  let asking = false;

  async function refresh() {
    if (asking || document.hidden || !wanted()) return;
    asking = true;
    try {
      const { value, at_ms, error } = await ask(path, {});
      // A chart that nobody sees has no size to be drawn in.
      if (!wanted()) return;
      show(value, at_ms);
      say(error ? `Figures of ${time(at_ms)}: ${error}` : `As of ${time(at_ms)}`, error ? "warning" : "ok");
    } catch (error) {
      say(error.message, "critical");
    } finally {
      asking = false;
    }
  }

  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, everyMs);
  return refresh;
}

/** Says how current the page is; `look` is ok, warning, critical or nothing. */
export function say(text, look) {
  const pill = document.getElementById("connection");
  if (pill.textContent !== text) pill.textContent = text;
  pill.className = `pill ${look}`;
}
