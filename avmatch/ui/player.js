// Plays the clip together with one of several sounds, in step.
//
// The clip leads: where it is tells where the sound has to be. Small differences are taken back by the pictures,
// which run a little slower or faster for a moment, as a jump of the sound would be heard. Large ones (a jump in
// the clip, the seam of a loop) are taken back by a jump of the sound.

const FAR = 0.25, APART = 0.1, NOTICE = 0.03, CALM = 0.01;   // s; what is far apart jumps at once, what is apart not twice in a second
const MOST = 0.1, LONGEST_DELAY = 0.2;                       // largest change of speed; s
const SETTLED = 150, REST = 1000, PATIENCE = 200;            // ms after a jump; ms that the clip runs on without its sound

// Where a sound is when the clip is at `time`; both in seconds.
export function soundTime({ start, loop }, time) {
  const at = start + time;
  return loop && at >= loop[1] ? loop[0] + (at - loop[0]) % (loop[1] - loop[0]) : at;
}

// Loudness of both for a balance from 0 (the clip's own sound only) to 1 (the music only), of equal power in between.
export function gainsOf(balance) {
  const round = x => Math.round(x * 1000) / 1000;
  return { own: round(Math.cos(balance * Math.PI / 2)), music: round(Math.sin(balance * Math.PI / 2)) };
}

// How much of the music is heard at a moment of a clip of this length, from 0 to 1: the service renders the same fades.
export function fadeAt(time, length, fades) {
  const rise = fades.in ? Math.min(1, time / fades.in) : 1, fall = fades.out ? Math.min(1, Math.max(0, length - time) / fades.out) : 1;
  return rise * fall;
}

export class Player extends EventTarget {
  constructor(video) {
    super();
    this.video = video;
    this.current = null;      // what is heard: an object with `sound`, `start` and `loop`, or null for the clip's own sound
    this.wanted = false;      // whether it shall play
    this.hasPicture = false;  // whether the browser can show the clip
    this.gains = gainsOf(1);
    this.fades = { in: 0, out: 0 };   // of the music (s)
    this.delay = 0;           // what a jump of the sound costs here (s), learned from each
    this.placed = 0;          // when the last jump was (ms)
    this.learns = false;      // whether there is something to learn from it
    this.waits = null;        // since when the sound waits for its bytes (ms)
    this.turn = 0;            // counts choices, so that an overtaken one gives up
    video.addEventListener("seeked", () => this.follow());
    video.addEventListener("timeupdate", () => this.step());   // also in a tab in the background, where no frames are drawn
  }

  get time() { return this.hasPicture ? this.video.currentTime : this.current ? Math.max(0, this.current.sound.currentTime - this.current.start) : 0; }
  get length() { return this.hasPicture && this.video.duration || Infinity; }
  get gainsNow() { return this.current ? this.gains : { own: 1, music: 0 }; }

  changed() { this.dispatchEvent(new Event("change")); }

  setClip(hasPicture) {
    this.reset();
    this.hasPicture = hasPicture;
  }

  reset() {
    this.pause();
    this.current = null;
    this.applyGains();
    this.changed();
  }

  setBalance(balance) {
    this.gains = gainsOf(balance);
    this.applyGains();
  }

  setFades(fades) {
    this.fades = fades;
    this.applyGains();
  }

  applyGains() {
    const { own, music } = this.gainsNow;
    this.video.volume = own;
    this.video.muted = own === 0;    // phones that keep loudness to themselves still switch
    if (this.current) this.current.sound.volume = music * fadeAt(this.time, this.length, this.fades), this.current.sound.muted = music === 0;
  }

  // Hear another sound from the same moment of the clip on. The former plays until the new one does.
  async choose(next) {
    const former = this.current, turn = ++this.turn;
    if (next === former) return;
    if (next && this.wanted) {
      next.sound.muted = true;
      this.place(next);
      try { await next.sound.play(); } catch (error) { if (turn === this.turn) this.fail(error); return; }
      if (turn !== this.turn) { if (next !== this.current) next.sound.pause(); return; }
    }
    former?.sound.pause();
    this.current = next;
    this.video.playbackRate = 1;
    this.applyGains();
    this.follow();
    if (!next && !this.hasPicture) this.pause();
    this.changed();
  }

  async play() {
    const turn = ++this.turn, waits = [];
    this.wanted = true;
    this.applyGains();
    this.changed();
    if (this.current && this.isHeard()) this.place(this.current), waits.push(this.current.sound.play());
    if (this.hasPicture) waits.push(this.video.play());
    try { await Promise.all(waits); } catch (error) { if (turn === this.turn) this.fail(error); return; }
    this.run();
  }

  pause() {
    ++this.turn;
    this.wanted = false;
    this.video.pause();
    this.video.playbackRate = 1;
    this.current?.sound.pause();
    this.changed();
  }

  toggle() { return this.wanted ? this.pause() : this.play(); }

  seek(time) { if (this.hasPicture) this.video.currentTime = time; }

  fail(error) {
    if (error.name === "AbortError") return;    // paused before it began
    this.pause();
    this.dispatchEvent(new CustomEvent("fail", { detail: "This sound cannot be played. It may have been removed from the server." }));
  }

  // Whether the sound still has something to give at this moment of the clip.
  isHeard() { return soundTime(this.current, this.time) < (this.current.sound.duration || Infinity) - 0.05; }

  // A sound that jumps while the clip runs on comes late, so it jumps a little further.
  place(choice) {
    const runs = this.hasPicture && !this.video.paused;
    choice.sound.currentTime = soundTime(choice, (this.hasPicture ? this.video.currentTime : 0) + (runs ? this.delay : 0));
    Object.assign(this, { placed: performance.now(), learns: runs });
  }

  learnDelay(ahead) {
    if (!this.learns || performance.now() - this.placed < SETTLED) return;
    if (Math.abs(ahead) < FAR) this.delay = Math.max(0, Math.min(LONGEST_DELAY, this.delay + ahead / 2));
    this.learns = false;
  }

  // Put the sound where the clip is.
  follow() {
    if (!this.current || !this.hasPicture) return;
    if (this.isHeard()) this.place(this.current);
    this.step();
  }

  run() {
    if (this.running) return;
    this.running = true;
    const frame = () => {
      this.step();
      this.dispatchEvent(new Event("tick"));
      if (this.wanted) requestAnimationFrame(frame);
      else this.running = false;
    };
    requestAnimationFrame(frame);
  }

  step() {
    const { video, current } = this;
    if (!this.wanted || !current) return;
    const { sound } = current;
    this.applyGains();
    if (!this.hasPicture) return this.loopAlone(current);
    if (video.seeking) return;
    if (!this.isHeard()) return this.hold(false), sound.pause();
    if (sound.paused) return void sound.play().catch(error => this.fail(error));
    if (this.holds(sound)) return;
    const ahead = soundTime(current, video.currentTime) - sound.currentTime;
    this.learnDelay(ahead);
    if (Math.abs(ahead) > (performance.now() - this.placed < REST ? FAR : APART)) this.place(current);
    else if (Math.abs(ahead) > NOTICE) video.playbackRate = 1 - Math.max(-MOST, Math.min(MOST, Math.round(ahead * 100) / 50));
    else if (Math.abs(ahead) < CALM) video.playbackRate = 1;
  }

  // While a sound waits for its bytes, the clip waits too, if it takes long enough to be noticed.
  holds(sound) {
    const now = performance.now(), waits = sound.seeking || sound.readyState < 3;
    this.waits = waits ? this.waits ?? now : null;
    const holds = waits && now - this.waits > PATIENCE;
    if (holds) this.learns = false;    // how long bytes take says nothing about the next jump
    this.hold(holds);
    return waits;
  }

  hold(on) {
    if (on && !this.video.paused) this.video.pause();
    else if (!on && this.video.paused) this.video.play().catch(error => this.fail(error));
  }

  // Without a picture the sound plays by itself.
  loopAlone({ sound, loop, start }) {
    if (loop && sound.currentTime >= loop[1]) sound.currentTime = loop[0];
    if (sound.ended) sound.currentTime = start, this.pause();
  }
}
