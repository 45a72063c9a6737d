"""How well changed sounds are found again, and whether different ones are kept apart.

    python benchmarks/fingerprint.py [--clips DIR] [--queries N] [--held-out] [--json]

The catalogue are the sounds of a folder of videos, or of generated samples. Queries are stretches of them, changed. A query is
found if its clip, or another clip of its track, is among the answers; any other answer is false. What tracks a folder holds is
not known, so the groups that are found in it are taken for the truth, and printed: one has to listen to say whether they are.
"""
import argparse
import io
import json
import time
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soxr

from avmatch.config import MediaError
from avmatch.fingerprint import SoundIndex, fingerprint, match_sound, place_sounds
from avmatch.media import level_db, read_audio
from avmatch.samples import clip_sound, plan_samples

SR = 22_050  # what stage 01 keeps


def load_sounds(folder: str) -> dict[str, np.ndarray]:
    "The sounds of a folder of videos that are not silent; without a folder those of generated clips."
    if not folder: return {c.video_id: soxr.resample(clip_sound(c), 44_100, SR) for c in plan_samples(40, 3, bad=False)}
    sounds = {}
    for path in sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".mp4", ".mov", ".webm", ".mkv", ".m4v")):
        try: sounds[path.stem] = read_audio(path, sr=SR)
        except MediaError as error: print(f"left out: {error}")
    return {name: y for name, y in sounds.items() if level_db(y) > -60}


def through(y: np.ndarray, codec: str, container: str, bit_rate: int) -> np.ndarray:
    "A sound after it was encoded and decoded."
    rate, file = 48_000 if codec == "libopus" else SR, io.BytesIO()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(y[None], np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SR, 0, Fraction(1, SR)
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono", bit_rate=bit_rate)
        context = stream.codec_context
        context.open()
        resampler = av.AudioResampler(format=context.format, layout="mono", rate=rate, frame_size=context.frame_size)
        for piece in (*resampler.resample(frame), *resampler.resample(None), None):
            for packet in stream.encode(piece): output.mux(packet)
    file.seek(0)
    with av.open(file) as opened:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SR)
        pieces = [p.to_ndarray() for f in (*opened.decode(audio=0), None) for p in resampler.resample(f)]
    return np.concatenate(pieces, axis=1)[0]


def low_pass(y: np.ndarray, cutoff: float) -> np.ndarray:
    "A sound without what lies above the cutoff (Hz)."
    from scipy.signal import butter, sosfilt
    return sosfilt(butter(8, cutoff, fs=SR, output="sos"), y).astype(np.float32)


def mix(y: np.ndarray, other: np.ndarray, below_db: float) -> np.ndarray:
    "Two sounds, the other so much softer; it begins anew where it is too short."
    other = np.resize(other, len(y))
    return y + other * 10 ** ((level_db(y) - level_db(other) - below_db) / 20)


def aac(y: np.ndarray) -> np.ndarray: return through(y, "aac", "adts", 64_000)


# name -> (seconds of the stretch, change(y, another clip's sound, generator), whether speeds are tried)
CHANGES = {
    "crop 6 s": (6, lambda y, other, rng: y, False),
    "crop 3 s": (3, lambda y, other, rng: y, False),
    "crop 3 s, AAC 64k": (3, lambda y, other, rng: aac(y), False),
    "AAC 64k": (6, lambda y, other, rng: aac(y), False),
    "MP3 64k": (6, lambda y, other, rng: through(y, "libmp3lame", "mp3", 64_000), False),
    "Opus 32k": (6, lambda y, other, rng: through(y, "libopus", "ogg", 32_000), False),
    "gain -20 dB": (6, lambda y, other, rng: aac(0.1 * y), False),
    "low-pass 4 kHz": (6, lambda y, other, rng: aac(low_pass(y, 4_000)), False),
    "noise 10 dB below": (6, lambda y, other, rng: aac(mix(y, rng.standard_normal(len(y)), 10)), False),
    "voice 6 dB below": (6, lambda y, other, rng: aac(mix(y, other, 6)), False),
    "voice as loud": (6, lambda y, other, rng: aac(mix(y, other, 0)), False),
    "6 % faster": (6, lambda y, other, rng: aac(soxr.resample(y, SR, SR / 1.06)), True),
}


def stretch(y: np.ndarray, seconds: float, rng: np.random.Generator) -> np.ndarray | None:
    "A random stretch; None: the sound is too short, or silent there."
    start = rng.integers(max(len(y) - int(seconds * SR), 0) + 1)
    part = y[start:start + int(seconds * SR)]
    return part if len(part) == int(seconds * SR) and level_db(part) > -50 else None


def ask(change: str, names: list[str], sounds: dict[str, np.ndarray], group: dict[str, str], index: SoundIndex) -> dict[str, float]:
    "Recall and precision of one kind of query."
    seconds, function, speeds = CHANGES[change]
    counts, rng, everyone = defaultdict(int), np.random.default_rng(0), list(sounds)
    for name in names:
        part = stretch(sounds[name], seconds, rng)
        voice = everyone[rng.integers(len(everyone))]
        other = stretch(sounds[voice], 3, rng)
        if part is None or other is None: continue
        answers = [group[m.name] for m in match_sound(function(part, other, rng), index, sr=SR, speeds=speeds)]
        right = [answer in (group[name], group[voice] if "voice" in change else "") for answer in answers]   # both can be heard
        counts["queries"] += 1
        counts["found"] += group[name] in answers
        counts["right"] += sum(right)
        counts["answers"] += len(right)
        counts["queries with a false answer"] += not all(right)
    return dict(counts)


def measure(sounds: dict[str, np.ndarray], truth: dict[str, str], n_queries: int, held_out: bool) -> dict:
    "Everything that is printed."
    began = time.perf_counter()
    prints = {name: fingerprint(y, sr=SR) for name, y in sounds.items()}
    taken, index, names = time.perf_counter() - began, SoundIndex(), list(sounds)
    for name, sound in prints.items(): index.add(name, sound)
    index.find(next(iter(prints.values())))   # sorts
    began = time.perf_counter()
    for sound in prints.values(): index.find(sound)
    lookup = time.perf_counter() - began
    places = place_sounds(list(prints.values()))
    group, members = {name: names[p.representative] for name, p in zip(names, places, strict=True)}, defaultdict(list)
    for name, representative in group.items(): members[representative].append(name)
    chosen = names[1::2] if held_out else names
    chosen = sorted(np.random.default_rng(1).permutation(chosen)[:n_queries].tolist())
    return {"clips": len(sounds), "seconds": round(sum(map(len, sounds.values())) / SR, 1),
            "groups": [m for m in members.values() if len(m) > 1],
            "fingerprint_ms_per_10s": round(1e4 * taken / sum(map(len, sounds.values())) * SR, 2),
            "lookup_ms": round(1e3 * lookup / len(sounds), 2),
            "changes": {change: ask(change, chosen, sounds, truth or group, index) for change in CHANGES}}


def show(result: dict) -> None:
    "Print the result for people."
    print(f"{result['clips']} clips, {result['seconds']} s; fingerprint {result['fingerprint_ms_per_10s']} ms for 10 s of sound, "
          f"lookup {result['lookup_ms']} ms")
    print(f"groups: {'; '.join(', '.join(members) for members in result['groups']) or 'none'}")
    print(f"{'':22}{'queries':>8}{'recall':>8}{'precision':>11}{'with a false answer':>21}")
    for change, c in result["changes"].items():
        precision = f"{c['right'] / c['answers']:.3f}" if c.get("right") else "-"
        print(f"{change:22}{c['queries']:8}{c['found'] / c['queries']:8.2f}{precision:>11}{c['queries with a false answer']:21}")


def main() -> None:
    "Read the arguments, measure, print."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", default="", metavar="DIR", help="folder of videos (default: generated samples)")
    parser.add_argument("--queries", type=int, default=60, metavar="N", help="of each kind, at most (default: 60)")
    parser.add_argument("--held-out", action="store_true", help="only clips at odd places: the thresholds were chosen with the others")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    truth = {} if args.clips else {c.video_id: c.track.track_id for c in plan_samples(40, 3, bad=False)}
    result = measure(load_sounds(args.clips), truth, args.queries, args.held_out)
    if args.json: print(json.dumps(result, indent=1))
    else: show(result)


if __name__ == "__main__": main()
