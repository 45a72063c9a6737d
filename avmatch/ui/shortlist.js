// The sounds that were kept, each as it was when it was kept: another moment later on is another entry.
import { setLabel } from "./card.js";
import { find, make } from "./dom.js";
import { save } from "./exports.js";
import { clock, titleOf } from "./words.js";

const kept = [];

export function toggleKept(choice) {
  const at = kept.indexOf(choice);
  if (at >= 0) kept.splice(at, 1);
  else kept.push(choice);
  show();
  return at < 0;
}

function show() {
  for (const choice of kept) mark(choice, true);
  find("shortlist").hidden = kept.length === 0;
  find("kept").replaceChildren(...kept.map(entryNode));
}

export function mark(choice, on) {
  const button = choice.card.querySelector(".keep");
  button.setAttribute("aria-pressed", String(on));
  setLabel(button, on ? "Kept" : "Keep", titleOf(choice.answer));
}

function entryNode(choice) {
  const title = titleOf(choice.answer), remove = make("button", { type: "button", className: "quiet", textContent: "Remove", ariaLabel: `Remove ${title} from the shortlist` });
  remove.addEventListener("click", () => {
    toggleKept(choice);
    mark(choice, false);
    (find("kept").querySelector("button") ?? find("results")).focus();
  });
  return make("li", {}, make("span", {}, make("strong", { textContent: title }), make("span", { className: "note", textContent: ` from ${clock(choice.start, 1)}, for ${choice.clip}` })), remove);
}

// After the moment of a kept sound was moved.
export const refreshKept = show;

for (const kind of ["csv", "json"]) find(`kept-${kind}`).addEventListener("click", () => save(kept, "shortlist", kind));
