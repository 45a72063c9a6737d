"""One clip of ten seconds, from its bytes to an answer: warm, and from the start of a process.

    python benchmarks/recommend.py [--workspace DIR] [--clip FILE] [--rounds N] [--json]

Warm: an `Engine` that has answered before. Its bound is the sum of what has to be done, each measured alone and on as many cores as it
can use: decoding all pictures of the clip and throwing them away, its encoders on pictures that lie ready (the network on batches, and
the measured motion), and the search with a description that lies ready. The answer can take less, as they overlap in it. The recipe is
the report's handler: the upload is written to the disk, frames are taken out as JPEG files, the same network sees one after the other,
and each track is compared with the clip by a pass through the joint model. They take turns; the medians count. Cold: `avmatch recommend`
as a command, until it has ended. Its bound is a process that imports what is needed for it (NumPy, PyAV, OpenCV, ONNX Runtime, faiss) and
ends, plus a warm answer. The service: from the start of `avmatch serve` until /ready says yes, and then the same clip by HTTP.

All ways must give the same answer, and it must be that of a plain path: each encoder reads the clip for itself, every sound is compared.
"""
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import httpx
import numpy as np
import report_recipe
import table
import torch
import torch.nn.functional as F

from avmatch.checkpoint import load_model
from avmatch.joint_model import JointModel
from avmatch.media import read_frames
from avmatch.motion import read_small
from avmatch.recommend import Engine
from avmatch.samples import plan_samples, render_sample
from avmatch.search import search_sounds
from avmatch.video_encoders import to_batch
from avmatch.video_features import encode_clip, get_video_encoders
from avmatch.workspace import Workspace, demo_workspace

TOP_K = 5
NEEDED = "import av, cv2, faiss, numpy, onnxruntime"
Ways = dict[str, Callable[[], object]]


def median_times(ways: Ways, n_rounds: int) -> dict[str, float]:
    "Median seconds of each way; in every round each has its turn. The first round does not count."
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n_rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds[1:]) for name, seconds in took.items()}


@contextlib.contextmanager
def uploaded(content: bytes) -> Iterator[Path]:
    "The bytes as a file, for a while."
    with tempfile.NamedTemporaryFile(suffix=".mp4") as kept:
        kept.write(content)
        kept.flush()
        yield Path(kept.name)


def ours(engine: Engine, content: bytes) -> list[str]:
    "The answers to the bytes of a clip."
    with uploaded(content) as path: return [r.audio_id for r in engine.recommend(path, TOP_K)]


def report_handler(network: Callable, n_tracks: int) -> Callable[[bytes], list]:
    "The report's handler, with its model and made-up features of as many tracks."
    model, tracks = JointModel(1280, 40).eval(), torch.randn(n_tracks, 40)

    def answer(content: bytes) -> list:
        with uploaded(content) as path, tempfile.TemporaryDirectory() as frames, torch.no_grad():
            report_recipe.write_frames(path, Path(frames))
            video, found = torch.from_numpy(report_recipe.embed_frames(Path(frames), network))[None], []
            for i, audio in enumerate(tracks):
                v, a = (F.normalize(x, dim=1) for x in model(video, audio[None]))
                found.append((i, torch.sum(v * a).item()))
        return sorted(found, key=lambda pair: pair[1], reverse=True)[:TOP_K]
    return answer


def decode(path: Path) -> int:
    "All pictures of a clip, decoded and thrown away."
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for _ in container.decode(video=0))


def work_alone(engine: Engine, path: Path, workspace: Workspace) -> Ways:
    "What has to be done for an answer, each with its input ready."
    config = load_model(workspace).config
    encoders, process = get_video_encoders(config.video_features), config.process
    pictures = [image for _, image in read_frames(path, fps=process.fps, max_frames=process.max_frames)]
    clip = engine.matcher.describe_clips([np.atleast_2d(engine.encode(path))])
    ways: Ways = {"decode": lambda: decode(path)}
    for encoder in encoders:
        if encoder.reads == "frames":
            batch = to_batch(pictures, **encoder.look)
            ways[encoder.name] = lambda e=encoder, batch=batch: [e.run(batch[i:i + e.batch_size]) for i in range(0, len(batch), e.batch_size)]
        else:
            small = read_small(path)
            ways[encoder.name] = lambda e=encoder, small=small: e.encode_images(*small)
    return ways | {"search": lambda: search_sounds(engine.matcher, engine.sounds, clip, top_k=TOP_K, track_of=engine.recordings)}


def plain_answer(engine: Engine, path: Path, workspace: Workspace) -> list[str]:
    "Each encoder reads the clip for itself, and every sound is compared; the best of each recording."
    config = load_model(workspace).config
    process, settings = config.process, config.video_features
    pictures = [image for _, image in read_frames(path, fps=process.fps, max_frames=process.max_frames)]
    rows = encode_clip(get_video_encoders(settings), pictures, fps=process.fps, path=path, per_second=settings.per_second)
    found = search_sounds(engine.matcher, engine.sounds, engine.matcher.describe_clips([np.atleast_2d(rows)]), top_k=len(engine.tracks))
    best: dict[str, str] = {}
    for f in found: best.setdefault(engine.recordings[f.audio_id], f.audio_id)
    return list(best.values())[:TOP_K]


def command(*words: str) -> list[str]: return [sys.executable, "-m", "avmatch.cli", *words]


def asked_by_command(path: Path, workspace: Workspace) -> list[str]:
    "The answers of `avmatch recommend`."
    words = ("recommend", str(path), "--workspace", str(workspace.root), "--top-k", str(TOP_K), "--json")
    return [r["audio_id"] for r in json.loads(subprocess.run(command(*words), check=True, capture_output=True).stdout)]


@contextlib.contextmanager
def service(workspace: Workspace) -> Iterator[tuple[httpx.Client, float]]:
    "A running service, and how long it took until it was ready (s)."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    words = ("serve", "--workspace", str(workspace.root), "--port", str(port), "-p", "serve.posts_a_minute=0", "-p", "serve.cache_size=0")
    process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            while not is_ready(client) and process.poll() is None: time.sleep(0.01)
            yield client, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(30)


def is_ready(client: httpx.Client) -> bool:
    "Whether the service says that it is."
    with contextlib.suppress(httpx.TransportError): return client.get("/ready").status_code == 200
    return False


def measure(workspace: Workspace, path: Path, n_rounds: int) -> list[dict]:
    "All rows."
    engine, content = Engine.load(workspace), path.read_bytes()
    report = report_handler(report_recipe.open_network(), len(engine.tracks))
    alone = work_alone(engine, path, workspace)
    took = median_times({"ours": lambda: ours(engine, content), "report": lambda: report(content), **alone}, n_rounds)
    bound = sum(took[name] for name in alone)
    rows = [table.row(f"warm, among {len(engine.tracks)} sounds", took["ours"], "s", recipe=took["report"], bound=bound)]
    rows += [table.row(f"  alone: {name}", took[name], "s") for name in alone]
    cold = median_times({"ours": lambda: asked_by_command(path, workspace),
                         "imports": lambda: subprocess.run([sys.executable, "-c", NEEDED], check=True)}, max(1, n_rounds // 3))
    rows.append(table.row("cold, avmatch recommend", cold["ours"], "s", bound=cold["imports"] + took["ours"]))
    with service(workspace) as (client, started):
        ask = lambda: [r["audio_id"] for r in client.post("/recommend", params={"top_k": TOP_K}, files={"file": content}).raise_for_status().json()]
        answers = [plain_answer(engine, path, workspace), ours(engine, content), asked_by_command(path, workspace), ask()]
        if any(answer != answers[0] for answer in answers): raise SystemExit(f"not the same answers: {answers}")
        by_http = median_times({"http": ask}, n_rounds)["http"]
    return [*rows, table.row("service, until it is ready", started, "s"), table.row("service, a clip by HTTP", by_http, "s", bound=bound)]


def demo() -> Workspace:
    "A small run of the pipeline."
    from avmatch.audio_features import run_audio_features
    from avmatch.ingest import run_ingest
    from avmatch.process import run_process
    from avmatch.recommend import run_recommend
    from avmatch.train import run_train
    from avmatch.video_features import run_video_features
    with contextlib.redirect_stdout(sys.stderr):
        return demo_workspace([run_ingest, run_process, run_audio_features, run_video_features, run_train, run_recommend])[1]


def main() -> None:
    parser = table.parser(__doc__)
    parser.add_argument("--workspace", default="", help="a finished run (default: a small demo, made now)")
    parser.add_argument("--clip", type=Path, help="a video (default: a generated one of ten seconds)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each")
    args = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"
    workspace = Workspace(args.workspace) if args.workspace else demo()
    with tempfile.TemporaryDirectory() as folder:
        path = args.clip or Path(folder) / "clip.mp4"
        if not args.clip: render_sample(replace(plan_samples(1, 1, bad=False)[0], duration=10.0), path, size=360)
        rows = measure(workspace, path, args.rounds)
    table.show(rows, "From the bytes of a clip to an answer", args)


if __name__ == "__main__": main()
