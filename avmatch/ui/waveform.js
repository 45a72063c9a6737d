// The outline of a sound with the moment marked from which it plays. The moment can be dragged, and moved by keys.
import { getWaveform } from "./api.js";
import { make } from "./dom.js";
import { clock } from "./words.js";

const N = 240, HEIGHT = 40, SVG = "http://www.w3.org/2000/svg";

// The last moment at which the clip may start, so that there is sound to its end.
export function latestStart({ duration, loop, length }) {
  return loop ? Math.max(0, loop[1] - 0.1) : Math.max(0, duration - length);
}

function outline(peaks) {
  const top = Math.max(0.05, ...peaks), path = document.createElementNS(SVG, "path"), svg = document.createElementNS(SVG, "svg");
  const line = (peak, i) => { const half = Math.max(0.6, peak / top * HEIGHT / 2 - 1); return `M${i + 0.5} ${HEIGHT / 2 - half}v${2 * half}`; };
  path.setAttribute("d", peaks.map(line).join(""));
  svg.setAttribute("viewBox", `0 0 ${peaks.length} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return svg;
}

export class MomentPicker {
  // `choice` has `answer`, `start`, `recommended`, `loop`, `length` and `duration`; `onMove` is called after each move.
  constructor(choice, onMove) {
    Object.assign(this, { choice, onMove });
    this.range = make("div", { className: "range" });
    this.head = make("div", { className: "head-line", hidden: true });
    this.wave = make("div", { className: "wave", tabIndex: 0 }, this.range, this.head);
    this.wave.setAttribute("role", "slider");
    this.wave.setAttribute("aria-label", "Where in the sound the clip begins");
    this.words = make("span");
    this.back = make("button", { type: "button", className: "link", textContent: "Back to the best moment", hidden: true });
    this.node = make("div", {}, this.wave, make("p", { className: "row note" }, this.words, this.back));
    this.back.addEventListener("click", () => this.move(choice.recommended));
    this.wave.addEventListener("keydown", event => this.press(event));
    this.wave.addEventListener("pointerdown", event => this.grab(event));
    this.show();
    new IntersectionObserver(([entry], observer) => { if (entry.isIntersecting) observer.disconnect(), this.load(); }, { rootMargin: "200px" }).observe(this.wave);
  }

  async load() {
    try {
      const { duration, peaks } = await getWaveform(this.choice.answer.audio_id, N);
      this.choice.duration = duration;
      this.wave.prepend(outline(peaks));
    } catch { this.wave.prepend(make("span", { className: "no-outline", textContent: "No outline for this sound" })); }
    this.show();
  }

  show() {
    const { start, recommended, loop, length, duration } = this.choice, percent = time => `${100 * Math.min(1, time / duration)}%`;
    this.wave.classList.toggle("fixed", !duration);
    const end = loop ? Math.min(start + length, loop[1]) : Math.min(start + length, duration);
    const words = duration ? `From ${clock(start, 1)} of ${clock(duration)}` : `From ${clock(start, 1)}`;
    const about = loop && start + length > loop[1] ? `, repeats ${clock(loop[0], 1)}–${clock(loop[1], 1)}` : duration && start + length > duration + 0.1 ? ", then silence" : "";
    this.words.textContent = words + about;
    this.back.hidden = Math.abs(start - recommended) < 0.005;
    if (duration) Object.assign(this.range.style, { left: percent(start), width: `max(6px, ${percent(end - start)})` });
    const limits = { min: 0, max: duration ? latestStart(this.choice) : 0, now: start };
    for (const [name, value] of Object.entries(limits)) this.wave.setAttribute(`aria-value${name}`, value.toFixed(2));
    this.wave.setAttribute("aria-valuetext", words + about);
  }

  // A line where the sound is; null: it does not play.
  showHead(time) {
    this.head.hidden = time === null || !this.choice.duration;
    if (!this.head.hidden) this.head.style.left = `${100 * Math.min(1, time / this.choice.duration)}%`;
  }

  move(start) {
    if (!this.choice.duration) return;
    this.choice.start = Math.round(100 * Math.min(latestStart(this.choice), Math.max(0, start))) / 100;
    this.show();
    this.onMove(this.choice);
  }

  press(event) {
    const { start } = this.choice, step = event.shiftKey ? 1 : 0.1;
    const to = { ArrowLeft: start - step, ArrowDown: start - step, ArrowRight: start + step, ArrowUp: start + step,
      PageDown: start - 5, PageUp: start + 5, Home: 0, End: Infinity }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.move(to);
  }

  // Inside the marked range it is dragged from where it was taken; outside it jumps to the pointer first.
  grab(event) {
    if (event.button !== 0 || !this.choice.duration) return;
    const box = this.wave.getBoundingClientRect(), timeAt = x => (x - box.left) / box.width * this.choice.duration;
    if (event.target !== this.range) this.move(timeAt(event.clientX) - this.choice.length / 2);
    const held = timeAt(event.clientX) - this.choice.start, drag = move => this.move(timeAt(move.clientX) - held);
    this.wave.setPointerCapture(event.pointerId);
    this.wave.addEventListener("pointermove", drag);
    const drop = () => { this.wave.removeEventListener("pointermove", drag); };
    for (const end of ["pointerup", "pointercancel"]) this.wave.addEventListener(end, drop, { once: true });
  }
}
