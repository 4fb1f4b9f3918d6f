// The button that switches between light and dark, against what the system prefers.

import { redraw } from "./charts.js";

export function startThemeButton() {
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
    const next = now === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
    redraw();
  });
  dark.addEventListener("change", redraw);
}
