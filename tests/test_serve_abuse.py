"""What strangers send to the HTTP API, over a real connection: each gets a clean answer, and nothing is left behind."""
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import CONTENT_TYPE, FIELD, connect, form, head, is_problem, make_app, send_raw

from avmatch.config import ConfigError, ServeConfig
from avmatch.media import write_video
from avmatch.serve import create_app, running


def wait_until(is_true) -> None:
    "Wait for what another thread does, but not for ever."
    until = time.monotonic() + 20
    while not is_true() and time.monotonic() < until: time.sleep(0.02)
    assert is_true()


def is_empty(folder) -> bool: return list(folder.iterdir()) == []


# ---- bytes

def bad_files(clip):
    return {
        "empty": (415, b""), "one byte": (415, b"x"), "text": (415, b"This is not a video."), "html": (415, b"<!doctype html><video></video>"),
        "zip": (415, b"PK\x03\x04" + bytes(100)), "pdf": (415, b"%PDF-1.7\n" + bytes(100)), "png": (415, b"\x89PNG\r\n\x1a\n" + bytes(100)),
        "gif": (415, b"GIF89a" + bytes(100)), "zeros": (415, bytes(10_000)),
        "ffconcat": (415, b"ffconcat version 1.0\nfile '0.wav'\n"), "hls": (415, b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
        "sdp": (415, b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        "cut off": (422, clip[:len(clip) // 2]), "no table": (422, clip[:40]), "noise": (422, clip[:32] + np.random.default_rng(0).bytes(5_000)),
    }


def test_what_is_no_video_is_told_in_a_sentence(client, clip, uploads):
    for name, (status, content) in bad_files(clip).items():
        response = client.post("/recommend", files={"file": ("clip.mp4", content, "video/mp4")})
        assert response.status_code == status and is_problem(response), (name, response.text)
        assert "/" not in response.json()["detail"] and response.json()["detail"].startswith("Your clip"), (name, response.text)
    wait_until(lambda: is_empty(uploads))


def test_a_sound_has_no_pictures(client, engine):
    with open(engine.tracks["rain"].audio_path, "rb") as sound: response = client.post("/recommend", files={"file": sound})
    assert response.status_code == 422 and response.json()["reason"] == "no_frames"


def test_pictures_that_would_fill_the_memory_are_refused(client, tmp_path):
    write_video(tmp_path / "bomb.mp4", [np.zeros((2400, 4112, 3), np.uint8)], frame_rate=1)
    response = client.post("/recommend", files={"file": (tmp_path / "bomb.mp4").read_bytes()})
    assert response.status_code == 422 and "(4112 x 2400), 9,000,000 at most" in response.json()["detail"]


# ---- the request

@pytest.mark.parametrize("top_k", ["0", "-1", "51", "1000000000", "1e9", "x", "NaN", "2.5", ""])
def test_an_impossible_top_k_is_refused(client, clip, top_k):
    response = client.post(f"/recommend?top_k={top_k}", files={"file": clip})
    assert response.status_code == 422 and is_problem(response) and response.json()["detail"].startswith("top_k: ")


@pytest.mark.parametrize("name", ["../../x.mp4", "a" * 4_096, "日暮れ 🎬.mp4", "a\0b.mp4", "/etc/passwd", "C:\\clip.mp4", ".."])
def test_the_name_of_a_file_plays_no_part(client, clip, name, uploads):
    assert client.post("/recommend", files={"file": (name, clip, "text/plain")}).status_code == 200
    wait_until(lambda: is_empty(uploads))


OTHER = b'Content-Disposition: form-data; name="%s"%s\r\n\r\nx'


@pytest.mark.parametrize("content_type, body", [
    (CONTENT_TYPE, b""), (CONTENT_TYPE, b"no boundary in here"), ("multipart/form-data", form(FIELD + b"x")),
    ("multipart/form-data; boundary=" + "b" * 5_000, form(FIELD + b"x")), ("multipart/form-data; boundary=\"", form(FIELD + b"x")),
    (CONTENT_TYPE, form(OTHER % (b"other", b'; filename="a"'))), (CONTENT_TYPE, form(OTHER % (b"file", b""))),
    (CONTENT_TYPE, form(OTHER % (b"file", b'; filename=""'))), (CONTENT_TYPE, form(b"Content-Disposition: form-data\r\n\r\nx")),
    (CONTENT_TYPE, form(b"X: " + b"y" * 100_000 + b"\r\n\r\nx")), (CONTENT_TYPE, form(b"X: y\r\n" * 100 + b"\r\nx")),
    (CONTENT_TYPE, form(*[OTHER % (b"a", b'; filename="a"')] * 10_000)), (CONTENT_TYPE, form(FIELD + b"x", FIELD + b"y")),
    (CONTENT_TYPE, form(FIELD + b"x")[:-6]), ("application/json", b'{"file": "x"}'), ("video/mp4", b"x"), ("text/plain; charset=none", b"\xff\xfe"),
])
def test_malformed_requests_are_the_clients_fault(client, content_type, body, uploads):
    response = client.post("/recommend", content=body, headers={"Content-Type": content_type})
    assert response.status_code in (400, 415, 422) and is_problem(response), response.text
    assert client.get("/health").status_code == 200
    wait_until(lambda: is_empty(uploads))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.tuples(st.sampled_from([FIELD, FIELD[:30], b"\r\n", b"", OTHER % (b"file", b""), b"Content-Disposition: ;;=\"\r\n\r\n"]),
                                st.binary(max_size=40)), max_size=4), cut=st.integers(0, 30))
def test_no_form_is_a_bug(client, parts, cut):
    body = form(*(start + content for start, content in parts))
    response = client.post("/recommend", content=body[:max(0, len(body) - cut)], headers={"Content-Type": CONTENT_TYPE})
    assert response.status_code in (400, 415, 422) and is_problem(response)


def test_other_methods_and_a_second_file(client, clip):
    refused = client.get("/recommend")
    assert refused.status_code == 405 and is_problem(refused)
    two = client.post("/recommend", files=[("file", ("a", clip)), ("file", ("b", clip))])
    assert two.status_code == 422 and "two files" in two.json()["detail"]


# ---- too much, too slow

def test_an_upload_over_the_limit_is_refused_with_and_without_its_length(client, uploads):
    announced = client.post("/recommend", files={"file": bytes(1_100_000)})
    pieces = [b"--b\r\n" + FIELD, *[bytes(100_000)] * 11]
    counted = client.post("/recommend", content=iter(pieces), headers={"Content-Type": CONTENT_TYPE})
    for response in (announced, counted):
        assert response.status_code == 413 and is_problem(response) and "1 MB" in response.json()["detail"]
    wait_until(lambda: is_empty(uploads))


def test_a_body_of_ten_gigabytes_is_refused_before_it_comes(client):
    assert send_raw(client.base_url, head(10_000_000_000)).startswith(b"HTTP/1.1 413")


def test_a_client_that_hangs_up_leaves_nothing_behind(client, clip, uploads):
    body = form(FIELD + clip)
    for n in (10, len(body) // 2, len(body) - 1):
        with connect(client.base_url) as connection: connection.sendall(head(len(body)) + body[:n])
    assert client.post("/recommend", files={"file": clip}).status_code == 200
    wait_until(lambda: is_empty(uploads))


@pytest.mark.parametrize("settings", [{"upload_pause": 0.3}, {"upload_timeout": 0.8}])
def test_a_body_that_does_not_come_is_not_waited_for(engine, uploads, settings):
    "One sender stops, another sends a byte now and then: the first meets the limit to a pause, the second that to the whole."
    with running(make_app(engine, **settings)) as url, connect(url) as connection:
        start = b"--b\r\n" + FIELD
        connection.sendall(head() + b"%x\r\n%b\r\n" % (len(start), start))
        answer, until = b"", time.monotonic() + 30
        connection.settimeout(0.1)
        while b"did not arrive" not in answer and time.monotonic() < until:   # head and body may come one after the other
            if "upload_timeout" in settings and not answer: connection.sendall(b"1\r\nx\r\n")
            try: answer += connection.recv(65_536)
            except TimeoutError: pass
    assert answer.startswith(b"HTTP/1.1 408") and b"did not arrive" in answer
    wait_until(lambda: is_empty(uploads))


def test_more_clips_than_can_be_worked_on(client, engine, clip, uploads):
    "Some are worked on, some wait, the others are told to come again; the rest of the service stays quick."
    engine.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        try:
            asked = [pool.submit(httpx.post, f"{client.base_url}/recommend", files={"file": clip}, timeout=60) for _ in range(8)]
            wait_until(lambda: sum(f.done() for f in asked) >= 4)
            assert client.get("/health").status_code == client.get("/audio/rain").status_code == 200
            assert "avmatch_clips 4.0" in client.get("/metrics").text
            refused = [f.result() for f in asked if f.done()]
        finally: engine.gate.set()
        statuses = sorted(f.result().status_code for f in asked)
    assert {(r.status_code, r.headers.get("retry-after"), is_problem(r)) for r in refused} == {(503, "5", True)}
    assert statuses == [200] * 4 + [503] * 4   # one at work, three that wait
    wait_until(lambda: is_empty(uploads))


# ---- workers that are killed

@pytest.fixture
def mortal(engine, uploads):
    "A service, and what gives the processes that decode for it."
    others = {p.pid for p in psutil.Process().children()}
    with running(make_app(engine)) as url, httpx.Client(base_url=url, timeout=60) as client:
        wait_until(lambda: client.get("/ready").status_code == 200)
        yield client, lambda: [p for p in psutil.Process().children() if p.pid not in others]


@pytest.mark.parametrize("address", ["/recommend", "/render?audio_id=rain"])
def test_a_worker_that_is_killed_at_work_is_replaced_and_the_clip_answered(mortal, clip, uploads, address):
    "The worker is held up before the clip comes, so that it is at work for certain when it is killed."
    client, workers = mortal
    (worker,) = workers()
    worker.suspend()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, address, files={"file": clip})
        wait_until(lambda: [p.stat().st_size for p in uploads.glob("*/*")] == [len(clip)])
        time.sleep(0.3)   # the worker has its order
        worker.kill()
        assert asked.result().status_code == 200
    assert [p.pid for p in workers()] != [worker.pid]
    wait_until(lambda: is_empty(uploads))


def test_where_every_worker_is_killed_the_client_shall_come_again(mortal, clip, uploads):
    client, workers = mortal
    with ThreadPoolExecutor(1) as pool:
        for worker in workers(): worker.suspend()
        asked = pool.submit(client.post, "/recommend", files={"file": clip})
        while not asked.done():
            time.sleep(0.05)
            for worker in workers(): worker.kill()
        refused = asked.result()
    assert (refused.status_code, refused.headers["retry-after"], is_problem(refused)) == (503, "30", True)
    assert client.post("/recommend", files={"file": clip}).status_code == 200
    wait_until(lambda: is_empty(uploads))


# ---- who may ask

def test_a_token_a_limit_and_other_sites(engine, clip, uploads, monkeypatch):
    monkeypatch.setenv("AVMATCH_TOKEN", "0123456789abcdef")
    app, friend = make_app(engine, posts_a_minute=2, cors="https://a.example"), {"Origin": "https://a.example"}
    with running(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        nobody = client.post("/recommend", files={"file": clip})
        assert nobody.status_code == 401 and is_problem(nobody) and nobody.headers["x-content-type-options"] == "nosniff"
        assert [client.get(path).status_code for path in ("/settings", "/audio/rain", "/metrics", "/openapi.json")] == [401] * 4
        assert [client.get(path).status_code for path in ("/", "/ui/app.js", "/health")] == [200] * 3
        asked = client.options("/recommend", headers=friend | {"Access-Control-Request-Method": "POST"})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "https://a.example")
        assert client.options("/recommend", headers={"Origin": "https://b.example", "Access-Control-Request-Method": "POST"}).status_code == 400
        assert client.post("/session", headers={"Authorization": "Bearer guessed"}).status_code == 401
        client.headers["Authorization"] = "Bearer 0123456789abcdef"
        other = client.post("/recommend", files={"file": clip}, headers={"Sec-Fetch-Site": "cross-site", "Origin": "https://b.example"})
        # without https, that is all a browser says
        neighbour = client.post("/recommend", files={"file": clip}, headers={"Origin": "http://127.0.0.1:9"})
        statuses = [client.post("/recommend", files={"file": clip}, headers={"Origin": origin}).status_code for origin in (friend["Origin"], url)]
        limited = client.post("/recommend", files={"file": clip})
        assert (other.status_code, neighbour.status_code, statuses, limited.status_code) == (403, 403, [200, 200], 429)
        assert 0 < int(limited.headers["retry-after"]) <= 30 and is_problem(limited)
    wait_until(lambda: is_empty(uploads))


def test_nobody_is_open_to_the_network_by_accident(monkeypatch):
    from avmatch.guard import check_exposure
    with pytest.raises(ConfigError, match="AVMATCH_TOKEN"): check_exposure(ServeConfig(host="0.0.0.0"), "")
    monkeypatch.setenv("AVMATCH_TOKEN", "short")
    with pytest.raises(ConfigError, match="16 characters"): create_app(engine=object())


def test_what_a_killed_service_left_behind_is_removed_at_the_start(engine, uploads):
    orphan = tempfile.mkdtemp(prefix="avmatch-upload-99999999-")
    with running(make_app(engine)): wait_until(lambda: is_empty(uploads))
    assert orphan.startswith(str(uploads))
