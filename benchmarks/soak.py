"""Thousands of clips, a tenth of them faulty in known ways, through the first two stages: speed, memory, and whether all are accounted for.

    python benchmarks/soak.py [--items N] [--json] [-p stage.key=value ...]

A few dozen short clips of many formats are generated and multiplied into files that differ in their last bytes; every tenth item
is one of the `FAULTS`, whose reason is known beforehand. A fresh process takes the folder through stages 00 and 01 with the
default preset, while this one looks at the memory of it and its workers, and at how far the state says it is. In the end the
state of each item is compared with what it should be. The exit code is 1 if anything is not explained.
"""
import argparse
import csv
import json
import multiprocessing
import os
import sqlite3
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))   # for tools, which are not installed

from avmatch.config import Config, load_config, parse_changes
from avmatch.ingest import run_ingest
from avmatch.media import write_video
from avmatch.process import run_process
from avmatch.state import open_state
from avmatch.workspace import Workspace, load_manifest
from tools.media_files import make_file

SECONDS, SIZE, RATE, SR = 2.0, (64, 48), 10, 44_100   # of a clip: length, picture, pictures a second, sampling rate
N_TONES = 24                                          # plain clips, each of another melody
ODD = (   # suffix, and what make_file is told
    (".mov", {"rotation": 90}), (".mov", {"sound": "pcm_s16le", "layout": "stereo"}),
    (".mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none"}}), (".mp4", {"pix_fmt": "yuv420p10le"}),
    (".mp4", {"times": [0, 40, 900, 930, 1900]}),   # ms: a camera that is now fast, now slow
    (".mkv", {"sound": "flac"}), (".mkv", {"sound": "pcm_s16le", "layout": "5.1"}),
    (".webm", {"codec": "libvpx-vp9", "sound": "libopus", "sr": 48_000}),
    (".avi", {"codec": "mpeg4", "sound": "libmp3lame", "tick": Fraction(1, RATE)}))
FAULTS = (   # reason with which it must end; "damaged" ends as no_frames
    "not_media", "ffconcat", "empty", "broken", "no_audio", "silent", "short_sound", "too_long", "too_many_pixels", "too_many_streams",
    "no_frames", "damaged", "duplicate_id", "missing", "bad_row")
ENDS = {"ffconcat": "not_media", "empty": "not_media", "damaged": "no_frames"}   # faults that are not called like their reason
INTERVAL = 0.1   # seconds between two looks


def melody(number: int, seconds: float = SECONDS) -> np.ndarray:
    "Eight notes a second, chosen by lot, shape (n_samples,)."
    rng, t = np.random.default_rng(number), np.arange(SR // 8) / SR
    notes = [np.sin(2 * np.pi * f * t) + 0.5 * np.sin(4 * np.pi * f * t) for f in 220 * 2 ** (rng.integers(36, size=round(8 * seconds)) / 12)]
    return np.concatenate([0.3 * note * np.exp(-6 * t) for note in notes]).astype(np.float32)


def pictures(number: int, seconds: float = SECONDS, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    "Pictures of one colour, which becomes brighter."
    colour = np.random.default_rng(number).integers(40, 200, 3)
    return [np.full((size[1], size[0], 3), (colour + i) % 256, np.uint8) for i in range(round(RATE * seconds))]


def make_bases(folder: Path) -> dict[str, list[tuple[str, bytes]]]:
    "For good clips, and for each fault that is a matter of content: suffixes and contents of files."
    def written(number: int, y: np.ndarray | None, seconds: float = SECONDS, size: tuple[int, int] = SIZE, rate: float = RATE) -> bytes:
        write_video(folder / "base.mp4", pictures(number, seconds, size), y, frame_rate=rate, sr=SR)
        return (folder / "base.mp4").read_bytes()
    def made(suffix: str, **shape) -> tuple[str, bytes]: return suffix, make_file(folder / f"base{suffix}", **shape).read_bytes()
    good, y = [(".mp4", written(i, melody(i))) for i in range(N_TONES)], melody(0)
    return {
        "done": good + [made(suffix, **shape) for suffix, shape in ODD],
        "not_media": [(".mp4", b"This is a text, whatever its name says.\n")],
        "ffconcat": [(".mp4", b"ffconcat version 1.0\nfile /etc/passwd\n")],
        "empty": [(".mp4", b"")],
        "broken": [(suffix, content[:len(content) * 6 // 10]) for suffix, content in good],
        "no_audio": [(".mp4", written(0, None))],
        "silent": [(".mp4", written(0, 0 * y))],
        "short_sound": [(".mp4", written(0, y[:SR // 4]))],
        "too_long": [(".mp4", written(0, y, seconds=7.0, rate=0.1))],   # seventy pictures, each shown for ten seconds
        "too_many_pixels": [(".mp4", written(0, y, seconds=0.1, size=(3840, 2400)))],
        "too_many_streams": [made(".mkv", n_sounds=17)],
        "no_frames": [made(".mp4", codec=None)],
        "damaged": [(suffix, without_data(content)) for suffix, content in good],
    }


def without_data(content: bytes) -> bytes:
    "An MP4 file whose pictures and sounds are zeros; its table of contents is as it was."
    start = content.index(b"mdat") + 4
    return content[:start] + bytes(len(content) - start)


def stamped(suffix: str, content: bytes, number: int) -> bytes:
    "A file with a number behind its end, where no reader looks."
    if not content: return content
    stamp = struct.pack(">Q", number)
    if suffix in (".mkv", ".webm"): return content + b"\xec\x88" + stamp                   # a Void element
    if suffix == ".avi": return content + b"JUNK" + struct.pack("<I", 8) + stamp
    return content + (struct.pack(">I4s", 16, b"free") + stamp if content[4:8] == b"ftyp" else f"# {number}\n".encode())


class Row(NamedTuple):
    "A row of the table beside the videos."
    file: str
    views: int | str
    licence: str = "CC0"


def make_items(folder: Path, n_items: int) -> dict[str, str]:
    "Write videos and a table of them; for each item the outcome that it must have: `done` or a reason."
    with tempfile.TemporaryDirectory() as scratch: bases = make_bases(Path(scratch))
    rows, expected, kinds = [], {}, Counter()
    for i in range(n_items):
        fault = FAULTS[i // 10 % len(FAULTS)] if i % 10 == 9 else "done"
        name, choices = f"clip_{i:05d}", bases.get(fault, bases["done"])
        suffix, content = choices[kinds[fault] % len(choices)]
        kinds[fault] += 1
        if fault == "duplicate_id": name, suffix = f"clip_{i - 1:05d}", ".m4v"   # of the one before, which is good
        if fault not in ("missing", "bad_row"): (folder / (name + suffix)).write_bytes(stamped(suffix, content, i))
        rows.append(Row(name + suffix, "many" if fault == "bad_row" else i))
        expected[{"duplicate_id": f"{name}~2", "bad_row": f"row_{len(rows)}"}.get(fault, name)] = ENDS.get(fault, fault)
    with (folder / "metadata.csv").open("w", newline="") as file: csv.writer(file).writerows([Row._fields, *rows])
    return expected


def run_stages(config: Config, root: Path, report: Connection) -> None:
    "What the process under test does; it reports each stage's seconds."
    for name, stage in (("ingest", run_ingest), ("process", run_process)):
        began = time.perf_counter()
        stage(config, Workspace(root))
        report.send((name, time.perf_counter() - began))


class Sample(NamedTuple):
    "One look at the run."
    seconds: float      # since the stage began
    items: int          # that are settled in this stage
    main_mb: float      # memory of the process under test
    workers_mb: float   # memory of the processes that it has started, together


def n_settled(workspace: Workspace, stage: str) -> int:
    "How many items are done or left out in a stage at this moment."
    try:
        with sqlite3.connect(f"file:{workspace.state}?mode=ro", uri=True) as state:
            return state.execute("SELECT count(*) FROM items WHERE stage = ? AND state IN ('done', 'skipped')", [stage]).fetchone()[0]
    except sqlite3.OperationalError: return 0   # not there yet


def megabytes(process: psutil.Process) -> float:
    "Memory that a process holds (resident), 0 if it has gone."
    try: return process.memory_info().rss / 1e6
    except psutil.NoSuchProcess: return 0.0


def watch(config: Config, workspace: Workspace) -> tuple[dict[str, float], dict[str, list[Sample]]]:
    "Run the stages in a process of their own; seconds and samples of each."
    context, seconds, samples = multiprocessing.get_context("spawn"), {}, {"ingest": [], "process": []}
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=run_stages, args=(config, workspace.root, sender))
    process.start()
    sender.close()
    tree, stage, began = psutil.Process(process.pid), "ingest", time.perf_counter()
    while len(seconds) < len(samples):
        try:
            if receiver.poll(INTERVAL):
                name, seconds[name] = receiver.recv()
                stage, began = "process", time.perf_counter()
                continue
            children = tree.children(recursive=True)
        except (EOFError, psutil.NoSuchProcess): break   # it did not come to the end
        samples[stage].append(Sample(round(time.perf_counter() - began, 2), n_settled(workspace, stage), round(megabytes(tree), 1),
                                     round(sum(map(megabytes, children)), 1)))
    process.join()
    return seconds, samples


def slope(samples: Sequence[Sample], column: str) -> float | None:
    "Growth (MB for 1,000 items) over the last 80 % of the items; None if there are too few samples."
    total = samples[-1].items if samples else 0
    late = [s for s in samples if total / 5 <= s.items < total]
    if len({s.items for s in late}) < 5: return None
    return round(float(np.polyfit([s.items / 1000 for s in late], [getattr(s, column) for s in late], 1)[0]), 2)


def thinned(samples: Sequence[Sample], n: int = 60) -> list[Sample]:
    "At most so many samples, evenly."
    return [samples[i] for i in sorted({round(i) for i in np.linspace(0, len(samples) - 1, n)})] if samples else []


def stage_figures(seconds: float, samples: Sequence[Sample], n_items: int) -> dict:
    "Speed and memory of a stage."
    return {"seconds": round(seconds, 1), "items_a_second": round(n_items / seconds, 1),
            "peak_main_mb": max((s.main_mb for s in samples), default=0), "peak_workers_mb": max((s.workers_mb for s in samples), default=0),
            "main_mb_per_1000": slope(samples, "main_mb"), "workers_mb_per_1000": slope(samples, "workers_mb"),
            "curve": [s._asdict() for s in thinned(samples)]}


def outcomes(workspace: Workspace) -> dict[str, str]:
    "How each item ended: `done` in both stages, a reason, or a state in which it must not be left."
    with open_state(workspace) as state: found = [*state.items("ingest"), *state.items("process")]   # the later stage counts
    return {item.video_id: item.reason or item.state for item in found}


def unexplained(expected: dict[str, str], found: dict[str, str], workspace: Workspace) -> list[str]:
    "What is not as it should be, in words."
    wrong = [f"{i}: {found.get(i, 'lost')}, expected {expected.get(i, 'nothing')}"
             for i in sorted(expected | found) if found.get(i) != expected.get(i)]
    entries = {e["video_id"]: e for e in load_manifest(workspace)} if workspace.manifest.exists() else {}
    done = {i for i, outcome in found.items() if outcome == "done"}
    wrong += [f"{i}: in one of state and manifest only" for i in sorted(done ^ entries.keys())]
    wrong += [f"{i}: without its files" for i, e in entries.items()
              if not workspace.resolve(e["audio_path"]).exists() or len(list(workspace.resolve(e["frames_dir"]).iterdir())) != e["num_frames"]]
    wrong += [f"{i}: left out, but its files are there" for i in sorted(found.keys() - done) if (workspace.frames / i).exists()]
    return wrong + [f"{p.relative_to(workspace.root)}: half a file" for p in workspace.root.rglob("*.partial")]


def machine() -> str:
    "The machine in words."
    return f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GB"


def measure(n_items: int, changes: dict[str, dict[str, str]]) -> dict:
    "Everything that is printed."
    with tempfile.TemporaryDirectory() as folder:
        videos, workspace = Path(folder) / "videos", Workspace(Path(folder) / "data")
        videos.mkdir()
        expected = make_items(videos, n_items)
        changes.setdefault("ingest", {}).update(source="folder", videos=str(videos))
        seconds, samples = watch(load_config(changes), workspace)
        found = outcomes(workspace)
        wrong = unexplained(expected, found, workspace)
    wrong += [f"{name} did not end" for name in samples if name not in seconds]
    counted = Counter(expected.values()), Counter(found.values())
    return {"machine": machine(), "items": n_items,
            "stages": {name: stage_figures(seconds[name], samples[name], n_items) for name in seconds},
            "outcomes": [{"outcome": name, "expected": counted[0][name], "found": counted[1][name]} for name in sorted(counted[0] | counted[1])],
            "unexplained": len(wrong), "first_unexplained": wrong[:10]}


def at_tenths(curve: Sequence[dict], n_items: int) -> list[dict]:
    "The first look at each tenth of the items."
    looks = [next((look for look in curve if look["items"] >= tenth * n_items / 10), None) for tenth in range(11)]
    return [look for look in looks if look]


def show(result: dict) -> None:
    "Print the result for people."
    print(f"{result['items']:,} items on {result['machine']}")
    for name, stage in result["stages"].items():
        print(f"\n{name}: {stage['seconds']} s, {stage['items_a_second']} items a second; at most {stage['peak_main_mb']:.0f} MB, and "
              f"{stage['peak_workers_mb']:.0f} MB in workers; more for 1,000 items: {stage['main_mb_per_1000']} and {stage['workers_mb_per_1000']}")
        print(f"{'seconds':>10}{'items':>8}{'MB':>8}{'MB in workers':>15}")
        for look in at_tenths(stage["curve"], stage["curve"][-1]["items"] if stage["curve"] else 0):
            print(f"{look['seconds']:10.1f}{look['items']:8}{look['main_mb']:8.0f}{look['workers_mb']:15.0f}")
    print(f"\n{'outcome':20}{'expected':>10}{'found':>8}")
    for row in result["outcomes"]: print(f"{row['outcome']:20}{row['expected']:10}{row['found']:8}")
    print(f"unexplained: {result['unexplained']}", *result["first_unexplained"], sep="\n  ")


def main() -> int:
    "Read the arguments, measure, print; 1 if something is not explained."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=5_000, metavar="N", help="how many (default: 5000)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-p", dest="changes", action="append", default=[], metavar="STAGE.KEY=VALUE")
    args = parser.parse_args()
    result = measure(args.items, parse_changes(args.changes))
    if args.json: print(json.dumps(result, indent=1))
    else: show(result)
    return 1 if result["unexplained"] else 0


if __name__ == "__main__": sys.exit(main())
