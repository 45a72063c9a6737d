// Which sounds may be answered: fields of the form become parameters of the question.
import { getCatalogue } from "./api.js";
import { find, make } from "./dom.js";

const MOST_TAGS = 24;
const box = find("filters");

// Pairs of names and values, without what is left as it was.
export function chosenFilters() {
  const pairs = [];
  for (const field of box.querySelectorAll("input, select")) {
    if (field.name === "diverse") { if (!field.checked) pairs.push(["diverse", "false"]); }
    else if (field.type === "checkbox") { if (field.checked) pairs.push([field.name, field.value]); }
    else if (field.type === "range") { if (Number(field.value) > 0) pairs.push([field.name, field.value]); }
    else if (field.value.trim()) pairs.push([field.name, field.value.trim()]);
  }
  return pairs;
}

// A sentence where a range is upside down, else nothing.
export function filterProblem() {
  const number = name => { const { value } = box.querySelector(`[name=${name}]`); return value === "" ? null : Number(value); };
  for (const [what, least, most] of [["duration", "min_duration", "max_duration"], ["tempo", "min_tempo", "max_tempo"]]) {
    if (number(least) !== null && number(most) !== null && number(least) > number(most)) return `The ${what} ends before it begins: ${number(least)} is more than ${number(most)}.`;
  }
  return "";
}

export function clearFilters() {
  for (const field of box.querySelectorAll("input, select")) {
    if (field.type === "checkbox") field.checked = field.name === "diverse";
    else field.value = field.type === "range" ? 0 : "";
  }
  showCount();
}

function showCount() {
  const n = chosenFilters().length, popularity = Number(find("popularity").value);
  find("filter-count").textContent = n;
  find("filter-count").hidden = n === 0;
  find("popularity-value").textContent = popularity ? `${Math.round(100 * popularity)} %` : "off";
}

// What the catalogue offers, the most frequent first.
function common(values) {
  const counts = new Map();
  for (const value of values) if (value) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts.entries()].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([value]) => value);
}

function offer(field, list, name, values) {
  find(list).replaceChildren(...values.map(value => make("label", { className: "chip" }, make("input", { type: "checkbox", name, value }), make("span", { textContent: value }))));
  find(field).hidden = values.length === 0;
}

async function loadOffer() {
  const { tracks } = await getCatalogue();
  offer("tag-field", "tags", "tag", common(tracks.flatMap(track => track.tags ?? [])).slice(0, MOST_TAGS));
  offer("licence-field", "licences", "licence", common(tracks.map(track => track.licence)));
}

let offered = null;
box.addEventListener("toggle", () => { offered ??= loadOffer().catch(() => { offered = null; }); });
box.addEventListener("input", showCount);
find("clear-filters").addEventListener("click", clearFilters);
