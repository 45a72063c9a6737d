// Asks for the token of a service that has one. It is shown once; then the browser has a cookie, which no script can read.
import { find } from "./dom.js";
import { sentence, UNREACHABLE } from "./words.js";

const door = find("door"), field = find("token"), message = find("door-message");
let opening = null;

// Resolves when the service has accepted a token, to `false` when the user has given up; many may wait for one answer.
export function askForToken() {
  opening ??= new Promise(resolve => {
    message.textContent = field.value = "";
    door.addEventListener("close", () => { opening = null; resolve(door.returnValue === "open"); }, { once: true });
    door.returnValue = "";
    door.showModal();
  });
  return opening;
}

async function show(token) {
  const response = await fetch("session", { method: "POST", headers: { Authorization: `Bearer ${token}` } }).catch(() => null);
  if (response?.ok) return door.close("open");
  const problem = await response?.json().catch(() => null);
  message.textContent = response?.status === 401 ? "This is not the right token." : problem?.detail ? sentence(problem.detail) : UNREACHABLE;
  field.select();
}

door.querySelector("form").addEventListener("submit", event => {
  event.preventDefault();
  const token = field.value.trim();
  if (/^[\x21-\x7e]+$/.test(token)) show(token);
  else message.textContent = "A token has letters, digits and signs, and no spaces.";
});
find("door-close").addEventListener("click", () => door.close());
