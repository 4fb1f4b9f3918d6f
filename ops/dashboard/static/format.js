// How numbers are written. Unknown is a dash, never a zero.

const UNKNOWN = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

export const count = (value) => (known(value) ? whole.format(value) : UNKNOWN);
export const compact = (value) => (known(value) ? short.format(value) : UNKNOWN);
export const fixed = (value, digits = 2) => (known(value) ? value.toFixed(digits) : UNKNOWN);
export const percent = (value, digits = 2) => (known(value) ? `${(100 * value).toFixed(digits)} %` : UNKNOWN);
export const rate = (value) => (known(value) ? (value >= 100 ? whole.format(value) : value.toFixed(1)) : UNKNOWN);
export const time = (ms) => (known(ms) ? clock.format(ms) : UNKNOWN);
export const date = (ms) => (known(ms) ? day.format(ms) : UNKNOWN);

export const times = (n) => (n === 1 ? "once" : n === 2 ? "twice" : `${count(n)} times`);

/** A relative change with its sign: +3.2 %. */
export const change = (value, digits = 1) =>
  known(value) ? `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(digits)} %` : UNKNOWN;

export const interval = (low, high, write) => (known(low) && known(high) ? `${write(low)} to ${write(high)}` : UNKNOWN);

/** A duration in its largest fitting unit. */
export function duration(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** A clause as a sentence: capital first letter, full stop. */
export const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".") : "");

/** Text of strangers with its invisible characters written out: ⟨U+202E⟩. Line breaks stay. */
export const visible = (text) =>
  text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}]/gu, (char) =>
    char === "\n" ? char : `⟨U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
