// Results as a table and as data.
import { saveFile } from "./dom.js";

const NAMES = ["clip", "rank", "audio_id", "track_id", "title", "artist", "score", "good", "start", "loop", "duration", "tempo", "voice", "tags", "licence", "attribution", "link", "reason"];

function rowOf({ answer, clip, place, start, loop, duration }) {
  const known = { ...answer, clip, rank: place + 1, start, loop, duration: answer.duration ?? duration };
  return Object.fromEntries(NAMES.map(name => [name, known[name] ?? null]));
}

// A cell that begins like a formula would be run by a spreadsheet; an apostrophe makes it text.
function cell(value) {
  if (value === null) return "";
  const text = Array.isArray(value) ? value.join("; ") : String(value);
  const safe = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",;\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export const csvOf = choices => [NAMES.join(","), ...choices.map(choice => Object.values(rowOf(choice)).map(cell).join(","))].join("\r\n") + "\r\n";
export const jsonOf = choices => JSON.stringify({ sounds: choices.map(rowOf) }, null, 2);

export function save(choices, about, kind) {
  const name = `avmatch-${about.replace(/\.[^.]*$/, "")}.${kind}`;
  if (kind === "csv") saveFile(new Blob(["\ufeff", csvOf(choices)], { type: "text/csv" }), name);   // the mark tells spreadsheets that it is UTF-8
  else saveFile(new Blob([jsonOf(choices)], { type: "application/json" }), name);
}
