// One answer as a card.
import { audioPath, picturePath } from "./api.js";
import { instantiate, make } from "./dom.js";
import { MomentPicker } from "./waveform.js";
import { clock, fileName, isWeb, sentence, termsOf, titleOf } from "./words.js";

const AHEAD = 2;   // sounds that are fetched before anyone plays them; a browser has few connections to give
const PARTS = { joint: "learned", words: "words", rhythm: "rhythm", hub: "too common" };

// Everything the page knows of an answer. What the service does not tell is left out: the sound then begins at 0.
export function choiceOf(answer, place, { clip, clipLength }) {
  const { start = 0, length = null, loop = null } = answer.moment ?? {};
  const sound = make("audio", { src: audioPath(answer.audio_id), preload: place < AHEAD ? "metadata" : "none" });
  return { answer, clip, place, sound, start, recommended: start, loop, length: clipLength || length || 15, duration: answer.duration ?? null };
}

// Fill in a card; `on` holds what its buttons do: pair, keep, video, move.
export function makeCard(choice, on) {
  const { answer, place, sound } = choice, title = titleOf(answer);
  const card = choice.card = instantiate("card"), part = name => card.querySelector(name);
  const picker = choice.picker = new MomentPicker(choice, on.move);
  card.style.setProperty("--place", place);
  part(".rank").textContent = place + 1;
  part(".title").textContent = title;
  part(".artist").textContent = answer.artist ?? "";
  part(".artist").hidden = !answer.artist;
  part(".why").textContent = why(answer);
  part(".why").hidden = !answer.reason;
  part(".facts").replaceChildren(...facts(answer));
  part(".moment").append(picker.node);
  part(".score").append(answer.score.toFixed(2));
  showMore(part, answer);
  if (answer.picture_url) part(".thumb").append(pictureOf(answer.audio_id, answer.picture_url));
  setLabel(part(".pair"), "Play with the clip", title);
  setLabel(part(".keep"), "Keep", title);
  setLabel(part(".action.video"), "Video", `download with ${title}`);
  part(".controls").append(soundButton(answer, title, part(".terms")));
  for (const [button, act] of [[".pair", on.pair], [".keep", on.keep], [".action.video", on.video]]) part(button).addEventListener("click", () => act(choice));
  card.append(sound);
  return card;
}

// A button says the same on each card; to those who do not see the card it says which sound it is about.
export function setLabel(button, words, about) {
  button.querySelector("span").textContent = words;
  button.setAttribute("aria-label", `${words}: ${about}`);
  return button;
}

// Pictures come from this service only. Behind another name than it knows, its own addresses lead elsewhere.
function pictureOf(id, url) {
  const { origin, href } = new URL(url, location.href);
  const image = make("img", { src: origin === location.origin ? href : picturePath(id), alt: "", loading: "lazy" });
  image.addEventListener("error", () => image.remove());
  return image;
}

// Where what is seen and what is heard did not meet, the reason only names the two sides, and is no "why".
const why = ({ reason }) => /^(seen|heard): /.test(reason ?? "") ? reason : reason ? `why: ${reason}` : "";

function facts(answer) {
  const terms = termsOf(answer), fact = (text, className = "") => make("li", { className, textContent: text });
  return [
    answer.good === false ? fact("weak match", "badge closed") : null,
    fact(terms.badge, `badge ${terms.kind}`),
    answer.duration ? fact(clock(answer.duration)) : null,
    answer.tempo ? fact(`${Math.round(answer.tempo)} bpm`) : null,
    answer.voice ? fact(answer.voice === "vocal" ? "with voice" : answer.voice) : null,
    answer.source === "music" ? fact("your music") : null,
    ...(answer.tags ?? []).slice(0, 5).map(tag => fact(tag, "tag")),
  ].filter(Boolean);
}

function showMore(part, answer) {
  const terms = termsOf(answer), shares = Object.entries(PARTS).filter(([key]) => Math.abs(answer.parts?.[key] ?? 0) >= 0.005);
  part(".parts").replaceChildren(...shares.flatMap(([key, label]) => {
    const value = answer.parts[key];
    return [make("dt", { textContent: label }), make("dd", { textContent: `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(2)}` })];
  }));
  part(".terms").textContent = terms.sentence;
  part(".terms").id = `terms-${part(".rank").textContent}`;
  const source = isWeb(answer.link) ? make("a", { href: answer.link, textContent: "Source", target: "_blank", rel: "noopener noreferrer" }) : null;
  part(".credit").append(...[answer.attribution ? `Credit: ${sentence(answer.attribution)} ` : "", source].filter(Boolean));
  const evidence = (answer.evidence ?? []).map(video => make("li", {}, video.picture_url ? pictureOf(video.video_id, video.picture_url) : null, make("span", { textContent: video.title || video.video_id })));
  part(".evidence").hidden = evidence.length === 0;
  part(".evidence ul").replaceChildren(...evidence);
}

// The sound alone is offered where its licence allows; elsewhere the button says why not.
function soundButton(answer, title, terms) {
  const { audio, sentence: reason } = termsOf(answer), icon = document.querySelector("#card").content.querySelector(".action.video svg").cloneNode(true);
  const about = `download ${title}`, parts = [icon, make("span")];
  if (audio) return setLabel(make("a", { className: "action sound", href: audioPath(answer.audio_id), download: fileName(title) }, ...parts), "Sound", about);
  const button = setLabel(make("button", { type: "button", className: "action sound", title: reason }, ...parts), "Sound", about);
  button.setAttribute("aria-disabled", "true");
  button.setAttribute("aria-describedby", terms.id);
  button.addEventListener("click", () => showMessage(button.closest(".card"), reason));
  return button;
}

export function showMessage(card, text, bad = false) {
  const message = card.querySelector(".message");
  message.textContent = text;
  message.classList.toggle("bad", bad);
}

export function markPlaying(choice, { chosen, playing }) {
  const button = choice.card.querySelector(".pair"), on = chosen && playing;
  choice.card.classList.toggle("playing", chosen);
  button.setAttribute("aria-pressed", String(on));
  setLabel(button, on ? "Pause" : "Play with the clip", titleOf(choice.answer));
}
