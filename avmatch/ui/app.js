"use strict";
// The page of avmatch: choose a clip, ask, listen. All text from the server is put in as text, never as HTML.

const find = id => document.getElementById(id);
const [form, file, choose, video, cards, status] = ["ask", "file", "clip", "video", "cards", "status"].map(find);
const state = { clip: null, usable: false, url: "", request: null, question: 0, maxBytes: Infinity, sound: null, wasMuted: false };
const UNREACHABLE = "The server cannot be reached. Is it still running?";

// ---- words

const megabytes = bytes => bytes < 1e5 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
const minutes = s => `${Math.floor(Math.round(s) / 60)}:${String(Math.round(s) % 60).padStart(2, "0")}`;
const counted = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function say(text, bad = false) {
  status.classList.toggle("bad", bad);
  const heading = Object.assign(document.createElement("strong"), { textContent: "That did not work" });
  const parts = document.createElement("div");
  parts.append(...(bad ? [heading] : []), text);
  status.replaceChildren(...(text ? [parts] : []));
}

// ---- the limits of this server

async function loadSettings() {
  const slider = find("top-k");
  try {
    const settings = await (await fetch("settings")).json();
    state.maxBytes = settings.max_upload_mb * 1e6;
    slider.max = settings.max_top_k;
    slider.value = settings.top_k;
    find("limit").textContent = `MP4, MOV, WebM, MKV or AVI, up to ${settings.max_upload_mb}\u00a0MB`;
  } catch { say(UNREACHABLE, true); }
  showTopK();
}

const showTopK = () => { find("top-k-value").textContent = find("top-k").value; };

// ---- choosing a clip

function chooseClip(clip) {
  state.request?.abort();
  stopPair();
  clearResults();
  find("empty").hidden = false;
  if (state.url) URL.revokeObjectURL(state.url);
  state.clip = clip;
  state.url = URL.createObjectURL(clip);
  if (clip.size) video.src = state.url;
  else { video.removeAttribute("src"); video.load(); }
  setSeen(clip.size > 0);
  find("name").textContent = clip.name;
  find("size").textContent = megabytes(clip.size);
  find("drop").hidden = true;
  choose.hidden = false;
  const tooLarge = clip.size > state.maxBytes;
  const complaint = clip.size === 0 ? `${clip.name} is empty. Choose another video.`
    : tooLarge ? `${clip.name} has ${megabytes(clip.size)}; at most ${megabytes(state.maxBytes)} can be sent. Cut it shorter or make it smaller.` : "";
  state.usable = !complaint;
  setBusy("");
  say(complaint, Boolean(complaint));
  if (complaint) find("empty").hidden = true;
}

function setSeen(seen) {
  find("unseen").hidden = seen;
  video.controls = seen;
}

file.addEventListener("change", () => {
  const [clip] = file.files;
  file.value = "";                       // so that the same file can be chosen again
  if (clip) chooseClip(clip);
});
video.addEventListener("loadedmetadata", () => { find("size").textContent = `${megabytes(state.clip.size)} · ${minutes(video.duration)}`; });
video.addEventListener("error", () => { if (state.clip) { setSeen(false); setPairButtons(false); } });

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

function setBusy(text) {
  const go = find("go");
  go.setAttribute("aria-busy", String(Boolean(text)));
  go.disabled = Boolean(text) || !state.usable;
  find("go-text").textContent = text || "Recommend Audio";
  find("results").setAttribute("aria-busy", String(Boolean(text)));
}

// XMLHttpRequest, since fetch cannot tell how much has been sent.
function upload(clip, topK) {
  return new Promise((resolve, reject) => {
    const request = state.request = new XMLHttpRequest(), body = new FormData();
    body.append("file", clip, clip.name);
    request.open("POST", `recommend?top_k=${topK}&details=true`);
    request.responseType = "json";
    request.upload.onprogress = event => { if (event.lengthComputable) setBusy(`Sending ${Math.round(100 * event.loaded / event.total)} %`); };
    request.upload.onload = () => { setBusy("Watching the clip"); };
    request.onerror = () => reject(new Error(UNREACHABLE));
    request.onabort = () => reject(new DOMException("another clip was chosen", "AbortError"));
    request.onload = () => request.status === 200 && Array.isArray(request.response) ? resolve(request.response)
      : reject(new Error(request.response?.detail ?? `The server answered with an error (${request.status}). Its log says more.`));
    request.send(body);
  });
}

async function details(answer) {
  const response = await fetch(`tracks/${encodeURIComponent(answer.audio_id)}`).catch(() => null);
  return { ...(response?.ok ? await response.json() : {}), ...answer };
}

form.addEventListener("submit", async event => {
  event.preventDefault();
  if (find("go").disabled) return;
  const topK = Number(find("top-k").value), question = ++state.question, clip = state.clip;
  stopPair();
  clearResults();
  find("empty").hidden = true;
  setBusy("Sending");
  say("Looking for sounds that fit …");
  cards.replaceChildren(...Array.from({ length: Math.min(topK, 5) }, () => find("skeleton").content.cloneNode(true)));
  try {
    const answers = await Promise.all((await upload(clip, topK)).map(details));
    if (question !== state.question) return;
    cards.replaceChildren(...answers.map(makeCard));
    say(answers.length ? `${counted(answers.length, "sound")} for ${clip.name}, the best first` : "The library has no sounds yet.");
  } catch (error) {
    if (error.name === "AbortError") return;
    clearResults();
    say(error.message, true);
  } finally { if (question === state.question) setBusy(""); }
  if (matchMedia("(max-width: 860px)").matches) {
    find("results").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }
});

function clearResults() {
  cards.querySelectorAll("audio").forEach(sound => { sound.pause(); sound.removeAttribute("src"); });
  cards.replaceChildren();
  say("");
  setBusy("");
}

// ---- an answer

function makeCard(answer, place) {
  const card = find("card").content.cloneNode(true).firstElementChild, part = name => card.querySelector(name);
  const title = answer.title || answer.audio_id, sound = part("audio"), url = `audio/${encodeURIComponent(answer.audio_id)}`;
  card.style.setProperty("--place", place);
  part(".rank").textContent = place + 1;
  part(".title").textContent = title;
  part(".score").textContent = answer.score.toFixed(2);
  part(".bar div").style.width = `${100 * Math.min(1, Math.max(0, answer.score))}%`;
  part(".score").title = [part(".score").title, ...contributions(answer)].join("\n");
  part(".why").textContent = why(answer);
  part(".why").hidden = !answer.reason;
  part(".meta").replaceChildren(...about(answer));
  sound.src = url;
  sound.setAttribute("aria-label", title);
  part(".pair").setAttribute("aria-label", `Play ${title} with the clip`);
  part(".pair").disabled = !find("unseen").hidden;
  part(".pair").addEventListener("click", () => state.sound === sound ? stopPair() : startPair(sound));
  Object.assign(part(".download"), { href: url, download: `${title}.wav`, ariaLabel: `Download ${title}` });
  if (answer.picture_url) part(".thumb").prepend(Object.assign(new Image(), { src: `picture/${encodeURIComponent(answer.audio_id)}`, alt: "" }));
  sound.addEventListener("play", () => { if (state.sound !== sound) { stopPair(); pauseOthers(sound); video.pause(); } });
  sound.addEventListener("pause", () => { if (state.sound === sound && !sound.ended && !video.paused && !sound.seeking) video.pause(); });
  sound.addEventListener("ended", () => { if (state.sound === sound) stopPair(); });
  return card;
}

// Where what is seen and what is heard did not meet, the reason only names the two sides, and is no "why".
const why = ({ reason }) => /^(seen|heard): /.test(reason ?? "") ? reason : reason ? `why: ${reason}` : "";

const PARTS = { joint: "learned", words: "words", rhythm: "rhythm", hub: "too common" };
const contributions = ({ parts = {} }) => Object.keys(PARTS).filter(part => Math.abs(parts[part] ?? 0) >= 0.005)
  .map(part => `${PARTS[part]} ${parts[part] > 0 ? "+" : "−"}${Math.abs(parts[part]).toFixed(2)}`);

function about(answer) {
  const parts = [];
  const add = (tag, fields) => parts.push(Object.assign(document.createElement(tag), fields));
  if (answer.duration) add("span", { textContent: minutes(answer.duration) });
  const credit = answer.attribution || answer.artist;
  if (credit) add("span", { textContent: credit, className: "credit" });
  if (answer.licence) add("span", { textContent: answer.licence, className: "badge" });
  if (/^https?:\/\//i.test(answer.link ?? "")) add("a", { textContent: "Source", href: answer.link, target: "_blank", rel: "noopener noreferrer" });
  return parts;
}

// ---- a sound and the clip, together
// The video leads: its play, pause and jumps are followed by the sound. Pressing the button of another answer
// goes on at the same moment with the other sound, which is the quickest way to compare two.

const pauseOthers = sound => cards.querySelectorAll("audio").forEach(other => { if (other !== sound) other.pause(); });
const setPairButtons = on => cards.querySelectorAll(".pair").forEach(button => { button.disabled = !on; });

async function startPair(sound) {
  const goesOn = state.sound !== null && !video.ended;
  if (state.sound === null) state.wasMuted = video.muted;
  mark(state.sound, false);
  state.sound = sound;
  mark(sound, true);
  pauseOthers(sound);
  video.muted = true;
  if (!goesOn) video.currentTime = 0;
  sound.currentTime = video.currentTime;
  float();
  try { await Promise.all([video.play(), sound.play()]); } catch (error) {
    if (error.name === "AbortError") return;                    // another button was pressed meanwhile
    stopPair();
    say("This sound cannot be played.", true);
  }
}

function stopPair() {
  if (state.sound === null) return;
  const sound = state.sound;
  state.sound = null;
  sound.pause();
  video.pause();
  video.muted = state.wasMuted;
  video.playbackRate = 1;
  mark(sound, false);
  float();
}

function mark(sound, on) {
  const card = sound?.closest(".card");
  if (!card) return;
  card.classList.toggle("playing", on);
  card.querySelector(".pair").setAttribute("aria-pressed", String(on));
  card.querySelector(".pair span").textContent = on ? "Stop" : "Play with the clip";
}

const follow = () => { if (state.sound) state.sound.currentTime = Math.min(video.currentTime, state.sound.duration || Infinity); };
video.addEventListener("seeked", follow);
video.addEventListener("play", () => { if (state.sound) state.sound.play().catch(() => {}); else pauseOthers(null); });
video.addEventListener("pause", () => { if (!video.ended) state.sound?.pause(); });
video.addEventListener("ended", stopPair);
// The two drift apart by some hundredths of a second. A jump of the sound would be heard, so the silent video
// runs a little slower or faster until they agree again.
video.addEventListener("timeupdate", () => {
  if (!state.sound || state.sound.seeking || video.seeking) return;
  const ahead = video.currentTime - state.sound.currentTime;
  if (Math.abs(ahead) > 0.3) follow();
  else video.playbackRate = Math.abs(ahead) < 0.02 ? 1 : 1 - ahead;
});

// Out of sight, the clip follows as a small picture for as long as it plays with a sound.
let inSight = true;
function float() {
  document.body.classList.toggle("floating", state.sound !== null && !inSight);
  const small = document.body.classList.contains("floating");
  video.controls = !small && find("unseen").hidden;
  find("stop").hidden = !small;
}
new IntersectionObserver(([entry]) => { inSight = entry.isIntersecting; float(); }, { threshold: 0.2 }).observe(find("clip"));
find("stop").addEventListener("click", stopPair);

find("top-k").addEventListener("input", showTopK);
loadSettings();
