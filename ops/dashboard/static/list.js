// A list with filters, one page of rows after another. The place is in the address, as #list?..., so Back works.
// A page has one list at most, in the elements `filters`, `list-note`, `list-table`, `older`, `newest` and `again`.

import { ask } from "./ask.js";
import { el, fill } from "./dom.js";
import { visible } from "./format.js";

const box = (id) => document.getElementById(id);
const form = () => box("filters");
const ROWS = 50;

let look = null;
let place = {};
let asked = 0;
let named = "";

/**
 * Makes the list work. `path` answers with rows under `rows`, `filters` are names of fields. `table` makes a table of
 * rows, `found` says in words how many there are, `nothing` why there is none; it is told whether filters are set.
 */
export function startList({ path, rows, filters, table, found, nothing }) {
  look = { path, rows, filters, table, found, nothing };
  form().addEventListener("change", apply);
  form().addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  let typing;
  form().elements.q.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(apply, 300); });
  box("again").addEventListener("click", load);
}

/** Shows the list at a place: filters by name, and the row before which it begins. */
export function showList(next) {
  place = next;
  for (const name of look.filters) choose(name, place[name] ?? "");
  load();
}

/** Fills the choices of filters from what there is, by name. */
export function nameChoices(known) {
  const state = JSON.stringify(known);
  if (state === named) return;
  named = state;
  for (const [name, values] of Object.entries(known)) {
    const select = form().elements[name];
    const first = select.options[0];
    select.replaceChildren(first, ...values.map((value) => el("option", { value }, visible(value))));
    choose(name, place[name] ?? "");
  }
}

function choose(name, value) {
  const field = form().elements[name];
  if (field.options && ![...field.options].some((option) => option.value === value)) {
    field.append(el("option", { value }, visible(value)));
  }
  if (field.value !== value) field.value = value;
}

function apply() {
  go(Object.fromEntries(look.filters.map((name) => [name, form().elements[name].value])));
}

const address = (next) => `#list?${new URLSearchParams(Object.entries(next).filter(([, value]) => value))}`;

function go(next) {
  if (look.filters.some((name) => next[name] !== (place[name] ?? ""))) location.hash = address(next);
}

async function load() {
  const mine = ++asked;
  say("Loading …");
  try {
    const { [look.rows]: rows } = await ask(look.path, { ...place, limit: ROWS });
    if (mine !== asked) return;
    fill(box("list-table"), rows.length ? look.table(rows) : look.nothing({ older: Boolean(place.before_ms), filtered: look.filters.some((name) => place[name]) }));
    say(rows.length ? look.found(rows.length) : "");
    turn(rows);
  } catch (error) {
    if (mine !== asked) return;
    fill(box("list-table"));
    say(error.message);
  }
}

function say(text) {
  if (box("list-note").textContent !== text) box("list-note").textContent = text;
}

function turn(rows) {
  if (!box("older")) return;
  const { before_ms, before_id, ...filters } = place;
  const last = rows.at(-1);
  box("newest").hidden = before_ms === undefined;
  box("newest").href = address(filters);
  box("older").hidden = rows.length < ROWS;
  if (last) box("older").href = address({ ...filters, before_ms: last.at_ms, before_id: last.id });
}
