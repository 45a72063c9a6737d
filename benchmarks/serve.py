"""The service under load: many clients at once against few workers, beside the report's handler.

    python benchmarks/serve.py [--clips DIR] [--workspace DIR] [--clients N] [--seconds S] [--json]

Every client sends one clip after another and comes again when it is told to. Meanwhile `/health` is asked twenty times a second.
The clips are those of a folder, or generated; each client makes a clip its own by a few bytes at its end, so that none is known.
The report's handler is one function on the event loop: it decodes, encodes and compares track by track, one request after another.
It is an error (exit status 1) if our service answers anything but 200 or 503 with `Retry-After`, or leaves a file behind.
"""
import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import httpx
import numpy as np
import psutil
from fastapi import FastAPI, UploadFile

from avmatch.config import MediaError, load_config, override
from avmatch.media import probe
from avmatch.recommend import Engine
from avmatch.serve import create_app, running
from avmatch.workspace import Workspace, demo_workspace


def report_handler(engine: Engine) -> FastAPI:
    "The report's service: everything in one coroutine, and a loop over the tracks."
    app = FastAPI()
    tracks = np.random.default_rng(0).standard_normal((len(engine.tracks), 256)).astype(np.float32)

    @app.get("/health")
    async def health(): return "ok"

    @app.post("/recommend")
    async def recommend(file: UploadFile, top_k: int = 5):
        with tempfile.NamedTemporaryFile(suffix=".mp4") as kept:
            kept.write(await file.read())
            kept.flush()
            query = np.atleast_2d(engine.encode(Path(kept.name))).mean(axis=0)
        query = np.resize(query, 256)   # stands for the projection, which takes no time
        scores = [float(track @ query / (np.linalg.norm(track) * np.linalg.norm(query) + 1e-9)) for track in tracks]
        return sorted(zip(scores, engine.tracks), reverse=True)[:top_k]
    return app


class Load:
    "What clients see of a service for some seconds; made in a process of its own, so that they do not slow it down."
    def __init__(self, url: str, clips: list[bytes], n_clients: int, seconds: float):
        self.url, self.clips, self.until = url, clips, time.monotonic() + seconds
        self.statuses, self.waits, self.health, self.memory = Counter(), [], [], []
        start = time.monotonic()
        self.bad = []   # other statuses, 503 without Retry-After, and connections that broke
        with ThreadPoolExecutor(n_clients + 1) as pool:
            watched = pool.submit(self.watch)
            for done in [pool.submit(self.ask, i) for i in range(n_clients)]: done.result()
            self.seconds = time.monotonic() - start   # to the last answer
            watched.result()

    def ask(self, number: int) -> None:
        "One client: clip after clip."
        with httpx.Client(base_url=self.url, timeout=300) as client:
            for n in range(10_000):
                if time.monotonic() > self.until: return
                clip = self.clips[(number + n) % len(self.clips)] + b"\0\0\0\x14" + f"free{number:06}{n:06}".encode()   # an empty box of MP4
                start = time.perf_counter()
                try: response = client.post("/recommend", files={"file": clip})
                except httpx.TransportError as e:
                    self.bad.append(str(e))   # the server has closed the connection
                    continue
                self.statuses[response.status_code] += 1
                if response.status_code == 200: self.waits.append(time.perf_counter() - start)
                elif response.status_code == 503 and "retry-after" in response.headers: self.rest(int(response.headers["retry-after"]))
                else: self.bad.append(response.text)

    def rest(self, seconds: float) -> None:
        "Wait, but not beyond the end."
        time.sleep(max(0.0, min(seconds, self.until - time.monotonic())))

    def watch(self) -> None:
        "Ask for health, and note the memory of the service and its workers."
        with httpx.Client(base_url=self.url, timeout=300) as client:
            while time.monotonic() < self.until:
                start = time.perf_counter()
                with contextlib.suppress(httpx.TransportError): client.get("/health")
                self.health.append(time.perf_counter() - start)
                self.memory.append(used_memory())
                time.sleep(0.05)


def used_memory() -> float:
    "Of the process that serves, and of its workers (MB)."
    service, total = psutil.Process(os.getppid()), 0
    for process in (service, *service.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess): total += process.memory_info().rss * (process.pid != os.getpid())
    return total / 1e6


def percentile(values: list[float], share: float) -> float:
    "In milliseconds; NaN of nothing."
    return round(1_000 * float(np.quantile(values, share)), 1) if values else float("nan")


def measure(app: FastAPI, clips: list[bytes], args: argparse.Namespace) -> dict:
    "A row of the table."
    with tempfile.TemporaryDirectory() as uploads:
        tempfile.tempdir = uploads
        try:
            with running(app) as url, ProcessPoolExecutor(1, get_context("spawn")) as clients:
                httpx.post(f"{url}/recommend", files={"file": clips[0]}, timeout=300)   # everything is warm
                load = clients.submit(Load, url, clips, args.clients, args.seconds).result()
        finally: tempfile.tempdir = None
        left = len(os.listdir(uploads))
    half = len(load.memory) // 2
    for problem in Counter(load.bad).most_common(3): print(f"not answered: {problem}", file=sys.stderr)
    return {"200": load.statuses[200], "503": load.statuses[503], "other": len(load.bad),
            "a second": round(load.statuses[200] / load.seconds, 2),
            "p50 ms": percentile(load.waits, 0.5), "p95 ms": percentile(load.waits, 0.95),
            "health p50 ms": percentile(load.health, 0.5), "health p99 ms": percentile(load.health, 0.99),
            "memory MB": round(statistics.median(load.memory[half:])),
            "growth MB": round(max(load.memory[half:]) - max(load.memory[:half], default=0)), "files left": left}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", default="", help="folder of videos (default: those of the workspace)")
    parser.add_argument("--workspace", default="", help="a finished run (default: a small demo, made now)")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30.0, help="for each of the two services")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    workspace = Workspace(args.workspace) if args.workspace else demo()
    folder = Path(args.clips) if args.clips else workspace.videos
    clips = [p.read_bytes() for p in sorted(folder.glob("*.mp4"))[:30] if is_video(p)]
    config = override(load_config(), {"serve": {"posts_a_minute": 0, "workers": 2}})
    rows = {"avmatch": measure(create_app(config, workspace), clips, args),
            "report's handler": measure(report_handler(Engine.load(workspace)), clips, args)}
    show(rows, clips, args)
    if rows["avmatch"]["other"] or rows["avmatch"]["files left"]: sys.exit(1)


def show(rows: dict[str, dict], clips: list[bytes], args: argparse.Namespace) -> None:
    "Print the table."
    if args.json: return print(json.dumps(rows, indent=1))
    print(f"{args.clients} clients, {args.seconds:g} s each, {len(clips)} clips of {min(map(len, clips)):,} to {max(map(len, clips)):,} bytes\n")
    print(f"{'':>15}  " + "  ".join(f"{name:>18}" for name in rows))
    for figure in rows["avmatch"]: print(f"{figure:>15}  " + "  ".join(f"{row[figure]:>18}" for row in rows.values()))


def is_video(path: Path) -> bool:
    "Whether a file is a video that can be sent."
    with contextlib.suppress(MediaError): return probe(path).has_video and path.stat().st_size < 50e6
    return False


def demo() -> Workspace:
    "A small run of the pipeline."
    from avmatch.audio_features import run_audio_features
    from avmatch.ingest import run_ingest
    from avmatch.process import run_process
    from avmatch.recommend import run_recommend
    from avmatch.train import run_train
    from avmatch.video_features import run_video_features
    return demo_workspace([run_ingest, run_process, run_audio_features, run_video_features, run_train, run_recommend])[1]


if __name__ == "__main__": main()
