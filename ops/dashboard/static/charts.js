// Charts by plotly.js, which loads after the page is readable. It is given numbers and our own words only:
// its labels understand markup.

let ready = null;
const drawn = new Map();

function plotly() {
  ready ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.body.dataset.plotly;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("the chart library could not be loaded"));
    document.head.append(script);
  });
  return ready;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export const colours = {
  get control() { return colour("control"); },
  get treatment() { return colour("treatment"); },
  get card() { return colour("card"); },
  get text() { return colour("text"); },
  get quiet() { return colour("quiet"); },
  get line() { return colour("line"); },
  get good() { return colour("good"); },
  get bad() { return colour("bad"); },
  series(n) { return colour(`series-${n}`); },
};

/** A colour with an opacity in [0, 1]; `hex` is #rrggbb. */
export function faded(hex, opacity) {
  const n = parseInt(hex.slice(1), 16);
  return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${opacity})`;
}

/**
 * Draws or updates the chart in the element `id`. `make` returns {traces, layout} and is called again when the
 * colours change; `says` is the chart in words.
 */
export async function draw(id, says, make) {
  const box = document.getElementById(id);
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", says);
  drawn.set(id, make);
  const library = await plotly();
  if (drawn.get(id) !== make) return;
  const { traces, layout } = make();
  await library.react(box, traces, { ...base(), ...layout }, { displayModeBar: false, responsive: true });
  box.dataset.drawn = String(Number(box.dataset.drawn ?? 0) + 1);
}

/** Takes a chart away. */
export function erase(id) {
  const box = document.getElementById(id);
  if (drawn.delete(id) && box.dataset.drawn) window.Plotly.purge(box);
  delete box.dataset.drawn;
}

export function redraw() {
  for (const [id, make] of drawn) draw(id, document.getElementById(id).getAttribute("aria-label"), make);
}

export const axis = (extra = {}) => ({
  gridcolor: colours.line,
  linecolor: colours.line,
  zerolinecolor: colours.quiet,
  tickfont: { color: colours.quiet, size: 11 },
  automargin: true,
  fixedrange: true,
  ...extra,
});

function base() {
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", color: colours.text, size: 12 },
    margin: { l: 8, r: 12, t: 8, b: 8 },
    hoverlabel: { bgcolor: colour("tip"), font: { color: colour("tip-text") }, bordercolor: colour("tip") },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11, color: colours.quiet } },
    xaxis: axis(),
    yaxis: axis(),
    dragmode: false,
  };
}
