"""`avmatch run --source youtube` against a YouTube on this machine where much goes wrong, and what its final table says."""
import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from fake_youtube import KEY, FakeYouTube, serve, video
from media_server import MediaServer

from avmatch.samples import make_samples
from avmatch.state import open_state
from avmatch.workspace import Workspace

# what becomes of a clip, by what the server does to it
MEDIA = {"": "done", "throttled once": "done", "server error once": "done", "bot check once": "done", "forbidden": "private",
         "not found": "deleted", "truncated": "network", "silent film": "no_audio", "hanging": "timed_out", "page": "no_format"}
FAULTS = ("server_500", "server_503", "reset", "time_out", "not_json", "bad_request")
QUICK = {"timeout": 3, "socket_timeout": 30, "pause": 0.05, "max_pauses": 3, "attempts": 2, "retries": 0, "fragment_retries": 0}
CHEAP = {"audio_features.encoder": "mfcc+rhythm", "video_features.encoder": "motion", "train.rungs": "cca", "process.max_frames": 4}


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
    settings = CHEAP | {f"ingest.{key}": value for key, value in settings.items()}
    words = [*words, *(w for key, value in settings.items() for w in ("-p", f"{key}={value}"))]
    done = subprocess.run([sys.executable, "-m", "avmatch.cli", "run", "--source", "youtube", *words], cwd=folder, text=True,
                          capture_output=True, timeout=500, env=os.environ | {"SOURCE_DATE_EPOCH": "1790000000"})
    assert KEY not in done.stdout + done.stderr
    return done


def outcomes(folder, stage="ingest"):
    with open_state(Workspace(folder / "data")) as state: return {i.video_id: i.reason or i.state for i in state.items(stage)}


def fill(site, folder):
    "Sixteen clips of eight channels and a silent one, some for each thing that goes wrong with a video, one for each that the API says of it."
    fake, media = site
    known = [r for r in make_samples(folder, 8, clips_per_track=2, size=48) if r["video_id"][0] == "s" or r["video_id"] == "bad_silent"]
    for i, r in enumerate(known):
        fake.add(video(r["video_id"], f"PT{round(r['duration'])}S", channel=f"UC{r['track_id']}"))
        media.clips[r["video_id"]] = (folder / f"{r['video_id']}.mp4").read_bytes()
        media.faults[r["video_id"]] = [fault for fault, what in MEDIA.items() if what == "done"][i % 4]
    for fault in (fault for fault, what in MEDIA.items() if what != "done"):
        for i in range(1 if fault == "hanging" else 2):   # which takes the whole time-out, twice
            fake.add(video(f"{fault.replace(' ', '_')}_{i}"))
            media.faults[f"{fault.replace(' ', '_')}_{i}"] = fault
    fake.add(video("live", live="live"), video("endless", "P0D"), video("long", "PT61S"), video("vanished"),
             video("hidden", status={"privacyStatus": "private"}), video("failed", status={"uploadStatus": "failed"}),
             video("shy", counts={"viewCount": "10"}))
    fake.vanish("vanished")
    return {i: MEDIA[fault] for i, fault in media.faults.items()} | {"live": "live", "endless": "no_duration", "long": "too_long",
            "hidden": "private", "failed": "not_processed", "vanished": "deleted", "shy": "done"}


@pytest.mark.slow
def test_a_tenth_of_every_fault_and_every_clip_is_accounted_for_to_the_end(site, tmp_path):
    fake, _ = site
    expected = fill(site, tmp_path / "samples")
    good = {i for i, what in expected.items() if what == "done"}
    fake.hang = 1.0
    for name in FAULTS: fake.inject(name, share=0.1)
    for _ in range(20):   # bad answers and refused requests stop a run with one line; the same command goes on
        done = run(site, tmp_path, timeout=10)   # room for a busy machine
        if done.returncode == 0: break
        assert done.stderr.startswith("avmatch: 00_ingest: ") and done.stderr.count("\n") <= 2, done.stderr
    assert done.returncode == 0, done.stderr
    assert outcomes(tmp_path) == expected
    workspace = Workspace(tmp_path / "data")
    records = {r["video_id"]: r for r in json.loads(workspace.metadata.read_text())}
    assert set(records) == good
    assert (records["shy"]["likes"], records["shy"]["comments"]) == (None, None)
    assert {p.stem for p in workspace.videos.iterdir()} == good, "no partial file is left"
    skipped = {s["video_id"]: s["reason"] for s in json.loads(workspace.ingest_skipped.read_text())}
    assert skipped == {i: what for i, what in expected.items() if what != "done"}
    # the stages after it have done the rest, each all of what it was given
    heard = dict.fromkeys(good - {"bad_silent"}, "done")
    assert outcomes(tmp_path, "process") == heard | {"bad_silent": "silent"}
    assert outcomes(tmp_path, "audio_features") == outcomes(tmp_path, "video_features") == heard
    assert {s["status"] for s in json.loads(workspace.run.read_text())["stages"].values()} == {"done"}
    # the table that a person sees adds up
    printed = subprocess.run([sys.executable, "-m", "avmatch.cli", "status", "--json"], cwd=tmp_path, capture_output=True, text=True)
    clips = {stage: {} for stage in ("ingest", "process", "audio_features", "video_features")}
    for row in json.loads(printed.stdout)["table"]: clips[row["stage"]][row["reason"] or row["state"]] = row["clips"]
    assert clips["ingest"] == Counter(expected.values())
    assert sum(clips["ingest"].values()) == len(expected)
    assert sum(clips["process"].values()) == clips["ingest"]["done"]
    assert sum(clips["audio_features"].values()) == sum(clips["video_features"].values()) == clips["process"]["done"]


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
