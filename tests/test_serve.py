"""The HTTP API over a real connection: the report's contract, the catalogue, and sounds that seek."""
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import httpx
import pytest
from serving import is_problem, send_raw

from avmatch.config import override
from avmatch.replies import DetailedAnswer
from avmatch.serve import create_app, running
from avmatch.workspace import load_manifest
from tools import write_openapi

# ---- the real thing

@pytest.fixture(scope="module")
def real(demo):
    "Talks to the service of the demo workspace."
    config, workspace = demo
    app = create_app(override(config, {"serve": {"posts_a_minute": 0}}), workspace)
    with running(app) as url, httpx.Client(base_url=url, timeout=60) as client: yield client


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
    assert all(list(a) == [field.name for field in fields(DetailedAnswer)] for a in detailed)
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
    process = subprocess.Popen([sys.executable, "-m", "avmatch.cli", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
        assert "this machine only" in line and httpx.get(f"{url}/health?secret=1", headers={"X-Request-ID": "mine"}).json()["status"] == "ok"
    finally: process.send_signal(signal.SIGINT)
    _, logged = process.communicate(timeout=20)
    assert process.returncode in (0, 130) and "secret" not in logged
    line = next(json.loads(line) for line in logged.splitlines() if '"mine"' in line)
    assert (line["event"], line["route"], line["status"]) == ("request", "/health", 200)


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


# ---- the state of the service, and the catalogue

def test_it_says_when_it_is_ready_and_what_it_is(client):
    ready = client.get("/ready")
    assert ready.status_code == 200 or (ready.status_code, ready.headers["retry-after"]) == (503, "2")
    assert client.get("/version").json()["version"] == client.get("/health").json()["version"]


def test_counts_have_few_labels_whatever_is_asked_for(client):
    for i in range(30): client.get(f"/audio/{i}"), client.get(f"/nowhere/{i}")
    counts = client.get("/metrics")
    assert counts.headers["content-type"].startswith("text/plain")
    routes = set(re.findall(r'route="([^"]*)"', counts.text))
    assert {"/audio/{audio_id}", "other"} <= routes and not any("nowhere" in route for route in routes)


def test_the_catalogue_comes_in_pages(client):
    whole, second = client.get("/tracks").json(), client.get("/tracks?start=1&limit=1").json()
    assert whole["total"] == second["total"] == len(whole["tracks"]) == 2 and second["tracks"] == whole["tracks"][1:]
    assert client.get("/tracks?start=9").json()["tracks"] == []
    for refused in ("start=-1", "limit=0", "limit=1001", "start=x", f"start={10**30}"):
        assert client.get(f"/tracks?{refused}").status_code == 422


def test_the_catalogue_takes_the_filters_of_a_question(real):
    whole = real.get("/tracks?limit=1000").json()["tracks"]
    tempo = sorted(t["tempo"] for t in whole if t["tempo"])[len(whole) // 2]
    slow = real.get("/tracks", params={"max_tempo": tempo, "limit": 1}).json()
    assert slow["total"] == sum(t["tempo"] is not None and t["tempo"] <= tempo for t in whole) and len(slow["tracks"]) == 1
    assert 0 < slow["total"] < len(whole) and real.get("/tracks?min_duration=9999").json() == {"total": 0, "tracks": []}
    assert real.get("/tracks?voice=loud").status_code == real.get("/tracks?min_tempo=9&max_tempo=3").status_code == 422


def test_an_outline_is_kept_and_not_measured_again(client, engine):
    assert client.get("/waveform/rain").status_code == 200
    kept = engine.folder / "waveforms" / "rain.json"
    kept.write_text(kept.read_text().replace('"duration":2.0', '"duration":5.0'))
    assert client.get("/waveform/rain").json()["duration"] == 5.0
    kept.unlink()
    assert client.get("/waveform/rain?n=801").status_code == 422


def test_the_outline_of_a_sound_is_that_of_a_sine(client):
    outline = client.get("/waveform/rain?n=50").json()
    assert outline["duration"] == 2.0 and len(outline["peaks"]) == 50 and all(0.17 < p < 0.23 for p in outline["peaks"])
    assert client.get("/waveform/none").status_code == 404 and client.get("/waveform/rain?n=0").status_code == 422


# ---- sounds

@pytest.mark.parametrize("wanted, status, expected", [
    ("bytes=0-3", 206, slice(0, 4)), ("bytes=4-", 206, slice(4, None)), ("bytes=-4", 206, slice(-4, None)),
    ("bytes=0-99999999", 206, slice(0, None)), ("bytes=99999999-", 416, None), ("bytes=9-3", 400, None), ("lines=1-2", 400, None),
])
def test_ranges(client, engine, wanted, status, expected):
    sound = Path(engine.tracks["rain"].audio_path).read_bytes()
    response = client.get("/audio/rain", headers={"Range": wanted})
    assert response.status_code == status and (status == 206 or is_problem(response))
    if status == 416: assert response.headers["content-range"] == f"bytes */{len(sound)}"
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
    answer = send_raw(client.base_url, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404") and b'"reason":"not_found"' in answer


def test_a_strange_id_works_and_a_deleted_file_is_a_404(client, engine, clip):
    rain, storm = client.post("/recommend", files={"file": clip}).json()
    assert httpx.get(storm["audio_url"]).content[:4] == b"RIFF"
    assert client.get("/tracks/st%C3%BCrm%2F1%20%3F").json()["audio_id"] == "stürm/1 ?"
    file = Path(engine.tracks["rain"].audio_path)
    aside = file.rename(file.with_name("aside.wav"))
    for response in (httpx.get(rain["audio_url"]), httpx.get(rain["audio_url"], headers={"Range": "bytes=0-3"}), client.get("/waveform/rain")):
        assert response.status_code == 404 and is_problem(response)
    assert httpx.head(rain["audio_url"]).status_code == 404
    refused = client.post("/render?audio_id=rain", files={"file": clip})
    assert (refused.status_code, refused.json()["reason"]) == (404, "not_found")
    aside.rename(file)
