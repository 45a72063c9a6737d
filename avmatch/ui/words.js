// Numbers, times and terms in the words of people.

export const megabytes = bytes => bytes < 1e5 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
export const counted = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

export const UNREACHABLE = "The server cannot be reached. Is it still running?";

// 600 -> "10 minutes", 90 -> "90 seconds".
export const lasting = seconds => seconds >= 120 && seconds % 60 === 0 ? counted(seconds / 60, "minute") : counted(seconds, "second");

// 75.25 -> "1:15", and with tenths "1:15.3".
export function clock(seconds, digits = 0) {
  const whole = Number(Math.max(0, seconds || 0).toFixed(digits)), rest = (whole % 60).toFixed(digits);
  return `${Math.floor(whole / 60)}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
}

// What the server says begins small now and then, and not always ends: "no sound: " -> "No sound."
export function sentence(text) {
  const trimmed = String(text).trim();
  return trimmed && trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?…]$/.test(trimmed) ? "" : ".");
}

const PUBLIC = /\b(cc0|cc zero|public ?domain|pdm)\b/, COMMONS = /\b(cc by|licenses by|creative commons attribution)\b/;
const NO_CHANGES = /\b(nd|no ?deriv\w*)\b/, NO_TRADE = /\b(nc|non ?commercial)\b/;

// What a licence allows: a few words for the badge, whether the sound may be handed on, and a sentence.
export function termsOf({ licence, attribution, artist }) {
  if (!licence) {
    return { badge: "licence unknown", kind: "closed", audio: false,
      sentence: "Its licence is not known, so the sound alone is not offered. Ask its maker before you publish the video." };
  }
  const text = licence.toLowerCase().replace(/[^a-z0-9]+/g, " ");
  if (PUBLIC.test(text)) return { badge: licence, kind: "free", audio: true, sentence: "Free to use; no credit is asked for." };
  if (!COMMONS.test(text)) {
    return { badge: licence, kind: "closed", audio: false,
      sentence: `The licence “${licence}” does not say that the sound may be handed on, so it is not offered alone. Ask its maker before you publish the video.` };
  }
  const credit = attribution || artist;
  const limits = [NO_TRADE.test(text) && "not for commercial use", NO_CHANGES.test(text) && "not under a video without asking"].filter(Boolean);
  return { badge: licence, kind: limits.length ? "limited" : "free", audio: true,
    sentence: `Free to use ${credit ? `if you name ${credit}` : "if you name its maker"}${limits.length ? `, but ${limits.join(" and ")}` : ""}.` };
}

// Only addresses of this kind become links: a catalogue may hold any text.
export const isWeb = link => /^https?:\/\//i.test(link ?? "");

export const titleOf = answer => answer.title || answer.audio_id;
export const fileName = text => text.replace(/[^\p{L}\p{N} ._-]/gu, "").trim().slice(0, 60) || "avmatch";
