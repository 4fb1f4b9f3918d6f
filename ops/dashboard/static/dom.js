// Building and updating the page. Text goes in as text nodes only, so nothing a stranger wrote becomes markup.

/** Makes an element: attributes by name (false and null leave one out), children as nodes or text. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) {
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
  }
  return node;
}

/** Changes what is inside `container` into `children`, leaving alone what is the same, so focus stays put. */
export function fill(container, ...children) {
  const wanted = document.createElement(container.tagName);
  wanted.append(...children.flat().filter((child) => child !== null));
  morphChildren(container, wanted);
}

function morphChildren(old, wanted) {
  const news = [...wanted.childNodes];
  const olds = [...old.childNodes];
  news.forEach((node, i) => {
    if (i >= olds.length) old.append(node);
    else morph(olds[i], node);
  });
  olds.slice(news.length).forEach((node) => node.remove());
}

function morph(old, wanted) {
  if (old.nodeType !== wanted.nodeType || old.nodeName !== wanted.nodeName) {
    old.replaceWith(wanted);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== wanted.data) old.data = wanted.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // What a reader has opened stays open, and what the tooltip explains stays explained.
    if (wanted.hasAttribute(name) || name === "aria-describedby" || (name === "open" && old.tagName === "DETAILS")) continue;
    old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  morphChildren(old, wanted);
}

/** A number with its explanation: reachable by pointer, touch and keyboard. */
export function number(text, tip, attributes = {}) {
  return el("span", { class: "number", tabindex: "0", "data-tip": tip, ...attributes }, text);
}

/** A number with its name above it. */
export function tile(label, text, tip, look = "") {
  return el("div", { class: `tile ${look}` }, el("span", { class: "label" }, label), number(text, tip));
}

/** Names and what they stand for, below each other; values as text or nodes. */
export const facts = (pairs) =>
  el("dl", { class: "facts" }, pairs.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]).flat());

/** A cell with a number. Its column's heading carries the explanation for the keyboard. */
export function cell(text, tip, attributes = {}) {
  return el("td", { class: "figure", "data-tip": tip, ...attributes }, text);
}

export function heading(text, tip, attributes = {}) {
  return el(
    "th",
    { scope: "col", ...attributes },
    tip ? el("span", { class: "explained", tabindex: "0", "data-tip": tip }, text) : text,
  );
}

/** A table that scrolls sideways inside its own box where the screen is narrow. */
export function table(caption, headings, rows, attributes = {}) {
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      attributes,
      el("caption", { class: "for-readers" }, caption),
      el("thead", {}, el("tr", {}, headings)),
      el("tbody", {}, rows),
    ),
  );
}

export function empty(text) {
  return el("p", { class: "empty" }, text);
}
