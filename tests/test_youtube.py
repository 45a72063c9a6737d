"""YouTube's listings and details through Google's client, against a server on this machine that has bad days."""
import json
import logging
import re
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone

import pytest
from fake_youtube import KEY, FakeYouTube, serve, video
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from test_youtube_records import ITEMS, JSON

from avmatch.config import IngestError, MediaError, QuotaError, load_config
from avmatch.quota import SEARCH, UNITS, make_ledger
from avmatch.records import RECORD_FIELDS, check_record
from avmatch.state import open_state
from avmatch.workspace import Workspace
from avmatch.youtube import YouTubeSource, dry_run_cost, known_videos
from avmatch.youtube_api import GoogleAPI, Listing

NOON = datetime(2026, 2, 1, 20, tzinfo=timezone.utc)   # in California


class Desk:
    "A fake YouTube, the settings that lead to it, and a workspace."
    def __init__(self, fake, url, root):
        self.fake, self.url, self.workspace, self.now, self.waits = fake, url, Workspace(root / "data"), NOON, []
        self.state = open_state(self.workspace)
        fake.clock = self.clock

    def clock(self): return self.now

    def config(self, **changes):
        "The settings of a search for everything that fill() makes."
        return load_config({"ingest": {"source": "youtube", "api_url": self.url, "query": "title", "socket_timeout": 5} | changes}).ingest

    def source(self, **changes):
        "The source, with a clock that can be turned and waits that take no time."
        config = self.config(**changes)
        api = GoogleAPI(config, make_ledger(self.state, config, clock=self.clock), sleep=self.waits.append)
        return YouTubeSource(config, self.state, api=api, clock=self.clock)

    def records(self, **changes):
        "What a run of the source brings; the error that stopped it, if one did."
        source = self.source(**changes)
        found = source.records()
        if source.stopped: raise source.stopped
        return found

    def known(self, **changes) -> list[str]:
        "The videos whose details are there; nobody is asked."
        return ids(known_videos(self.source(**changes).ids(), self.state))

    def asked_twice(self) -> list[str]:
        "Pages that were asked for more than once."
        return [page for end in ("search", "playlistItems", "videos") for page, n in self.fake.pages(end).items() if n > 1]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setenv("YOUTUBE_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fake = FakeYouTube()
    with serve(fake.reply) as url:
        desk = Desk(fake, url, tmp_path)
        yield desk
        desk.state.connection.close()


def ids(answer): return [r["video_id"] for r in answer[0]]


# ---- listing

def test_from_the_search_to_the_records(desk):
    found = desk.fake.fill(120)
    assert ids(desk.records(max_results=110)) == found[:110]
    first = desk.fake.asked[0][1]
    assert (first["q"], first["type"], first["videoDuration"], first["maxResults"], first["key"]) == ("title", "video", "short", "50", KEY)
    assert not {"publishedAfter", "publishedBefore", "regionCode", "relevanceLanguage", "pageToken"} & first.keys()
    details = [q for e, q in desk.fake.asked if e == "videos"]
    assert [len(q["id"].split(",")) for q in details] == [50, 50, 10]
    assert set(details[0]["part"].split(",")) == {"status", "contentDetails", "statistics", "snippet"}
    assert (desk.fake.count("search"), len(desk.fake.asked)) == (3, 6)


def test_a_search_shows_500_and_windows_show_all(desk):
    found = desk.fake.fill(1_000)   # an hour apart: 41 days and a half
    assert len(ids(desk.records(max_results=5_000))) == 500
    windowed = {"published_after": "2025-12-20", "published_before": "2026-02-01", "window_days": 10}
    assert sorted(ids(desk.records(max_results=5_000, **windowed))) == found


def test_overlapping_windows_give_each_video_once(desk):
    found = desk.fake.fill(300)
    desk.fake.fuzz = timedelta(hours=6)   # the index is not exact
    got = ids(desk.records(max_results=5_000, published_after="2026-01-18", published_before="2026-02-01", window_days=2))
    assert len(got) == len(set(got)) == 300 and set(got) == set(found)
    assert sum(len(q["id"].split(",")) for e, q in desk.fake.asked if e == "videos") == 300


def test_queries_region_and_language(desk):
    for kind in ("cat", "dog"): desk.fake.add(*(video(f"{kind}{i}", title=kind + "s") for i in range(3)))
    desk.fake.add(video("both", title="cats dogs"))
    assert ids(desk.records(query="cats; dogs", region="DE", language="de")) == ["cat0", "cat1", "cat2", "both", "dog0", "dog1", "dog2"]
    assert {(q["regionCode"], q["relevanceLanguage"]) for e, q in desk.fake.asked if e == "search"} == {("DE", "de")}
    desk.fake.asked.clear()
    desk.fake.add(video("owl", title="owls"))
    assert ids(desk.records(query="cats; owls", region="DE", language="de")) == ["cat0", "cat1", "cat2", "both", "owl"]
    assert [q["q"] for e, q in desk.fake.asked if e == "search"] == ["owls"]   # the cats are known


def test_channels_need_no_search(desk):
    found = desk.fake.fill(120, channel="UCa")
    desk.fake.fill(5, prefix="w", channel="UCb")
    assert ids(desk.records(query="", channels="UCa, UCb", max_results=200)) == found + [f"w{i:05d}" for i in range(5)]
    assert (desk.fake.count("search"), desk.fake.count("channels"), desk.fake.count("playlistItems")) == (0, 2, 4)


def test_a_channel_is_read_only_as_far_back_as_wanted(desk):
    found = desk.fake.fill(400, channel="UCa")   # the newest of 31 January, hour by hour
    got = ids(desk.records(query="", channels="UCa", max_results=400, published_after="2026-01-29", published_before="2026-01-30"))
    assert got == found[25:49]   # the day of the 29th
    assert desk.fake.count("playlistItems") == 2


def test_a_channel_that_is_not_there(desk):
    with pytest.raises(IngestError, match="knows no channel 'UCx'"): desk.records(query="", channels="UCx")


def test_a_channel_without_uploads(desk):
    desk.fake.add(video("a", channel="UCa"))
    desk.fake.inject("no_playlist", where="playlistItems")
    assert desk.records(query="", channels="UCa") == ([], [])


def test_tokens_in_a_circle_end_the_listing(desk):
    desk.fake.fill(500)
    desk.fake.inject("looping_token", where="search")
    assert len(ids(desk.records(max_results=500))) == 50
    assert desk.fake.count("search") == 2


# ---- the allowance

@pytest.mark.parametrize("quota_fault", ["quota_429", "quota_429_reason", "quota_403", "daily_limit_403"])
@pytest.mark.parametrize("searches_a_day", [3, 100], ids=["by our count", "by the server's word"])
def test_days_of_a_small_allowance(desk, quota_fault, searches_a_day):
    found = desk.fake.fill(500)
    desk.fake.quota_fault, desk.fake.searches_a_day, stops = quota_fault, 3, 0
    while True:
        try: got = desk.records(max_results=500, searches_a_day=searches_a_day)
        except QuotaError as e:
            stops += 1
            assert re.search(r"today's searches.*renewed at midnight Pacific time.*the same command goes on", str(e)) and KEY not in str(e)
            n_asked = desk.fake.count("search")
            with pytest.raises(QuotaError): desk.records(max_results=500, searches_a_day=searches_a_day)   # tried again at once: nothing is sent
            assert desk.fake.count("search") == n_asked
            assert len(desk.known(max_results=500)) == 150 * stops   # their details are there already
            desk.now = e.reset_at
        else: break
    assert (ids(got), stops) == (found, 3)
    answered = list(desk.fake.pages("search").values())
    assert len(answered) == 10 and sum(answered) == 10 + (stops if searches_a_day == 100 else 0)   # only what was refused is asked again
    assert max(desk.fake.spent.values()) <= 10


def test_too_much_in_a_minute_is_not_the_end_of_the_day(desk):
    found = desk.fake.fill(3)
    for name in ("per_minute_429", "per_minute_403"): desk.fake.inject(name, times=1)
    for _ in range(2):
        with pytest.raises(QuotaError, match="in a minute") as caught: desk.records()
        assert caught.value.reset_at == NOON + timedelta(minutes=1)
    assert ids(desk.records()) == found


def test_the_units_can_run_out_too(desk):
    found = desk.fake.fill(150)
    with pytest.raises(QuotaError, match="today's units"): desk.records(max_results=150, units_a_day=2)
    assert desk.known(max_results=150) == found[:100]
    desk.now += timedelta(days=1)
    assert ids(desk.records(max_results=150, units_a_day=2)) == found
    assert desk.asked_twice() == []


@pytest.mark.parametrize("changes", [
    {"max_results": 130}, {"query": "title; nothing", "channels": "UC1", "max_results": 400},
    {"max_results": 2_000, "published_after": "2026-01-01", "published_before": "2026-02-01", "window_days": 5}])
def test_the_dry_run_asks_nothing_and_does_not_promise_too_much(desk, changes):
    desk.fake.fill(600)
    rows = dry_run_cost(desk.config(**changes), desk.state, today=NOON)
    assert not desk.fake.asked
    desk.records(**changes)
    n_searches = sum(row["requests"] for row in rows if row["bucket"] == SEARCH)
    n_units = sum(row["requests"] for row in rows if row["bucket"] == UNITS)
    assert desk.fake.count("search") <= n_searches and len(desk.fake.asked) - desk.fake.count("search") <= n_units
    assert sum(row["requests"] for row in dry_run_cost(desk.config(**changes), desk.state, today=NOON)) == 0


# ---- faults

@pytest.mark.parametrize(("name", "expected"), [
    ("bad_key", "does not accept the key in YOUTUBE_API_KEY"), ("bad_key_reason", "does not accept the key"), ("api_disabled", "enable it"),
    ("bad_request", "check ingest.query"), ("not_json", "not a JSON object"), ("a_list", "not a JSON object")])
def test_what_does_not_pass_is_said_once(desk, name, expected):
    desk.fake.fill(3)
    desk.fake.inject(name)
    with pytest.raises(IngestError, match=expected) as caught: desk.records()
    assert "\n" not in str(caught.value) and KEY not in str(caught.value)
    assert (len(desk.fake.asked), desk.waits) == (1, [])


@pytest.mark.parametrize("name", ["server_500", "server_503", "reset", "closed", "time_out"])
def test_what_passes_is_tried_again(desk, name):
    found = desk.fake.fill(60)
    desk.fake.hang = 1.0
    desk.fake.inject(name, times=4)   # "closed" costs two each: the HTTP library repeats once by itself
    assert ids(desk.records(max_results=60, retries=4, socket_timeout=0.3)) == found
    assert desk.waits == [1, 2, 4, 8][:4 if name != "closed" else 2]
    assert desk.fake.happened[name] == 4
    spent = 100 - make_ledger(desk.state, desk.config(), clock=desk.clock).left(SEARCH)
    assert spent == desk.fake.count("search") - (2 if name == "closed" else 0)   # what was sent was charged


def test_a_server_in_trouble_for_long(desk):
    desk.fake.inject("server_503")
    with pytest.raises(IngestError, match="try again later"): desk.records(retries=2)
    assert (desk.waits, len(desk.fake.asked)) == ([1, 2], 3)


def test_no_network(desk):
    with pytest.raises(IngestError, match="cannot be reached.*check the network") as caught: desk.records(api_url="http://127.0.0.1:9")
    assert desk.waits == [] and KEY not in str(caught.value)


def test_no_key(desk, monkeypatch):
    monkeypatch.delenv("YOUTUBE_API_KEY")
    with pytest.raises(IngestError, match="YOUTUBE_API_KEY is not set"): desk.records()
    assert not desk.fake.asked


def test_the_key_is_in_no_log(desk, caplog):
    desk.fake.fill(3)
    for name in ("quota_403", "server_500", "reset", "bad_request"): desk.fake.inject(name, times=1)
    with caplog.at_level(logging.DEBUG):
        for _ in range(4):
            try: desk.records()
            except IngestError: desk.now += timedelta(days=1)
    assert "googleapiclient" in {r.name.split(".")[0] for r in caplog.records} and KEY not in caplog.text


def test_a_token_that_is_too_old(desk):
    found = desk.fake.fill(120)
    with pytest.raises(QuotaError): desk.records(max_results=120, searches_a_day=1)
    desk.fake.inject("stale_token", where="search", times=1)
    desk.now += timedelta(days=1)
    assert ids(desk.records(max_results=120)) == found


def test_every_fault_at_once_and_nothing_is_lost(desk):
    "10 % of the requests meet each fault; whoever runs the command again in the end has everything, each page once."
    found = desk.fake.fill(1_000)
    desk.fake.hang = 2.0
    faults = ["server_500", "server_503", "reset", "time_out", "not_json", "bad_request", "api_disabled", "quota_429", "quota_403", "per_minute_429"]
    for name in faults: desk.fake.inject(name, share=0.1)
    gone = found[100:120]
    desk.fake.vanish(*gone)
    windowed = {"published_after": "2025-12-15", "published_before": "2026-02-01", "window_days": 15, "max_results": 5_000}
    for _ in range(1_000):
        try: records, left_out = desk.records(socket_timeout=1, **windowed)
        except QuotaError as e: desk.now = e.reset_at
        except IngestError: pass
        else: break
    assert sorted([r["video_id"] for r in records] + gone) == found
    assert {(s["video_id"], s["reason"]) for s in left_out} == {(i, "deleted") for i in gone}
    assert all(desk.fake.happened[name] for name in faults)
    n_answered = len(desk.fake.asked) - sum(desk.fake.happened.values())
    n_pages = sum(len(desk.fake.pages(end)) for end in ("search", "videos"))
    assert n_answered == n_pages   # each page was answered once


PROGRAM = """
import sys
from avmatch.config import load_config
from avmatch.state import open_state
from avmatch.workspace import Workspace
from avmatch.youtube import YouTubeSource
url, root = sys.argv[1:]
config = load_config({"ingest": {"source": "youtube", "api_url": url, "query": "title", "max_results": 500, "channels": "UC1"}}).ingest
with open_state(Workspace(root)) as state: print(len(YouTubeSource(config, state).records()[0]))
"""


def test_killed_again_and_again(desk):
    "A process that is killed at any moment loses at most the page it was waiting for."
    found, n_kills = desk.fake.fill(500), 0
    desk.fake.clock = lambda: datetime.now(timezone.utc)
    def start(): return subprocess.Popen([sys.executable, "-c", PROGRAM, desk.url, str(desk.workspace.root)], stdout=subprocess.PIPE, text=True)
    for target in range(3, 40, 4):
        process = start()
        while process.poll() is None and len(desk.fake.asked) < target: time.sleep(0.002)
        process.kill()
        n_kills += process.wait() == -signal.SIGKILL
        process.communicate()
    assert n_kills >= 5
    assert start().communicate()[0].strip() == "500"
    assert sorted(desk.state.records()) == found
    pages = sum(len(desk.fake.pages(end)) for end in ("search", "playlistItems", "videos", "channels"))
    assert len(desk.fake.asked) - pages <= n_kills


# ---- records

def test_record_of_a_video(desk):
    desk.fake.add(video("abc"))
    record = desk.records()[0][0]
    assert tuple(record) == RECORD_FIELDS
    assert (record["views"], record["likes"], record["comments"], record["duration"]) == (1000, 50, 7, 12.0)
    assert (record["title"], record["channel_id"], record["channel"], record["tags"]) == ("Title of abc", "UC1", "Channel UC1", ["music", "short"])
    assert (record["source"], record["licence"], record["link"]) == ("youtube", "youtube", "https://www.youtube.com/watch?v=abc")
    assert (record["category"], record["attribution"], record["track_id"]) == ("10", "Channel UC1 on YouTube", None)
    assert datetime.fromisoformat(record["fetched_at"]).tzinfo


def test_what_is_kept_and_why_not(desk):
    desk.fake.add(
        video("good"), video("shy", counts={"viewCount": "10", "favoriteCount": "0"}), video("minute", "PT1M"), video("long", "PT1M1S"),
        video("p0d", "P0D"), video("live", "P0D", live="live"), video("soon", "PT12S", live="upcoming"), video("nolength", None),
        video("private", status={"privacyStatus": "private"}), video("unlisted", status={"privacyStatus": "unlisted"}),
        video("failed", status={"uploadStatus": "failed"}), video("gone"), video("days", "P1DT2H"))
    desk.fake.vanish("gone")
    records, left_out = desk.records()
    reasons = {s["video_id"]: s["reason"] for s in left_out}
    for record in records:
        try: check_record(record, max_duration=60)
        except MediaError as e: reasons[record["video_id"]] = e.reason
    assert reasons == {"long": "too_long", "p0d": "no_duration", "live": "live", "soon": "live", "nolength": "no_duration", "private": "private",
                       "unlisted": "private", "failed": "not_processed", "gone": "deleted", "days": "too_long"}
    shy = next(r for r in records if r["video_id"] == "shy")
    assert (shy["views"], shy["likes"], shy["comments"]) == (10, None, None)


@effort(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=10), JSON)
       | st.fixed_dictionaries({"items": st.lists(ITEMS | JSON, max_size=5)}, optional={"nextPageToken": JSON}))
def test_any_answer_is_understood(desk, answer):
    desk.fake.answer = lambda endpoint, query: (200, json.dumps(answer).encode())
    api = desk.source(units_a_day=10**9, searches_a_day=10**9).api
    for page in (api.search(Listing(query="x"), ""), api.uploads("UU1", "")): assert all(re.fullmatch(r"[\w-]+", i) for i in page.ids)
    assert isinstance(api.playlist("UC1"), str)
    assert all(item["id"] == i for i, item in api.videos(["a"]).items())


def test_a_second_run_asks_nobody(desk, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", f"{NOON.timestamp():.0f}")
    desk.fake.fill(60)
    first = desk.records(max_results=60)
    desk.fake.asked.clear()
    desk.now += timedelta(days=100)
    assert (desk.records(max_results=60), desk.fake.asked) == (first, [])
    assert ids(desk.records(max_results=60, max_age=30)) == ids(first)
    assert (desk.fake.count("search"), desk.fake.count("videos")) == (2, 2)
