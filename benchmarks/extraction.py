"""From clips to features: how long it takes beside the report's recipe, beside what the machine can do, and where the time goes.

    python benchmarks/extraction.py [--clips DIR] [--limit N] [--rounds N] [--no-memory] [--json]

Ours are the stages 01 to 03 as a run calls them: pictures and sound as files, MFCC, EfficientNet-Lite0. The recipe does the same with
the same network and the same weights, one frame at a time; they take turns on the same clips, with at most 30 pictures of each.
The bound is the larger of two times: decoding all streams without any output, and the network on ready batches, each with all cores
for itself. Ours has to do both with the same cores, so their sum is a bound too. What the stages give is compared with a plain path:
every frame decoded, no threads, one picture at a time, PyTorch. A difference of more than a thousandth is an error. Where the machine
computes with 16 bits, that holds for the same stages with 32, and the cosine of what was made with 16 is held to .98. Without ffmpeg
on the PATH or in the package imageio-ffmpeg, the recipe reads sound as we do. The steps are measured one by one, in time of one core.
"""
import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import librosa
import numpy as np
import report_recipe
import table

from avmatch.audio_features import get_audio_encoders, load_audio_features, run_audio_features
from avmatch.config import Config, MediaError, load_config
from avmatch.display import jpeg
from avmatch.extract import Job, extract_clip, save_pictures
from avmatch.media import read_clip, read_wav, write_video, write_wav
from avmatch.process import run_process
from avmatch.runtime import count_cores
from avmatch.samples import make_samples
from avmatch.video_encoders import to_batch
from avmatch.video_features import _read_images, encode_clip, get_video_encoders, load_video_features, run_video_features
from avmatch.workspace import Workspace, load_manifest, save_json

STAGES = {"pictures and sound": run_process, "MFCC": run_audio_features, "network": run_video_features}
TOLERANCE = 1e-3   # largest difference from the plain path, as a share of the largest number
TURN = 0.02        # largest 1 - cosine with the plain path, for visual features of a clip that were computed with 16 bits


def settings(max_frames: int = report_recipe.MAX_FRAMES) -> Config:
    "The default preset, with the report's pictures and sound features."
    return load_config({"process": {"max_frames": max_frames, "group_sounds": False, "workers": count_cores()},
                        "audio_features": {"encoder": "mfcc", "per_second": False},
                        "video_features": {"encoder": "efficientnet_lite0", "per_second": False, "bf16": True}})


@contextmanager
def timed(seconds: Counter, name: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
    "Add what the block takes."
    began = clock()
    yield
    seconds[name] += clock() - began


def extract(clips: Sequence[Path], workspace: Workspace, config: Config) -> Counter:
    "Run the stages on clips; seconds of each."
    workspace.videos.mkdir(parents=True)
    for clip in clips: (workspace.videos / clip.name).symlink_to(clip.absolute())
    save_json(workspace.metadata, [{"video_id": clip.stem, "file": clip.name} for clip in clips])
    seconds: Counter = Counter()
    for name, stage in STAGES.items():
        with timed(seconds, name): stage(config, workspace)
    return seconds


def extract_as_reported(clips: Sequence[Path], work: Path, network: Callable, ffmpeg: str) -> Counter:
    "Run the recipe on clips; seconds of each step."
    steps: Counter = Counter()
    for clip in clips:
        with suppress(subprocess.CalledProcessError, MediaError): steps.update(report_recipe.extract_clip(clip, work, network, ffmpeg), clips=1)
    return Counter({"pictures and sound": steps["pictures"] + steps["sound"], "MFCC": steps["mfcc"], "network": steps["network"],
                    "clips": steps["clips"]})


def decode(clip: Path) -> int:
    "Decode all streams of a clip with one core, and throw away what comes; frames."
    with av.open(str(clip)) as container:
        for stream in container.streams: stream.thread_type = "NONE"
        return sum(1 for _ in container.decode(*container.streams.video[:1], *container.streams.audio[:1]))


def bounds(clips: Sequence[Path], n_pictures: int, config: Config) -> Counter:
    "Seconds of decoding alone, and of the network alone on as many pictures, with all cores."
    seconds: Counter = Counter()
    encoder, size = get_video_encoders(config.video_features)[0], config.video_features.batch_size
    batches = [np.random.default_rng(0).standard_normal((n, 3, 224, 224), np.float32) for n in (size, n_pictures % size)]
    with ThreadPoolExecutor(count_cores()) as pool:
        with timed(seconds, "decode"): list(pool.map(decode, clips))
        with timed(seconds, "network"): list(pool.map(encoder.run, [batches[0]] * (n_pictures // size) + batches[1:] * (n_pictures % size > 0)))
    return seconds


def plain_pictures(clip: Path, config: Config) -> list[np.ndarray]:
    "The frames at even times, every one of the clip decoded for it, as they come out of a JPEG file."
    found, start, step, fps = [], None, 0, config.process.fps
    with av.open(str(clip)) as container:
        container.streams.video[0].thread_type = "NONE"
        for frame in container.decode(video=0):
            start = frame.time if start is None else start
            position = (frame.time - start) * fps + 1e-6
            if len(found) == config.process.max_frames or position < step: continue
            step = int(position) + 1
            turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
            file = cv2.imencode(".jpg", turned[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, config.process.jpeg_quality])[1]
            found.append(cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1])
    return found


def plain_features(clip: Path, config: Config, network: Callable) -> tuple[np.ndarray, np.ndarray]:
    "Visual and sound features of a clip, one thing at a time."
    import torch
    look = get_video_encoders(config.video_features)[0].look
    with torch.no_grad(): rows = [network(torch.from_numpy(to_batch([image], **look))) for image in plain_pictures(clip, config)]
    with av.open(str(clip)) as container:
        layout = "mono" if container.streams.audio[0].channels == 1 else "stereo"
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=config.process.sr)
        pieces = [p.to_ndarray() for f in (*container.decode(audio=0), None) for p in resampler.resample(f)]
    y = np.concatenate(pieces, axis=1).mean(axis=0)
    y = np.round(y.clip(-1, 1) * 32767).astype(np.int16).astype(np.float32) / 32768
    return torch.stack(rows).mean(dim=0).numpy(), librosa.feature.mfcc(y=y, sr=config.process.sr, n_mfcc=40).mean(axis=1)


def differences(clips: Sequence[Path], workspace: Workspace, config: Config, network: Callable) -> dict[str, float]:
    "How far the stages' features are from the plain path: of both kinds as shares of the largest number, and as 1 - cosine of a clip."
    exact, ids = get_video_encoders(replace(config.video_features, bf16=False)), [clip.stem for clip in clips]
    pictures = [_read_images(workspace.frames / i) for i in ids]
    seen = np.stack([encode_clip(exact, images, fps=config.process.fps, path="", per_second=False) for images in pictures])
    visual, sound = map(np.stack, zip(*(plain_features(clip, config, network) for clip in clips), strict=True))
    made, heard = load_video_features(workspace, ids), load_audio_features(workspace, ids)
    cosines = (made * visual).sum(axis=1) / np.linalg.norm(made, axis=1) / np.linalg.norm(visual, axis=1)
    share = lambda a, b: float(np.abs(a - b).max() / np.abs(b).max())
    return {"visual features with 32 bits": share(seen, visual), "sound features": share(heard, sound),
            "visual features as made": float(1 - cosines.min())}


def step_times(clips: Sequence[Path], folder: Path, config: Config) -> dict[str, float]:
    "Milliseconds of one core that each step takes for a clip, each measured alone."
    seconds: Counter = Counter()
    encoder, (listener,) = get_video_encoders(config.video_features)[0], get_audio_encoders(config.audio_features)
    process, wav = config.process, folder / "sound.wav"
    for path in clips:
        with timed(seconds, "decode, colours, resampling", time.process_time):
            clip = read_clip(path, fps=process.fps, max_frames=process.max_frames, sr=process.sr)
        with timed(seconds, "compress as JPEG", time.process_time): files = [jpeg(p, process.jpeg_quality) for p in clip.pictures]
        with timed(seconds, "write files", time.process_time):
            write_wav(wav, clip.y, sr=process.sr)
            save_pictures(folder / "pictures", files)
        with timed(seconds, "MFCC", time.process_time): listener.encode(read_wav(wav)[0])
        with timed(seconds, "decompress JPEG", time.process_time): images = list(_read_images(folder / "pictures"))
        with timed(seconds, "cut and scale", time.process_time): batch = to_batch(images, **encoder.look)
        with timed(seconds, "network", time.process_time):
            for start in range(0, len(batch), encoder.batch_size): encoder.run(batch[start:start + encoder.batch_size])
    return {name: 1e3 * taken / len(clips) for name, taken in seconds.items()}


def peak_memory(clip: Path) -> float:
    "Most memory (MB) of a process that does nothing but extract one clip."
    done = subprocess.run([sys.executable, __file__, "--peak", str(clip)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def extract_alone(clip: Path) -> None:
    "Extract one clip in this process, and print the most memory it had (MB)."
    config = settings(max_frames=60)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(clip, Path(folder) / "pictures", Path(folder) / "sound.wav", config.process)
        extract_clip(job)
        get_audio_encoders(config.audio_features)[0].encode(read_wav(job.wav)[0])
        encode_clip(get_video_encoders(config.video_features), _read_images(job.frames), fps=config.process.fps, path=clip, per_second=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory_rows(folder: Path) -> list[dict[str, Any]]:
    "Most memory for a small clip, a long one and one with large pictures."
    rng = np.random.default_rng(0)
    def made(name: str, width: int, height: int, seconds: int) -> Path:
        picture = cv2.resize(rng.integers(0, 255, (9, 16, 3), np.uint8), (width, height))
        y = 0.1 * rng.standard_normal(seconds * 22_050)
        write_video(folder / f"{name}.mp4", (np.roll(picture, i, axis=1) for i in range(2 * seconds)), y, frame_rate=2, sr=22_050)
        return folder / f"{name}.mp4"
    small = peak_memory(made("small", 320, 180, 10))
    return [table.row("memory, 10 s of 320 x 180", small, "MB"),
            table.row("memory, 10 minutes", peak_memory(made("long", 320, 180, 590)), "MB", bound=small),
            table.row("memory, 15 s of 3840 x 2160", peak_memory(made("large", 3840, 2160, 15)), "MB", bound=small)]


def measure(clips: Sequence[Path], folder: Path, n_rounds: int, memory: bool) -> list[dict[str, Any]]:
    "All lines of the answer."
    config, network, ffmpeg = settings(), report_recipe.open_network(), report_recipe.find_ffmpeg()
    extract(clips[:2], Workspace(folder / "warm"), config)
    extract_as_reported(clips[:2], folder / "warm recipe", network, ffmpeg)
    ours, recipe, bound, n_done, apart = Counter(), Counter(), Counter(), 0, []
    for i in range(n_rounds):
        part, workspace = clips[i::n_rounds], Workspace(folder / f"ours {i}")
        turns = [(ours, extract, (workspace, config)), (recipe, extract_as_reported, (folder / f"recipe {i}", network, ffmpeg))]
        for seconds, turn, rest in turns[::-1] if i % 2 else turns: seconds.update(turn(part, *rest))
        entries = load_manifest(workspace)
        usable = [clip for clip in part if clip.stem in {e["video_id"] for e in entries}]
        bound.update(bounds(usable, sum(e["num_frames"] for e in entries), config))
        apart.append(differences(usable[::1 + len(clips) // 12], workspace, config, network))
        n_done += len(usable)
    n_recipe = recipe.pop("clips")
    total, best, each = sum(ours.values()), max(bound.values()), 1e3 / n_done
    parts = {"pictures and sound": bound["decode"], "network": bound["network"]}
    rows = [table.row("extraction", n_done / total, "clips/s", recipe=n_recipe / sum(recipe.values()), bound=n_done / best),
            table.row("extraction, both bounds on the same cores", n_done / total, "clips/s", bound=n_done / sum(bound.values()))]
    rows += [table.row(name, ours[name] * each, "ms a clip", recipe=recipe[name] * 1e3 / n_recipe,
                       bound=parts[name] * each if name in parts else None) for name in STAGES]
    passes = [step_times(clips[::1 + len(clips) // 12], folder, config) for _ in range(2)]   # the first also makes room in memory
    steps = {name: min(one[name] for one in passes) for name in passes[0]}
    steps["processes, state, waiting"] = max(0.0, total * each * count_cores() - sum(steps.values()))
    rows += [table.row(f"step: {name}", taken, "ms of one core") for name, taken in steps.items()]
    for name in apart[0]:
        unit, most = ("1 - cosine", TURN) if name.endswith("as made") else ("of the largest", TOLERANCE)
        rows.append(table.row(f"{name}, difference from the plain path", max(values[name] for values in apart), unit, bound=most))
    return rows + (memory_rows(folder) if memory else [])


def show_steps(rows: Sequence[dict[str, Any]]) -> None:
    "Print a bar for each step."
    steps = {r["name"].removeprefix("step: "): r["ours"] for r in rows if r["name"].startswith("step: ")}
    print("\nTime of one core for a clip, by step")
    for name, taken in steps.items(): print(f"{name:28}{taken:8.1f} ms  {'#' * round(40 * taken / max(steps.values()))}")


def main() -> None:
    "Read the arguments, measure, print."
    parser = table.parser(__doc__)
    parser.add_argument("--clips", default="", metavar="DIR", help="folder of MP4 files (default: generated samples)")
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many clips")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="parts of the clips; ours and the recipe take turns on each (default: 2)")
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory, which takes half a minute")
    parser.add_argument("--peak", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    if args.peak: return extract_alone(Path(args.peak))
    with tempfile.TemporaryDirectory() as folder:
        if not args.clips: make_samples(Path(folder) / "clips", 20, size=360, bad=False)
        found = sorted(Path(args.clips or Path(folder) / "clips").glob("*.mp4"))[:args.limit]
        if len(found) < 2 * args.rounds: parser.error(f"{args.clips} holds {len(found)} MP4 files, {2 * args.rounds} at least are needed")
        rows = measure(found, Path(folder), args.rounds, not args.no_memory)
    table.show(rows, f"From {len(found)} clips to features", args)
    if not args.json: show_steps(rows)
    if any(r["name"].endswith("plain path") and r["ours"] > r["bound"] for r in rows): sys.exit("the features are not those of the plain path")


if __name__ == "__main__": main()
