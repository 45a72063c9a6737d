"""`avmatch run --source youtube` against a YouTube on this machine where much goes wrong, and what its final table says."""
import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from fake_youtube import KEY, FakeYouTube, serve, video
from media_server import MediaServer

from avmatch.state import open_state
from avmatch.workspace import Workspace

# what becomes of a clip, by what the server does to it; each befalls a tenth of them
MEDIA = {"": "done", "throttled once": "done", "server error once": "done", "forbidden": "private", "not found": "deleted",
         "truncated": "network", "silent film": "no_audio", "hanging": "timed_out", "page": "no_format", "bot check once": "done"}
FAULTS = ("server_500", "server_503", "reset", "time_out", "not_json", "bad_request")
QUICK = {"timeout": 3, "socket_timeout": 30, "pause": 0.05, "max_pauses": 3, "attempts": 2, "retries": 0, "fragment_retries": 0}


@pytest.fixture
def site(monkeypatch):
    "A YouTube with its API and its videos on one address."
    fake, media = FakeYouTube(), MediaServer()
    monkeypatch.setenv("YOUTUBE_API_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(fake.reply, lambda handler: media.answers(handler, handler.command != "HEAD")) as url:
        fake.url = media.url = url
        yield fake, media
        media.stopping.set()


def run(site, folder, *words, **changes):
    "The command line, with settings that lead to the server."
    url = site[0].url
    settings = {"api_url": url, "video_url": url + "/videos/{video_id}.mp4", "query": "title", "max_results": 200, **QUICK, **changes}
    words = [*words, *(w for key, value in settings.items() for w in ("-p", f"ingest.{key}={value}"))]
    done = subprocess.run([sys.executable, "-m", "avmatch.cli", "run", "--source", "youtube", *words], cwd=folder, text=True,
                          capture_output=True, timeout=500, env=os.environ | {"SOURCE_DATE_EPOCH": "1790000000"})
    assert KEY not in done.stdout + done.stderr
    return done


def outcomes(folder, stage="ingest"):
    with open_state(Workspace(folder / "data")) as state: return {i.video_id: i.reason or i.state for i in state.items(stage)}


@pytest.mark.slow
def test_a_tenth_of_every_fault_and_every_clip_is_accounted_for(site, tmp_path):
    fake, media = site
    ids = fake.fill(20)
    expected = {}
    for i, video_id in enumerate(ids):   # every fault has its tenth
        media.faults[video_id] = list(MEDIA)[i % len(MEDIA)]
        expected[video_id] = MEDIA[media.faults[video_id]]
    odd = {"live": video("live", live="live"), "endless": video("endless", "P0D"), "long": video("long", "PT61S"),
           "hidden": video("hidden", status={"privacyStatus": "private"}), "failed": video("failed", status={"uploadStatus": "failed"}),
           "vanished": video("vanished"), "shy": video("shy", counts={"viewCount": "10"})}
    fake.add(*odd.values())
    fake.vanish("vanished")
    expected |= {"live": "live", "endless": "no_duration", "long": "too_long", "hidden": "private", "failed": "not_processed",
                 "vanished": "deleted", "shy": "done"}
    fake.hang = 1.0
    for name in FAULTS: fake.inject(name, share=0.1)
    for _ in range(20):   # bad answers and refused requests stop a run with one line; the same command goes on
        done = run(site, tmp_path, "--only", "ingest")
        if done.returncode == 0: break
        assert done.stderr.startswith("avmatch: 00_ingest: ") and done.stderr.count("\n") <= 2, done.stderr
    assert done.returncode == 0, done.stderr
    assert outcomes(tmp_path) == expected
    workspace = Workspace(tmp_path / "data")
    records = {r["video_id"]: r for r in json.loads(workspace.metadata.read_text())}
    assert set(records) == {i for i, what in expected.items() if what == "done"}
    assert (records["shy"]["likes"], records["shy"]["comments"]) == (None, None)
    assert {p.stem for p in workspace.videos.iterdir()} == set(records), "no partial file is left"
    skipped = {s["video_id"]: s["reason"] for s in json.loads(workspace.ingest_skipped.read_text())}
    assert skipped == {i: what for i, what in expected.items() if what != "done"}
    # the table that a person sees adds up
    printed = subprocess.run([sys.executable, "-m", "avmatch.cli", "status", "--json"], cwd=tmp_path, capture_output=True, text=True)
    table = [row for row in json.loads(printed.stdout)["table"] if row["stage"] == "ingest"]
    assert {row["reason"] or row["state"]: row["clips"] for row in table} == Counter(expected.values())
    assert sum(row["clips"] for row in table) == len(expected)


def test_a_site_that_has_had_enough_does_not_burn_the_list(site, tmp_path):
    fake, media = site
    ids = fake.fill(5)
    media.patience = 7   # two requests a video: from the fourth on everybody is refused
    done = run(site, tmp_path, "--only", "ingest", max_pauses=2)
    assert done.returncode == 1
    assert "the site has refused 3 times in a row; try again after" in done.stderr and "cookies" in done.stderr
    assert outcomes(tmp_path) == dict.fromkeys(ids[:3], "done") | dict.fromkeys(ids[3:], "pending"), "no clip is blamed"
    assert len(json.loads(Workspace(tmp_path / "data").metadata.read_text())) == 3
    media.patience = float("inf")
    asked = media.asked.copy()
    done = run(site, tmp_path, "--only", "ingest")
    assert done.returncode == 0, done.stderr
    assert set(outcomes(tmp_path).values()) == {"done"}
    assert not [i for i in ids[:3] if media.asked[i] != asked[i]], "what is there is not fetched again"


def test_an_allowance_that_ends_stops_after_what_was_found(site, tmp_path):
    fake, _ = site
    fake.searches_a_day = 1
    good, long = fake.fill(3, prefix="a"), fake.fill(57, prefix="b", duration="PT70S")
    done = run(site, tmp_path, "--only", "ingest", max_results=60)
    assert done.returncode == 1
    assert "Pacific" in done.stderr or "renewed" in done.stderr, done.stderr
    assert outcomes(tmp_path) == dict.fromkeys(good, "done") | dict.fromkeys(long[:47], "too_long"), "the page of fifty that was paid for"


def test_the_cost_is_told_before(site, tmp_path):
    done = run(site, tmp_path, "--only", "ingest", "--dry-run", max_results=120)
    assert done.returncode == 0, done.stderr
    assert "search 'title': 3 searches at most" in done.stdout
    assert not site[0].asked


def test_a_clip_that_was_private_gets_another_turn(site, tmp_path):
    fake, media = site
    fake.fill(2)
    media.faults["v00001"] = "forbidden"
    assert run(site, tmp_path, "--only", "ingest").returncode == 0
    assert outcomes(tmp_path)["v00001"] == "private"
    assert run(site, tmp_path, "--only", "ingest").returncode == 0
    asked = media.asked["v00001"]
    del media.faults["v00001"]
    again = subprocess.run([sys.executable, "-m", "avmatch.cli", "retry", "--reason", "private"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert outcomes(tmp_path) == {"v00000": "done", "v00001": "done"}
    assert media.asked["v00001"] > asked
    assert "2  done" in again.stdout
