// Talks to the service. Every failure becomes an Error whose message is a sentence.
import { askForToken } from "./door.js";
import { sentence, UNREACHABLE } from "./words.js";

const path = (kind, id) => `${kind}/${encodeURIComponent(id)}`;

export const audioPath = id => path("audio", id);
export const picturePath = id => path("picture", id);

async function getJson(address) {
  const response = await fetch(address).catch(() => { throw unreachable(); });
  if (response.status === 401 && await askForToken()) return getJson(address);
  if (!response.ok) throw failure(response.status, await response.json().catch(() => null), response.headers.get("Retry-After"));
  return response.json();
}

export const getSettings = () => getJson("settings");
export const getCatalogue = () => getJson("tracks?limit=1000");
export const getWaveform = (id, n) => getJson(`${path("waveform", id)}?n=${n}`);

const unreachable = () => Object.assign(new Error(UNREACHABLE), { canRetry: true });

function failure(status, problem, retryAfter) {
  const said = status === 401 ? "This service asks for a token." : typeof problem?.detail === "string" ? sentence(problem.detail) : `The server answered with an error (${status}). Its log says more.`;
  return Object.assign(new Error(said), { canRetry: status === 401 || status === 429 || status >= 500, wait: Number(retryAfter) || 0 });
}

// Send a clip. XMLHttpRequest, since fetch cannot tell how much has been sent.
function send(address, clip, options) {
  const { type, signal, onProgress } = options;
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(), body = new FormData();
    body.append("file", clip, clip.name);
    request.open("POST", address);
    request.responseType = type;
    request.upload.onprogress = event => { if (event.lengthComputable) onProgress(event.loaded / event.total); };
    request.upload.onload = () => onProgress(1);
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException("Stopped.", "AbortError"));
    request.onload = async () => {
      if (request.status === 200 && request.response !== null) return resolve(request.response);
      if (request.status === 401 && await askForToken()) return resolve(send(address, clip, options));
      const problem = type === "blob" ? await request.response?.text().then(JSON.parse).catch(() => null) : request.response;
      reject(failure(request.status, problem, request.getResponseHeader("Retry-After")));
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

// The sounds that fit a clip; `filters` are pairs of names and values.
export async function recommend(clip, topK, filters, options) {
  const query = new URLSearchParams([["top_k", topK], ["details", "true"], ...filters]);
  const answers = await send(`recommend?${query}`, clip, { type: "json", ...options });
  if (!Array.isArray(answers)) throw new Error("The server answered with something that is no list of sounds. Is it another version?");
  return answers;
}

// The clip with a sound, as an MP4 file.
export function render(clip, { answer, start, loop }, { gains, fades }, options) {
  const query = new URLSearchParams({ audio_id: answer.audio_id, offset: start.toFixed(3), own_gain: gains.own.toFixed(3), music_gain: gains.music.toFixed(3),
    fade_in: fades.in, fade_out: fades.out });
  if (loop) query.set("loop_start", loop[0]), query.set("loop_end", loop[1]);
  return send(`render?${query}`, clip, { type: "blob", ...options });
}
