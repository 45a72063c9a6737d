// Single keys: a digit flips to a sound, 0 to the original, space plays, S keeps. They can be switched off.
import { find } from "./dom.js";

const WRITES = "input:not([type=range], [type=checkbox], [type=file]), select, textarea", ACTS = "button, a, summary, input, select, [role=slider]";

export function listenToKeys({ flip, toggle, keep }) {
  addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !find("keys").checked || event.target.closest?.(WRITES)) return;
    const key = event.key.toLowerCase(), acts = event.target.closest?.(ACTS);
    if (/^[0-9]$/.test(key)) flip(Number(key));
    else if (key === "s") keep();
    else if (key !== " " || acts && !acts.matches(".seek, [role=slider], .mix input")) return;   // on a button, space presses it
    else toggle();
    event.preventDefault();
  });
}
