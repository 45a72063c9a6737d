"""What becomes of damaged files: each must end as done, or left out for a reason with a name.

    python benchmarks/fuzz.py [--files N] [--clips DIR] [--workers N] [--seed N] [--json]

Good files of several containers and codecs, generated or those of a folder, are damaged at random and go through stage 01, in
batches. After each batch it is checked that every clip is accounted for, that those that are done have all their files, that
those that are not have left none, and that nothing half written lies about.
"""
import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))   # for tools, which are not installed

from avmatch.config import ProcessConfig
from avmatch.failures import FAILURES
from avmatch.media import read_wav
from avmatch.process import list_clips, process_clips
from avmatch.records import make_record
from avmatch.state import Item, working
from avmatch.workspace import Workspace
from tools.media_files import make_file

BATCH = 100
KINDS = (   # container, codec of pictures, codec of sound
    ("mp4", "libx264", "aac"), ("mov", "mjpeg", "pcm_s16le"), ("mp4", "libx265", "aac"), ("mkv", "libx264", "flac"),
    ("webm", "libvpx-vp9", "libopus"), ("mkv", "libsvtav1", "libopus"), ("avi", "mpeg4", "libmp3lame"), ("ts", "libx264", "ac3"),
    ("flv", "flv", "aac"), ("mkv", "ffv1", "pcm_f32le"))


def make_seeds(folder: Path) -> list[Path]:
    "Good files, small, of all kinds."
    folder.mkdir(parents=True, exist_ok=True)
    return [make_file(folder / f"{codec}_{sound}.{suffix}", codec=codec, sound=sound, sr=48_000 if sound == "libopus" else 44_100,
                      pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p", size=(160, 120),
                      tick=Fraction(1, 10) if suffix == "avi" else Fraction(1, 1000)) for suffix, codec, sound in KINDS]


def flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    for i in rng.integers(len(data), size=int(10 ** rng.uniform(0, 2.5))): data[i] ^= 1 << int(rng.integers(8))


def cut_off(data: bytearray, rng: np.random.Generator) -> None: del data[int(rng.integers(len(data))):]
def append_noise(data: bytearray, rng: np.random.Generator) -> None: data += rng.bytes(int(rng.integers(1, 10_000)))


def stretch(data: bytearray, rng: np.random.Generator) -> slice:
    "A stretch of the file, most often short."
    start = int(rng.integers(len(data)))
    return slice(start, start + int(10 ** rng.uniform(0, 4)))


def delete(data: bytearray, rng: np.random.Generator) -> None: del data[stretch(data, rng)]


def overwrite(data: bytearray, rng: np.random.Generator) -> None:
    where = stretch(data, rng)
    n = len(data[where])
    data[where] = rng.bytes(n) if rng.integers(2) else bytes(n)


def repeat(data: bytearray, rng: np.random.Generator) -> None:
    piece, at = data[stretch(data, rng)], int(rng.integers(len(data)))
    data[at:at] = piece


def edit_header(data: bytearray, rng: np.random.Generator) -> None:
    "Numbers at the front or the back, where the tables of contents are, become extreme ones."
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(min(len(data), 3000)))
        at = at if rng.integers(2) else max(0, len(data) - 4 - at)
        data[at:at + 4] = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0", b"\0\0\0\1", rng.bytes(4)][int(rng.integers(6))]


DAMAGE = (flip_bits, cut_off, append_noise, delete, overwrite, repeat, edit_header)


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    "A file, damaged in one way or in several."
    damaged = bytearray(data)
    for way in rng.choice(len(DAMAGE), size=int(rng.choice([1, 1, 1, 2, 3]))):
        if damaged: DAMAGE[way](damaged, rng)
    return bytes(damaged)


def check(item: Item, workspace: Workspace) -> None:
    "That a clip is accounted for, with all its files or none."
    frames, wav = workspace.frames / item.video_id, workspace.audio / f"{item.video_id}.wav"
    if item.state == "done":
        assert len(list(frames.iterdir())) == item.result["num_frames"] >= 1, item
        y, _ = read_wav(wav)
        assert np.isfinite(y).all() and len(y), item
    else:
        assert item.state == "skipped" and item.reason in FAILURES and item.detail, item
        assert not frames.exists() and not wav.exists(), item


def run_batches(n_files: int, seeds: list[Path], folder: Path, config: ProcessConfig, seed: int = 0) -> Iterator[list[Item]]:
    "Damage files and let stage 01 have them; the states of a batch of clips at a time."
    for start in range(0, n_files, BATCH):
        workspace, records = Workspace(folder / f"batch{start}"), []
        workspace.videos.mkdir(parents=True)
        for i in range(start, min(start + BATCH, n_files)):
            source = seeds[i % len(seeds)]
            records.append(make_record(f"f{i:05d}", file=f"f{i:05d}{source.suffix}"))
            (workspace.videos / records[-1]["file"]).write_bytes(damage(source.read_bytes(), np.random.default_rng([seed, i])))
        with working(workspace, "process") as state:
            process_clips(records, config, state=state, workspace=workspace)
            entries, skipped = list_clips(records, state=state, workspace=workspace)
            items = state.items("process")
        assert len(entries) + len(skipped) == len(records) == len(items)
        for item in items: check(item, workspace)
        assert not list(workspace.root.rglob("*.partial"))
        shutil.rmtree(workspace.root)
        yield items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000, help="damaged files")
    parser.add_argument("--clips", default="", help="folder of good files to damage (default: generated ones of ten kinds)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    counts, began, most = Counter(), time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        clips = sorted(p for p in Path(args.clips).iterdir() if p.suffix in (".mp4", ".mov", ".webm", ".mkv")) if args.clips else []
        seeds = clips or make_seeds(Path(folder) / "seeds")
        config = ProcessConfig(workers=args.workers, timeout=30.0, memory_mb=1000)
        for items in run_batches(args.files, seeds, Path(folder), config, args.seed):
            counts.update(item.reason or item.state for item in items)
            most = max(most, psutil.Process().memory_info().rss / 1e6)
    seconds = time.monotonic() - began
    figures = {"files": sum(counts.values()), "outcomes": dict(counts.most_common()), "seconds": round(seconds, 1),
               "files_per_second": round(sum(counts.values()) / seconds, 1), "workers_lost": counts["crashed"] + counts["timed_out"],
               "memory_of_main_process_mb": round(most)}
    if args.json: return print(json.dumps(figures, indent=2))
    for outcome, n in figures.pop("outcomes").items(): print(f"{outcome:>18} {n:6}")
    print(", ".join(f"{name} {value}" for name, value in figures.items()))


if __name__ == "__main__": main()
