// One tooltip for every element with `data-tip`: shown on hover, keyboard focus and tap, closed by Escape.

const tip = document.createElement("div");
tip.id = "tip";
tip.setAttribute("role", "tooltip");
tip.hidden = true;
let owner = null;

export function startTips() {
  document.body.append(tip);
  document.addEventListener("pointerover", (event) => show(event.target.closest?.("[data-tip]")));
  document.addEventListener("focusin", (event) => show(event.target.closest?.("[data-tip]")));
  document.addEventListener("focusout", hide);
  document.addEventListener("pointerdown", (event) => show(event.target.closest?.("[data-tip]")));
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  // What has the focus may have been scrolled to just now, and keeps its explanation.
  document.addEventListener("scroll", () => (focused() ? place() : hide()), {
    capture: true,
    passive: true,
  });
}

function focused() {
  return owner !== null && owner === document.activeElement;
}

function show(target) {
  if (target === owner && target) return;
  // The pointer may rest on the tooltip itself to read it; what has the focus keeps it whatever the pointer passes.
  if (!target && (tip.matches(":hover") || focused())) return;
  hide();
  if (!target) return;
  owner = target;
  owner.setAttribute("aria-describedby", "tip");
  tip.textContent = target.dataset.tip;
  tip.hidden = false;
  place();
}

function place() {
  const box = owner.getBoundingClientRect();
  const left = Math.min(Math.max(8, box.left + box.width / 2 - tip.offsetWidth / 2), innerWidth - tip.offsetWidth - 8);
  const above = box.top - tip.offsetHeight - 8;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
}

function hide() {
  owner?.removeAttribute("aria-describedby");
  owner = null;
  tip.hidden = true;
}
