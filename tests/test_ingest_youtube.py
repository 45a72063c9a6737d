"""The YouTube source against a server on this machine that answers in the shape of the real one."""
import json
import logging
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest

from avmatch.config import IngestError, MediaError, load_config
from avmatch.ingest import YouTubeSource, ask, collect, download, run_ingest, search_ids, youtube_service
from avmatch.media import probe, write_video
from avmatch.workspace import Workspace, load_json

KEY = "AIzaTestKeyThatMustNotBeSeen"


def error(status, reason, message):
    "The body of a refusal, as Google's APIs give it."
    return status, {"error": {"code": status, "message": message, "errors": [{"message": message, "domain": "usageLimits", "reason": reason}]}}


QUOTA = error(403, "quotaExceeded", 'The request cannot be completed because you have exceeded your <a href="/youtube/v3">quota</a>.')
BAD_KEY = (400, {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT",
                           "errors": [{"message": "API key not valid.", "domain": "global", "reason": "badRequest"}],
                           "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
                                        "domain": "googleapis.com"}]}})


def video(video_id, duration="PT12S", status=None, **counts):
    "An item of videos.list."
    return {"kind": "youtube#video", "etag": "e", "id": video_id,
            "snippet": {"publishedAt": "2026-01-02T03:04:05Z", "channelId": "UC1", "title": f"Title of {video_id}"},
            "contentDetails": {"duration": duration, "dimension": "2d", "definition": "hd"},
            "status": {"uploadStatus": "processed", "privacyStatus": "public", "license": "youtube"} | (status or {}),
            "statistics": counts or {"viewCount": "1000", "likeCount": "50", "favoriteCount": "0", "commentCount": "7"}}


class FakeYouTube:
    "What the server knows and what it was asked."
    def __init__(self, clip):
        self.videos, self.found, self.refusal, self.clip, self.asked = {}, [], None, clip, []

    def answer(self, path, query):
        "Status and JSON for a question."
        if self.refusal: return self.refusal
        if path.endswith("/search"):
            start, n = int(query.get("pageToken", "0")), int(query["maxResults"])
            more = {"nextPageToken": str(start + n)} if start + n < len(self.found) else {}
            items = [{"kind": "youtube#searchResult", "id": {"kind": "youtube#video", "videoId": i}} for i in self.found[start:start + n]]
            return 200, {"kind": "youtube#searchListResponse", "items": items, "pageInfo": {"totalResults": 1_000_000}} | more
        items = [self.videos[i] for i in query["id"].split(",") if i in self.videos]
        return 200, {"kind": "youtube#videoListResponse", "items": items}

    def counts(self, path): return sum(p == path for p, _ in self.asked)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    "The bytes of a small clip."
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, [np.full((64, 48, 3), v, np.uint8) for v in range(10)], 0.1 * np.sin(np.arange(22_050) / 10), frame_rate=10, sr=22_050)
    return path.read_bytes()


@pytest.fixture
def youtube(clip, monkeypatch):
    "A server with the API and the videos; its address is youtube.url."
    fake = FakeYouTube(clip)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self, with_body=True):
            url = urlparse(self.path)
            query = {k: v[0] for k, v in parse_qs(url.query).items()}
            fake.asked.append((url.path, query))
            kind, status, body = "application/json", 404, b"{}"
            if url.path.startswith("/youtube/v3/"):
                status, body = fake.answer(url.path, query)
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
            elif "broken" not in url.path and url.path.endswith(".mp4"): kind, status, body = "video/mp4", 200, fake.clip
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body: self.wfile.write(body)
        def do_HEAD(self): self.do_GET(with_body=False)
        def log_message(self, *args): pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("YOUTUBE_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


def settings(youtube, **changes):
    "The ingest settings that lead to the fake server."
    return load_config({"ingest": {"source": "youtube", "api_url": youtube.url, "retries": 0, "fragment_retries": 0, "socket_timeout": 5} | changes})


def source(youtube, **changes):
    "The source with its videos on the fake server too."
    return YouTubeSource(settings(youtube, **changes).ingest, link=youtube.url + "/videos/{video_id}.mp4")


def fill(youtube, n):
    "Let the search find n videos."
    youtube.found = [f"v{i:03d}" for i in range(n)]
    youtube.videos = {i: video(i) for i in youtube.found}


def test_search_goes_through_the_pages(youtube):
    fill(youtube, 120)
    config = settings(youtube, max_results=110).ingest
    assert search_ids(youtube_service(config), config) == youtube.found[:110]
    assert [q["maxResults"] for _, q in youtube.asked] == ["50", "50", "10"]
    first = youtube.asked[0][1]
    assert (first["q"], first["type"], first["videoDuration"], first["key"]) == ("songs shorts", "video", "short", KEY)
    assert [q.get("pageToken") for _, q in youtube.asked] == [None, "50", "100"]


def test_search_ends_with_the_last_page(youtube):
    fill(youtube, 3)
    youtube.found *= 2   # the same ids again
    config = settings(youtube, max_results=500).ingest
    assert search_ids(youtube_service(config), config) == ["v000", "v001", "v002"]


def test_search_ends_when_the_server_repeats_itself(youtube, monkeypatch):
    monkeypatch.setattr(youtube, "answer", lambda path, query: (200, {"items": [{"id": {"videoId": "a"}}], "nextPageToken": "same"}))
    config = settings(youtube).ingest
    assert search_ids(youtube_service(config), config) == ["a"]
    assert len(youtube.asked) == 2


def test_details_are_asked_for_fifty_at_a_time(youtube):
    fill(youtube, 120)
    records, skipped = source(youtube, max_results=120).records()
    assert [r["video_id"] for r in records] == youtube.found and not skipped
    details = [q for path, q in youtube.asked if path.endswith("/videos")]
    assert [len(q["id"].split(",")) for q in details] == [50, 50, 20]
    assert set(details[0]["part"].split(",")) == {"status", "contentDetails", "statistics", "snippet"}


def test_record_of_a_video(youtube):
    fill(youtube, 1)
    record = source(youtube).records()[0][0]
    assert list(record)[:4] == ["video_id", "views", "likes", "comments"]
    assert (record["views"], record["likes"], record["comments"], record["duration"]) == (1000, 50, 7, 12.0)
    assert (record["title"], record["channel_id"], record["track_id"]) == ("Title of v000", "UC1", None)
    assert (record["source"], record["licence"], record["schema_version"]) == ("youtube", "youtube", 1)
    assert YouTubeSource(settings(youtube).ingest).records()[0][0]["link"] == "https://www.youtube.com/watch?v=v000"


def test_from_the_search_to_the_files(youtube, tmp_path):
    youtube.videos = {v["id"]: v for v in (
        video("good"), video("nolikes", viewCount="10", favoriteCount="0"), video("minute", "PT1M"), video("long", "PT1M1S"),
        video("live", "P0D"), video("nolength"), video("private", status={"privacyStatus": "private"}),
        video("unlisted", status={"privacyStatus": "unlisted"}), video("failed", status={"uploadStatus": "failed"}), video("broken"))}
    del youtube.videos["nolength"]["contentDetails"]["duration"]
    youtube.found = [*youtube.videos, "gone"]
    workspace = Workspace(tmp_path / "data")
    counts = collect(source(youtube), workspace, max_duration=60)
    assert (counts["clips"], counts["new"], counts["skipped"]) == (3, 3, 8)
    records = {r["video_id"]: r for r in load_json(workspace.metadata, command="")}
    assert set(records) == {"good", "nolikes", "minute"}
    assert (records["nolikes"]["views"], records["nolikes"]["likes"], records["nolikes"]["comments"]) == (10, None, None)
    skipped = {s["video_id"]: s["reason"] for s in load_json(workspace.ingest_skipped, command="")}
    assert skipped == {"long": "too_long", "live": "no_duration", "nolength": "no_duration", "private": "private", "unlisted": "private",
                       "failed": "not_processed", "broken": "unknown", "gone": "missing"}
    for video_id in records:   # yt-dlp really fetched them, and left nothing else
        assert probe(workspace.videos / f"{video_id}.mp4").has_audio
    assert sorted(p.name for p in workspace.videos.iterdir()) == ["good.mp4", "minute.mp4", "nolikes.mp4"]


def test_what_is_there_is_not_downloaded_again(youtube, tmp_path):
    fill(youtube, 2)
    workspace = Workspace(tmp_path / "data")
    assert collect(source(youtube), workspace, max_duration=60)["new"] == 2
    n_asked = youtube.counts("/videos/v000.mp4")
    assert n_asked
    (workspace.videos / "v001.mp4").unlink()
    assert collect(source(youtube), workspace, max_duration=60)["new"] == 1
    assert youtube.counts("/videos/v000.mp4") == n_asked


@pytest.mark.parametrize("ffmpeg", ["/usr/bin/ffmpeg", None])
def test_download_with_and_without_ffmpeg(youtube, tmp_path, monkeypatch, caplog, ffmpeg):
    monkeypatch.setattr("avmatch.ingest.shutil.which", lambda name: ffmpeg)
    fill(youtube, 1)
    collect(source(youtube), Workspace(tmp_path / "data"), max_duration=60)
    assert (tmp_path / "data/raw/videos/v000.mp4").read_bytes() == youtube.clip
    assert ("no ffmpeg" in caplog.text) == (ffmpeg is None)


def test_a_failed_download_leaves_no_files(youtube, tmp_path):
    path = tmp_path / "videos/broken.mp4"
    with pytest.raises(MediaError, match="404") as caught: download(f"{youtube.url}/broken.mp4", path, settings(youtube).ingest)
    assert caught.value.reason == "unknown" and "\n" not in str(caught.value)
    assert not list(path.parent.iterdir())


def test_rest_of_a_killed_run_is_removed(youtube, tmp_path):
    rest = tmp_path / ".clip.download"
    rest.mkdir()
    (rest / "video.mp4.part").write_bytes(b"half")
    download(f"{youtube.url}/clip.mp4", tmp_path / "clip.mp4", settings(youtube).ingest)
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    assert (tmp_path / "clip.mp4").read_bytes() == youtube.clip


@pytest.mark.parametrize(("refusal", "expected"), [
    (QUOTA, "midnight Pacific time"),
    (error(429, "rateLimitExceeded", "Quota exceeded for quota metric 'Search Queries' and limit 'Search Queries per day'"), "midnight Pacific time"),
    (BAD_KEY, "does not accept the key in YOUTUBE_API_KEY"),
    (error(403, "accessNotConfigured", "YouTube Data API v3 has not been used in project 1 before or it is disabled."), "enable it"),
    (error(400, "invalidParameter", f"Bad thing in request with {KEY}"), "check ingest.query"),
    ((503, b"<html>\nUnavailable</html>"), "try again later"),
    ((200, b"<html>hello</html>"), "not a JSON object"),
    ((200, b"[1, 2]"), "not a JSON object"),
], ids=["quota", "search quota", "bad key", "not enabled", "bad request", "server error", "not json", "a list"])
def test_refusals_say_what_to_do(youtube, refusal, expected):
    youtube.refusal = refusal
    with pytest.raises(IngestError, match=expected) as caught: source(youtube).records()
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)


def test_no_network(youtube):
    config = load_config({"ingest": {"source": "youtube", "api_url": "http://127.0.0.1:9", "retries": 0}})
    with pytest.raises(IngestError, match="cannot be reached.*check the network") as caught: run_ingest(config, Workspace("never"))
    assert KEY not in str(caught.value)


def test_no_key(youtube, monkeypatch):
    monkeypatch.delenv("YOUTUBE_API_KEY")
    with pytest.raises(IngestError, match="YOUTUBE_API_KEY is not set"): source(youtube).records()
    assert not youtube.asked


def test_key_is_not_logged_when_the_client_tries_again(youtube, caplog, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    youtube.refusal = (500, {"error": {"code": 500, "message": "backend", "errors": [{"reason": "backendError"}]}})
    config = settings(youtube).ingest
    with caplog.at_level(logging.DEBUG), pytest.raises(IngestError, match="try again later"):
        ask(youtube_service(config).search().list(part="id", q="x"), retries=2)
    assert len(youtube.asked) == 3
    assert re.search(r"Sleeping .* before retry", caplog.text) and KEY not in caplog.text


def test_nothing_found(youtube, tmp_path):
    with pytest.raises(IngestError, match="nothing was found"): run_ingest(settings(youtube), Workspace(tmp_path / "data"))
