"""A service with a pretended engine, for tests over a real connection: its clips are decoded by real workers."""
import socket
import tempfile
import threading
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import httpx
import numpy as np
import pytest

from avmatch.config import load_config, override
from avmatch.media import write_video, write_wav
from avmatch.recommend import Recommendation, Soundtrack
from avmatch.serve import create_app, running
from avmatch.track_store import TrackStore

TONE = 0.2 * np.sin(2 * np.pi * 220 * np.arange(16_000) / 8_000)
CONTENT_TYPE = "multipart/form-data; boundary=b"
FIELD = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


class Pretended:
    "What every pretended engine has: a folder of sounds, and what is known of them."
    def __init__(self, folder: Path): self.folder, self.tracks = folder, {}

    @cached_property
    def store(self) -> TrackStore:
        store = TrackStore()
        store.put(asdict(track) for track in self.tracks.values())
        return store


class FakeEngine(Pretended):
    "Always answers the same; `gate` holds it up."
    def __init__(self, folder: Path):
        super().__init__(folder)
        self.gate = threading.Event()
        self.gate.set()
        for audio_id in ("rain", "stürm/1 ?"):
            path = folder / f"{len(self.tracks)}.wav"
            write_wav(path, TONE, sr=8_000)
            self.tracks[audio_id] = Soundtrack(audio_id, audio_id, None, None, None, None, str(path), "none.jpg")

    def recommend(self, features, top_k=5):
        assert np.isfinite(features).all() and self.gate.wait(30)
        why = {"parts": {"joint": 0.25, "words": 0.25, "rhythm": 0.0, "hub": 0.0}, "reason": "umbrella — rain"}
        return [Recommendation(**asdict(track), score=0.5, **why) for track in self.tracks.values()][:top_k]


def make_app(engine, **settings):
    "A service that looks at motion only, with one worker, and small limits."
    serve = {"max_upload_mb": 1.0, "workers": 1, "waiting": 3, "posts_a_minute": 0} | settings
    process = {"max_seconds": serve.pop("max_seconds", 600.0)}
    changes = {"video_features": {"encoder": "motion"}, "process": process, "serve": serve}
    return create_app(override(load_config(), changes), engine.folder, engine=engine)


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    "The bytes of two seconds of video."
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, [np.full((96, 54, 3), i, np.uint8) for i in range(20)], TONE, frame_rate=10, sr=8_000)
    return path.read_bytes()


@pytest.fixture(scope="module")
def engine(tmp_path_factory): return FakeEngine(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    "The folder of temporary files, which must be empty after a request."
    folder = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def client(engine, uploads):
    "Talks to a service with the pretended engine and an upload limit of 1 MB."
    with running(make_app(engine)) as url, httpx.Client(base_url=url, timeout=30) as client: yield client


def is_problem(response) -> bool:
    return list(response.json()) == ["reason", "detail"] and response.json()["detail"].strip() != ""


def form(*parts: bytes) -> bytes: return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


def head(length: int | None = None) -> bytes:
    "The first lines of an upload; without a length it comes in chunks."
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST /recommend HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {CONTENT_TYPE}\r\n{size}\r\n\r\n".encode()


def send_raw(url, data: bytes) -> bytes:
    "Send bytes as they are, and read until the server closes."
    with connect(url) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def connect(url) -> socket.socket:
    "A bare connection to a service."
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port), timeout=20)
