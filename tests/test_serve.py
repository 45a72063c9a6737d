"""The HTTP API over a real connection: the report's contract, sounds that seek, bad input, abuse and load."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np
import pytest

from avmatch.config import load_config, override
from avmatch.media import read_frames, write_video, write_wav
from avmatch.recommend import Recommendation, Soundtrack
from avmatch.serve import AT_ONCE, KNOWN, WAITING, create_app, running
from avmatch.workspace import load_manifest
from tools import write_openapi

TONE = 0.2 * np.sin(2 * np.pi * 220 * np.arange(16_000) / 8_000)


class FakeEngine:
    "Looks at the clip and always answers the same; `gate` holds it up."
    def __init__(self, folder):
        self.tracks, self.gate, self.folder = {}, threading.Event(), folder
        self.gate.set()
        for audio_id in ("rain", "stürm/1 ?"):
            path = folder / f"{len(self.tracks)}.wav"
            write_wav(path, TONE, sr=8_000)
            self.tracks[audio_id] = Soundtrack(audio_id, audio_id, None, None, None, None, str(path), "none.jpg")

    def recommend(self, path, top_k=5):
        next(read_frames(path))
        assert self.gate.wait(30)
        why = {"parts": {"joint": 0.25, "words": 0.25, "rhythm": 0.0, "hub": 0.0}, "reason": "umbrella — rain"}
        return [Recommendation(**asdict(track), score=0.5, **why) for track in self.tracks.values()][:top_k]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    "The bytes of two seconds of video."
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, [np.full((96, 54, 3), i, np.uint8) for i in range(20)], TONE, frame_rate=10, sr=8_000)
    return path.read_bytes()


@pytest.fixture
def engine(tmp_path): return FakeEngine(tmp_path)


@pytest.fixture
def uploads(tmp_path_factory, monkeypatch):
    "The folder of temporary files, which must be empty after a request."
    folder = tmp_path_factory.mktemp("uploads")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def client(engine, uploads):
    "Talks to a service with the pretended engine and an upload limit of 1 MB."
    app = create_app(override(load_config(), {"serve": {"max_upload_mb": 1.0}}), engine=engine)
    with running(app) as url, httpx.Client(base_url=url, timeout=30) as client: yield client


def is_problem(response) -> bool:
    return list(response.json()) == ["reason", "detail"] and response.json()["detail"].strip() != ""


def send_raw(client, data: bytes) -> bytes:
    "Send bytes as they are, and read until the server closes."
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


# ---- the real thing

@pytest.fixture(scope="module")
def real(demo):
    "Talks to the service of the demo workspace."
    with running(create_app(*demo)) as url, httpx.Client(base_url=url, timeout=60) as client: yield client


def test_recommend_keeps_the_contract_of_the_report(real, demo):
    config, workspace = demo
    entry = load_manifest(workspace)[0]
    with workspace.resolve(entry["video_path"]).open("rb") as file:
        response = real.post("/recommend?top_k=3", files={"file": ("sample.mp4", file, "video/mp4")})
    answers = response.json()
    assert response.status_code == 200 and len(answers) == 3
    assert all(list(a) == ["audio_id", "score", "audio_url"] for a in answers)
    assert [a["score"] for a in answers] == sorted((a["score"] for a in answers), reverse=True)
    assert all(-1 <= a["score"] <= 1 and a["score"] == round(a["score"], 4) for a in answers)
    for answer in answers:
        assert answer["audio_url"] == str(real.base_url.join(f"audio/{answer['audio_id']}"))
        sound = httpx.get(answer["audio_url"])
        assert (sound.status_code, sound.headers["content-type"], sound.content[:4]) == (200, "audio/wav", b"RIFF")
        assert sound.content == (workspace.audio / f"{answer['audio_id']}.wav").read_bytes()
        details = real.get(f"/tracks/{answer['audio_id']}").json()
        assert details["title"] and details["duration"] > 0 and real.get(details["picture_url"]).content[:2] == b"\xff\xd8"


def test_details_say_why_and_change_nothing_else(real, client, clip, demo):
    video = demo[1].resolve(load_manifest(demo[1])[0]["video_path"]).read_bytes()
    plain, detailed = (real.post("/recommend", params={"top_k": 3, "details": d}, files={"file": video}).json() for d in (False, True))
    assert all(list(a) == ["audio_id", "score", "audio_url", "reason", "parts", *KNOWN] for a in detailed)
    assert [{k: a[k] for k in ("audio_id", "score", "audio_url")} for a in detailed] == plain
    assert all(abs(sum(a["parts"].values()) - a["score"]) < 1e-3 and list(a["parts"]) == ["joint", "words", "rhythm", "hub"] for a in detailed)
    assert client.post("/recommend?details=true", files={"file": clip}).json()[0]["reason"] == "umbrella — rain"
    refused = client.post("/recommend?details=perhaps", files={"file": clip})
    assert refused.status_code == 422 and is_problem(refused) and refused.json()["detail"].startswith("details: ")


def test_top_k_is_five_unless_asked_otherwise(real, demo):
    video = demo[1].resolve(load_manifest(demo[1])[0]["video_path"]).read_bytes()
    assert len(real.post("/recommend", files={"file": video}).json()) == 5
    assert len(real.post("/recommend?top_k=50", files={"file": video}).json()) == real.get("/health").json()["n_tracks"] > 5


def test_avmatch_serve_prints_where_it_is(demo):
    words = ["serve", "--workspace", demo[1].root, "-p", "serve.port=0"]
    process = subprocess.Popen([sys.executable, "-m", "avmatch.cli", *map(str, words)], stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
        assert httpx.get(f"{url}/health").json()["status"] == "ok"
    finally: process.send_signal(signal.SIGINT)
    assert process.wait(20) in (0, 130)


# ---- the contract

def test_openapi_is_the_committed_one():
    committed = json.loads(write_openapi.PATH.read_text(encoding="utf-8"))
    assert write_openapi.describe() == committed, "if you meant to change it: python -m tools.write_openapi"


def test_a_sound_url_uses_the_name_by_which_the_service_was_reached(client, clip):
    found = client.post("/recommend", files={"file": clip}, headers={"Host": "sounds.example:81"}).json()
    assert found[0]["audio_url"] == "http://sounds.example:81/audio/rain"


def test_every_response_keeps_the_page_to_itself(client):
    for path in ("/", "/health", "/audio/rain", "/audio/none", "/ui/app.js"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and "default-src 'self'" in headers["content-security-policy"]


def test_there_is_no_page_that_loads_from_elsewhere(client):
    assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
    for path in ("/", "/ui/app.js", "/ui/style.css"):
        assert re.findall(r"https?://(?!www\.w3\.org).*|[\"'(]//.*", client.get(path).text) == []


# ---- sounds

@pytest.mark.parametrize("wanted, status, expected", [
    ("bytes=0-3", 206, slice(0, 4)), ("bytes=4-", 206, slice(4, None)), ("bytes=-4", 206, slice(-4, None)),
    ("bytes=0-99999999", 206, slice(0, None)), ("bytes=99999999-", 416, None), ("bytes=9-3", 400, None), ("lines=1-2", 400, None),
])
def test_ranges(client, engine, wanted, status, expected):
    sound = Path(engine.tracks["rain"].audio_path).read_bytes()
    response = client.get("/audio/rain", headers={"Range": wanted})
    assert response.status_code == status
    if expected: assert response.content == sound[expected] and response.headers["accept-ranges"] == "bytes"


def test_several_ranges_and_a_range_of_another_version(client, engine):
    sound = Path(engine.tracks["rain"].audio_path).read_bytes()
    several = client.get("/audio/rain", headers={"Range": "bytes=0-3,8-11"})
    assert several.status_code == 206 and b"RIFF" in several.content and b"WAVE" in several.content
    etag = client.head("/audio/rain").headers["etag"]
    same = client.get("/audio/rain", headers={"Range": "bytes=0-3", "If-Range": etag})
    other = client.get("/audio/rain", headers={"Range": "bytes=0-3", "If-Range": '"another"'})
    assert (same.status_code, same.content, other.status_code, other.content) == (206, b"RIFF", 200, sound)


def test_head_gives_the_length_and_nothing_else(client, engine):
    head = client.head("/audio/rain")
    assert head.status_code == 200 and head.content == b""
    assert int(head.headers["content-length"]) == os.path.getsize(engine.tracks["rain"].audio_path)
    assert client.head("/audio/none").status_code == 404


@pytest.mark.parametrize("path", [
    "/audio/none", "/audio/../rain", "/audio/..%2f..%2fetc%2fpasswd", "/audio/%2fetc%2fpasswd", "/audio/rain%00", "/audio/rain.wav",
    "/audio/", "/audio/....//rain", "/audio/0.wav", "/tracks/none", "/picture/rain", "/ui/..%2fserve.py", "/ui/../../setup.py", "/nowhere",
])
def test_only_the_catalogue_is_given_out(client, path):
    answer = send_raw(client, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404") and b'"reason":"not_found"' in answer


def test_a_strange_id_works_and_a_deleted_file_is_a_404(client, engine, clip):
    rain, storm = client.post("/recommend", files={"file": clip}).json()
    assert httpx.get(storm["audio_url"]).content[:4] == b"RIFF"
    assert client.get("/tracks/st%C3%BCrm%2F1%20%3F").json()["audio_id"] == "stürm/1 ?"
    Path(engine.tracks["rain"].audio_path).unlink()
    for response in (httpx.get(rain["audio_url"]), httpx.get(rain["audio_url"], headers={"Range": "bytes=0-3"})):
        assert response.status_code == 404 and is_problem(response)
    assert httpx.head(rain["audio_url"]).status_code == 404


# ---- bad input

def bad_files(clip):
    return {
        "empty": b"", "one byte": b"x", "text": b"This is not a video.", "html": b"<!doctype html><video></video>",
        "zip": b"PK\x03\x04" + bytes(100), "pdf": b"%PDF-1.7\n" + bytes(100), "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "cut off": clip[:len(clip) // 2], "zeros": bytes(10_000),
        "ffconcat": b"ffconcat version 1.0\nfile '0.wav'\n", "hls": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    }


def test_what_is_no_video_is_told_in_a_sentence(client, clip, uploads):
    for name, content in bad_files(clip).items():
        response = client.post("/recommend", files={"file": ("clip.mp4", content, "video/mp4")})
        assert response.status_code == 422 and is_problem(response), (name, response.text)
        assert "/" not in response.json()["detail"] and response.json()["detail"].startswith("Your clip"), (name, response.text)
    assert list(uploads.iterdir()) == []


def test_pictures_that_would_fill_the_memory_are_refused(client, tmp_path):
    write_video(tmp_path / "bomb.mp4", [np.zeros((2400, 4112, 3), np.uint8)], frame_rate=1)
    response = client.post("/recommend", files={"file": (tmp_path / "bomb.mp4").read_bytes()})
    assert response.status_code == 422 and "(4112 x 2400), 9,000,000 at most" in response.json()["detail"]


@pytest.mark.parametrize("top_k", ["0", "-1", "51", "1000000000", "1e9", "x", "NaN", "2.5", ""])
def test_an_impossible_top_k_is_refused(client, clip, top_k):
    response = client.post(f"/recommend?top_k={top_k}", files={"file": clip})
    assert response.status_code == 422 and is_problem(response) and response.json()["detail"].startswith("top_k: ")


@pytest.mark.parametrize("name", ["../../x.mp4", "a" * 4_096, "日暮れ 🎬.mp4", "a\0b.mp4", "/etc/passwd", "C:\\clip.mp4", ".."])
def test_the_name_of_a_file_plays_no_part(client, clip, name, uploads):
    assert client.post("/recommend", files={"file": (name, clip, "text/plain")}).status_code == 200
    assert list(uploads.iterdir()) == []


FORM = "multipart/form-data; boundary=b"
FIELD = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


def form(*parts: bytes) -> bytes: return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


@pytest.mark.parametrize("content_type, body", [
    (FORM, b""),
    (FORM, b"no boundary in here"),
    ("multipart/form-data", form(FIELD + b"x")),
    (FORM, form(b'Content-Disposition: form-data; name="other"; filename="a"\r\n\r\nx')),
    (FORM, form(b'Content-Disposition: form-data; name="file"\r\n\r\ntext, not a file')),
    (FORM, form(b'Content-Disposition: form-data; name="file"; filename=""\r\n\r\n')),
    (FORM, form(b"Content-Disposition: form-data\r\n\r\nx")),
    (FORM, form(b"X: " + b"y" * 100_000 + b"\r\n\r\nx")),
    (FORM, form(*[b'Content-Disposition: form-data; name="a"; filename="a"\r\n\r\n'] * 10_000)),
    ("application/json", b'{"file": "x"}'), ("video/mp4", b"x"), ("text/plain; charset=none", b"\xff\xfe"),
])
def test_malformed_requests_are_the_clients_fault(client, content_type, body, uploads):
    response = client.post("/recommend", content=body, headers={"Content-Type": content_type})
    assert response.status_code in (400, 422) and is_problem(response), response.text
    assert client.get("/health").status_code == 200 and list(uploads.iterdir()) == []


def test_other_methods_and_a_second_file(client, clip):
    refused = client.get("/recommend")
    assert refused.status_code == 405 and is_problem(refused)
    two = client.post("/recommend", files=[("file", ("a", b"text")), ("file", ("b", clip))])
    assert two.status_code in (200, 422)


# ---- too much

def test_an_upload_over_the_limit_is_refused_with_and_without_its_length(client, uploads):
    announced = client.post("/recommend", files={"file": bytes(1_100_000)})
    pieces = [b"--b\r\n" + FIELD, *[bytes(100_000)] * 11]
    counted = client.post("/recommend", content=iter(pieces), headers={"Content-Type": FORM})
    for response in (announced, counted):
        assert response.status_code == 413 and is_problem(response) and "1 MB" in response.json()["detail"]
    assert list(uploads.iterdir()) == []


def test_a_body_of_ten_gigabytes_is_refused_before_it_comes(client):
    head = f"POST /recommend HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {FORM}\r\nContent-Length: 10000000000\r\n\r\n"
    assert send_raw(client, head.encode()).startswith(b"HTTP/1.1 413")


def test_a_client_that_hangs_up_leaves_nothing_behind(client, clip, uploads):
    body = form(FIELD + clip)
    head = f"POST /recommend HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for n in (10, len(body) // 2, len(body) - 1):
        with socket.create_connection((client.base_url.host, client.base_url.port)) as connection: connection.sendall(head + body[:n])
    assert client.post("/recommend", files={"file": clip}).status_code == 200
    assert list(uploads.iterdir()) == []


def test_more_clips_than_can_be_worked_on(client, engine, clip, uploads):
    "Some are worked on, some wait, the others are told to come again; the rest of the service stays quick."
    engine.gate.clear()
    n = AT_ONCE + WAITING + 4
    with ThreadPoolExecutor(n) as pool:
        try:
            asked = [pool.submit(httpx.post, f"{client.base_url}/recommend", files={"file": clip}, timeout=60) for _ in range(n)]
            until = time.monotonic() + 20
            while sum(f.done() for f in asked) < 4 and time.monotonic() < until: time.sleep(0.05)
            start = time.monotonic()
            assert client.get("/health").status_code == client.get("/audio/rain").status_code == 200
            assert time.monotonic() - start < 2
            refused = [f.result() for f in asked if f.done()]
        finally: engine.gate.set()
        statuses = sorted(f.result().status_code for f in asked)
    assert {(r.status_code, r.headers.get("retry-after"), is_problem(r)) for r in refused} == {(503, "5", True)}
    assert statuses == [200] * (AT_ONCE + WAITING) + [503] * 4
    assert list(uploads.iterdir()) == []
