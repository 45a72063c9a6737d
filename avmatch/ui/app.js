// The page of avmatch: choose a clip, ask, listen in step, take it with you.
import { getSettings, recommend, render } from "./api.js";
import { choiceOf, makeCard, markPlaying, setLabel, showMessage } from "./card.js";
import { find, instantiate, make, saveFile } from "./dom.js";
import { save } from "./exports.js";
import { chosenFilters, clearFilters, filterProblem } from "./filters.js";
import { listenToKeys } from "./keys.js";
import { Player, soundTime } from "./player.js";
import { mark, refreshKept, toggleKept } from "./shortlist.js";
import { clock, counted, fileName, lasting, megabytes, titleOf } from "./words.js";

const [form, file, video, cards, status] = ["ask", "file", "video", "cards", "status"].map(find);
const deck = find("deck"), player = new Player(video);
const state = { clip: null, usable: false, url: "", maxBytes: Infinity, maxSeconds: Infinity, asking: null, rendering: null, choices: [] };

const isNarrow = () => matchMedia("(max-width: 860px)").matches;
const pace = () => matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";

// ---- what is going on

// A sentence for the reader; `bad` marks an error, and buttons offer a way out.
function say(text, { bad = false, heading = bad ? "That did not work" : "", buttons = [] } = {}) {
  status.classList.toggle("bad", bad);
  status.classList.toggle("mild", !bad && Boolean(heading));
  const body = make("div", {}, heading ? make("strong", { textContent: heading }) : null, text, ...buttons.map(([label, act]) => {
    const button = make("button", { type: "button", className: "quiet", textContent: label });
    button.addEventListener("click", act);
    return button;
  }));
  status.replaceChildren(...(text ? [body] : []));
}

function setBusy(text, share = null) {
  const go = find("go"), progress = find("progress");
  go.setAttribute("aria-busy", String(Boolean(text)));
  go.disabled = Boolean(text) || !state.usable;
  find("go-text").textContent = text || "Recommend Audio";
  find("results").setAttribute("aria-busy", String(Boolean(text)));
  progress.hidden = share === null;
  if (share !== null) progress.value = 100 * share;
}

async function loadSettings() {
  const slider = find("top-k");
  try {
    const settings = await getSettings();
    Object.assign(state, { maxBytes: settings.max_upload_mb * 1e6, maxSeconds: settings.max_seconds });
    slider.max = settings.max_top_k;
    slider.value = settings.top_k;
    find("limit").textContent = `MP4, MOV, WebM, MKV or AVI, up to ${settings.max_upload_mb}\u00a0MB and ${lasting(settings.max_seconds)}`;
  } catch (error) {
    const again = () => { say(""); loadSettings(); };
    say(error.message, { bad: true, buttons: error.canRetry ? [["Try again", again]] : [] });
  }
  showTopK();
}

const showTopK = () => { find("top-k-value").textContent = find("top-k").value; };

// ---- choosing a clip

function chooseClip(clip) {
  state.asking?.abort();
  clearResults();
  find("empty").hidden = false;
  if (state.url) URL.revokeObjectURL(state.url);
  Object.assign(state, { clip, url: URL.createObjectURL(clip) });
  if (clip.size) video.src = state.url;
  else { video.removeAttribute("src"); video.load(); }
  setSeen(clip.size > 0);
  find("name").textContent = clip.name;
  find("size").textContent = megabytes(clip.size);
  find("drop").hidden = true;
  find("clip").hidden = false;
  judge(complaintAbout(clip));
}

// Whether the clip can be sent; what is wrong with it is said.
function judge(complaint) {
  state.usable = !complaint;
  setBusy("");
  say(complaint, { bad: Boolean(complaint) });
  if (complaint) find("empty").hidden = true;
}

function complaintAbout({ name, size }) {
  if (size === 0) return `${name} is empty. Choose another video.`;
  return size > state.maxBytes ? `${name} has ${megabytes(size)}; at most ${megabytes(state.maxBytes)} can be sent. Cut it shorter or make it smaller.` : "";
}

function setSeen(seen) {
  find("unseen").hidden = seen;
  find("position").disabled = !seen;
  player.setClip(seen);
  showFlips();
}

file.addEventListener("change", () => {
  const [clip] = file.files;
  file.value = "";                       // so that the same file can be chosen again
  if (clip) chooseClip(clip);
});
video.addEventListener("loadedmetadata", () => {
  find("size").textContent = `${megabytes(state.clip.size)} · ${clock(video.duration)}`;
  find("position").max = video.duration;
  showTime();
  if (video.duration === Infinity || video.duration <= state.maxSeconds) return;   // Infinity: the file does not say
  state.asking?.abort();
  judge(`${state.clip.name} lasts ${clock(video.duration)}; at most ${lasting(state.maxSeconds)} are read. Cut it shorter.`);
});
video.addEventListener("error", () => { if (state.clip) setSeen(false); });

// A file may be dropped anywhere on the page: next to the frame, the browser would otherwise open it and leave.
let depth = 0;
const dragged = step => { depth = Math.max(0, depth + step); document.body.classList.toggle("dragging", depth > 0); };
addEventListener("dragenter", event => { event.preventDefault(); dragged(1); });
addEventListener("dragleave", () => dragged(-1));
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => {
  event.preventDefault();
  dragged(-depth);
  const [clip] = event.dataTransfer.files;
  if (clip) chooseClip(clip);
});

// ---- asking

async function ask() {
  const complaint = filterProblem();
  if (complaint) return say(complaint, { bad: true });
  const topK = Number(find("top-k").value), asking = state.asking = new AbortController(), filters = chosenFilters();
  clearResults();
  setBusy("Sending");
  say("Looking for sounds that fit …");
  cards.replaceChildren(...Array.from({ length: Math.min(topK, 5) }, () => instantiate("skeleton")));
  const onProgress = share => share < 1 ? setBusy(`Sending ${Math.round(100 * share)} %`, share) : setBusy("Watching the clip");
  try {
    const answers = await recommend(state.clip, topK, filters, { signal: asking.signal, onProgress });
    if (asking === state.asking) showAnswers(answers, filters);
  } catch (error) {
    if (error.name === "AbortError" || asking !== state.asking) return;
    clearResults();
    const again = error.wait ? `Try again in ${counted(error.wait, "second")}` : "Try again";
    say(error.message, { bad: true, buttons: error.canRetry ? [[again, ask]] : [] });
  } finally { if (asking === state.asking) setBusy(""); }
  showResults();
}

// The answer is brought into sight, on a phone and wherever one has scrolled past its beginning.
function showResults() {
  if (isNarrow() || find("results").getBoundingClientRect().top < 0) find("results").scrollIntoView({ behavior: pace() });
}

function showAnswers(answers, filters) {
  const asked = { clip: state.clip.name, clipLength: player.hasPicture ? video.duration : 0 }, on = { pair, keep, video: takeVideo, move };
  state.choices = answers.map((answer, place) => choiceOf(answer, place, asked));
  cards.replaceChildren(...state.choices.map(choice => makeCard(choice, on)));
  find("toolbar").hidden = answers.length === 0;
  showFlips();
  const askFreely = () => { clearFilters(); ask(); };
  if (answers.length === 0 && filters.length) say("No sound of the library passes these filters.", { heading: "Nothing found", buttons: [["Clear the filters and ask again", askFreely]] });
  else if (answers.length === 0) say("Process some videos or add music with `avmatch tracks add`, then ask again.", { heading: "The library has no sounds yet" });
  else if (answers.every(({ good }) => good === false)) say("These are the nearest ones. Listen before you decide, or try another clip.", { heading: "No sound of the library fits this clip well" });
  else say(`${counted(answers.length, "sound")} for ${state.clip.name}, the best first`);
}

function clearResults() {
  state.rendering?.abort();
  player.reset();
  for (const { sound } of state.choices) sound.pause(), sound.removeAttribute("src"), sound.load();
  state.choices = [];
  cards.replaceChildren();
  find("toolbar").hidden = true;
  find("empty").hidden = true;
  say("");
  setBusy("");
  showFlips();
}

form.addEventListener("submit", event => {
  event.preventDefault();
  if (!find("go").disabled) ask();
});

// ---- listening

function flip(number) {
  const choice = number ? state.choices[number - 1] : null;
  if (choice === undefined || !state.clip) return;
  player.choose(choice);
  if (choice && (!isNarrow() || deck.classList.contains("floating"))) choice.card.scrollIntoView({ block: "nearest", behavior: pace() });
}

function pair(choice) {
  if (player.current === choice) return player.toggle();
  player.choose(choice);
  if (!player.wanted) player.play();
}

function move(choice) {
  if (choice === player.current) player.follow();
  if (choice.card) refreshKept();
}

function showFlips() {
  const button = (label, title, choice) => {
    const node = make("button", { type: "button", textContent: label, title });
    node.setAttribute("aria-label", title);
    node.setAttribute("aria-pressed", String(player.current === choice));
    node.addEventListener("click", () => flip(choice ? choice.place + 1 : 0));
    return node;
  };
  find("flips").replaceChildren(...(state.choices.length ? [button("Original", "Original sound", null)] : []),
    ...state.choices.map(choice => button(choice.place + 1, `${choice.place + 1}: ${titleOf(choice.answer)}`, choice)));
  find("mix").hidden = !state.choices.length || !player.hasPicture;
}

function showTime() {
  const { time } = player, length = player.hasPicture ? video.duration : player.current?.length;
  find("time").textContent = `${clock(time)}${length ? ` / ${clock(length)}` : ""}`;
  find("position").value = time;
  find("position").setAttribute("aria-valuetext", clock(time, 1));
  const { current } = player;
  current?.picker.showHead(player.hasPicture ? soundTime(current, time) : current.sound.currentTime);
}

player.addEventListener("change", () => {
  const { current, wanted } = player, playing = find("play");
  playing.classList.toggle("on", wanted);
  playing.setAttribute("aria-label", wanted ? "Pause" : "Play");
  const heard = current ? `${current.place + 1} · ${titleOf(current.answer)}` : "Original sound";
  if (find("now").textContent !== heard) find("now").textContent = heard;   // it is read out on every change
  [...find("flips").children].forEach((button, i) => button.setAttribute("aria-pressed", String((state.choices[i - 1] ?? null) === current)));
  for (const choice of state.choices) {
    markPlaying(choice, { chosen: choice === current, playing: wanted });
    if (choice !== current) choice.picker.showHead(null);
  }
  showTime();
});
player.addEventListener("tick", showTime);
player.addEventListener("fail", event => say(event.detail, { bad: true }));
video.addEventListener("seeked", showTime);
find("play").addEventListener("click", () => player.toggle());
find("position").addEventListener("input", event => player.seek(Number(event.target.value)));
find("balance").addEventListener("input", event => {
  const share = Number(event.target.value);
  event.target.setAttribute("aria-valuetext", share === 100 ? "music only" : share === 0 ? "original only" : `${share} % music`);
  player.setBalance(share / 100);
});
function readFades() {
  const seconds = name => {
    const field = find(`fade-${name}`), value = Number(field.value), words = value ? `${value} s` : "off";
    find(`fade-${name}-value`).textContent = words;
    field.setAttribute("aria-valuetext", value ? counted(value, "second") : words);
    return value;
  };
  player.setFades({ in: seconds("in"), out: seconds("out") });
}
find("mix").addEventListener("input", readFades);
readFades();
listenToKeys({ flip, toggle: () => state.clip && player.toggle(), keep: () => player.current && keep(player.current) });

// ---- keeping and taking

function keep(choice) { mark(choice, toggleKept(choice)); }

// One video at a time: it is the same button that stops it.
async function takeVideo(choice) {
  const button = choice.card.querySelector(".action.video"), running = state.rendering;
  running?.abort();
  if (running?.choice === choice) return;
  const rendering = state.rendering = Object.assign(new AbortController(), { choice });
  button.setAttribute("aria-busy", "true");
  setLabel(button, "Stop", `the video with ${titleOf(choice.answer)}`);
  const onProgress = share => showMessage(choice.card, share < 1 ? `Sending the clip: ${Math.round(100 * share)} %` : "Putting the sound under the clip …");
  onProgress(0);
  try {
    const result = await render(state.clip, choice, player, { signal: rendering.signal, onProgress });
    saveFile(result, `${fileName(`${state.clip.name.replace(/\.[^.]*$/, "")} - ${titleOf(choice.answer)}`)}.mp4`);
    showMessage(choice.card, `The video is in your downloads (${megabytes(result.size)}).`);
  } catch (error) {
    showMessage(choice.card, error.name === "AbortError" ? "Stopped." : error.message, error.name !== "AbortError");
  } finally {
    if (state.rendering === rendering) state.rendering = null;
    button.removeAttribute("aria-busy");
    setLabel(button, "Video", `download with ${titleOf(choice.answer)}`);
  }
}

for (const kind of ["csv", "json"]) find(`save-${kind}`).addEventListener("click", () => save(state.choices, state.clip.name, kind));

// ---- on a phone, the player stays in sight

new IntersectionObserver(([entry]) => {
  const floats = !entry.isIntersecting && state.choices.length > 0 && isNarrow();
  if (floats) find("clip").style.minHeight = `${find("clip").offsetHeight}px`;
  else find("clip").style.minHeight = "";
  deck.classList.toggle("floating", floats);
  document.body.classList.toggle("has-floating", floats);
}, { threshold: 0 }).observe(find("clip"));

find("top-k").addEventListener("input", showTopK);
loadSettings();
