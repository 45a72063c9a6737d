"""How often the moment of a clip is found again, when its beginning is hidden.

    python benchmarks/moments.py --clips DIR      # any folder of videos with their own sound
    python benchmarks/moments.py                  # generated samples
    options: --seconds 6  --at-least 9  --cuts 8  --samples 24  --seed 0  --json

From each clip that is long enough (--at-least: half as long again as a cut), stretches of the picture are cut at random places. Each
is placed within the clip's whole sound, as a track of a library would be, and the start that is found is compared with the true one.
`chance` takes any start with equal probability. Intervals (95 %) come from a bootstrap over clips.

The generated samples are cut on the beat of music that keeps its tempo. They fit at every beat, so that little more than chance is to
be expected of them; they show that the benchmark runs.
"""
import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from avmatch.config import MediaError
from avmatch.media import read_audio
from avmatch.metrics import bootstrap_interval
from avmatch.moments import fit_scores, loudest_start, snap_start
from avmatch.motion import MotionEncoder
from avmatch.rhythm import COMPARISONS, RATE, prepare_envelope
from avmatch.rhythm_features import SR, RhythmEncoder
from avmatch.samples import make_samples

WITHIN = (0.25, 0.5, 1.0)   # seconds


def curves(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    "The raw curves of a video's picture and of its sound, equally long, by their names."
    sides = []
    encoded = ((MotionEncoder, MotionEncoder().encode_file(path)), (RhythmEncoder, RhythmEncoder().encode(read_audio(path, sr=SR))))
    for encoder, rows in encoded:
        ends = np.cumsum(list(encoder.groups.values()))
        sides.append({g: rows.values[:, end - w:end].reshape(-1) for (g, w), end in zip(encoder.groups.items(), ends) if w == RATE})
    n = min(len(curve) for side in sides for curve in side.values())
    return tuple({name: curve[:n] for name, curve in side.items()} for side in sides)


def read_clips(folder: Path) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    "The curves of all videos that can be read."
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in (".mp4", ".mov", ".webm", ".mkv"): continue
        try: yield curves(path)
        except MediaError as e: print(f"left out: {e}", file=sys.stderr)


def prepared(side: dict[str, np.ndarray], k: int, start: int, n: int) -> np.ndarray:
    "A stretch of the curves as the comparisons want it; prepared after the cut, which so knows nothing of what was around it."
    return np.stack([prepare_envelope(side[pair[k]][start:start + n], pair[1]) for pair in COMPARISONS])


def starts_found(clip: np.ndarray, track: np.ndarray) -> dict[str, int]:
    "Where the clip is placed, by each way of doing it."
    scores, n = fit_scores(clip, track), clip.shape[1]
    best = int(scores.argmax())
    return {"moment": snap_start(scores, track[0], best=best), "without the step to a beat": best,
            "loudest stretch": loudest_start(track[-1], n), "beginning of the track": 0}


def judge(clips: Iterator, *, seconds: float, at_least: float, n_cuts: int, seed: int) -> dict:
    "Shares of cuts placed within some seconds of where they were, for each way, and how many there were."
    rng, n = np.random.default_rng(seed), round(seconds * RATE)
    near, groups, n_clips = {}, [], 0
    for picture, sound in clips:
        m = len(sound["level"])
        if m < at_least * RATE: continue
        n_clips += 1
        track = prepared(sound, 1, 0, m)
        for true in rng.integers(0, m - n + 1, n_cuts):
            groups.append(n_clips)
            within = [np.abs(np.arange(m - n + 1) - true) <= t * RATE for t in WITHIN]     # (3, n_starts)
            for way, start in starts_found(prepared(picture, 0, true, n), track).items():
                near.setdefault(way, []).append([w[start] for w in within])
            near.setdefault("chance", []).append([w.mean() for w in within])
    if not groups: sys.exit(f"no clip is as long as {at_least:g} s; a smaller --seconds helps")
    tell = lambda x: {"share": round(float(x.mean()), 4), "interval": [round(float(v), 4) for v in bootstrap_interval(x, groups)]}
    shares = {way: {f"{t:g} s": tell(np.array(rows, float)[:, i]) for i, t in enumerate(WITHIN)} for way, rows in near.items()}
    return {"clips": n_clips, "cuts": len(groups), "seconds": seconds, "shares": shares}


def show(result: dict) -> None:
    "Print the table."
    print(f"{result['cuts']} cuts of {result['seconds']:g} s from {result['clips']} clips: share placed within")
    print(f"{'':<28}" + "".join(f"{t:>7g} s {'(95 %)':<14}" for t in WITHIN))
    for way, shares in result["shares"].items():
        cells = (f"{s['share']:>9.3f} {'({:.3f}-{:.3f})'.format(*s['interval']):<14}" for s in shares.values())
        print(f"{way:<28}" + "".join(cells).rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of videos (default: generated samples)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a cut")
    parser.add_argument("--at-least", type=float, help="shortest clip (s; default: 1.5 times --seconds)")
    parser.add_argument("--cuts", type=int, default=8, help="cuts from each clip")
    parser.add_argument("--samples", type=int, default=24, help="clips to generate where no folder is given")
    parser.add_argument("--seed", type=int, default=0, help="of the places that are cut")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.clips and not options.clips.is_dir(): sys.exit(f"--clips {options.clips}: there is no such folder")
    with tempfile.TemporaryDirectory() as folder:
        if not options.clips: make_samples(folder, n_tracks=options.samples, clips_per_track=1, bad=False)
        at_least = max(options.seconds, options.at_least or 1.5 * options.seconds)
        result = judge(read_clips(options.clips or Path(folder)), seconds=options.seconds, at_least=at_least,
                       n_cuts=options.cuts, seed=options.seed)
    if options.json: print(json.dumps(result, indent=2))
    else: show(result)


if __name__ == "__main__": main()
