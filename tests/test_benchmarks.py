"""The benchmarks, tiny: that they measure what they say. How good the figures are is not tested here."""
import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from avmatch.samples import make_samples

SCRIPT = Path(__file__).parents[1] / "benchmarks/retrieval.py"
FIGURES = {"MRR", "R@1", "R@5", "R@10", "MedR", "MnR"}


def retrieval(*words, cwd, script=SCRIPT):
    return subprocess.run([sys.executable, str(script), *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=600)


def moments(*words, cwd): return retrieval(*words, cwd=cwd, script=SCRIPT.with_name("moments.py"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    "Sixteen short clips of eight tracks from four sources."
    folder = tmp_path_factory.mktemp("clips")
    records = make_samples(folder, 8, clips_per_track=2, size=64, bad=False, workers=1)
    with (folder / "clips.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "file", "source", "track_id"])
        for r in records: writer.writerow([r["video_id"], r["video_id"] + ".mp4", f"source {int(r['track_id'][1:]) // 2}", r["track_id"]])
    return folder


@pytest.fixture(scope="module")
def measured(clips, tmp_path_factory):
    "The benchmark's answer with two folds by source."
    done = retrieval("--clips", clips, "--folds", 2, "--json", "--work", tmp_path_factory.mktemp("work"), cwd=clips)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)   # nothing but the object on standard output


def test_ours_seed_and_ratio_have_all_figures(measured):
    for name in ("ours", "seed", "ratio"):
        assert FIGURES | {"queries", "gallery", "ci"} <= measured[name].keys(), name
        assert {"MRR", "R@1", "R@5", "R@10"} <= measured[name]["ci"].keys()
    assert measured["ours"]["queries"] == 16 and measured["ours"]["gallery"] == 4   # a fold has four of the eight tracks


def test_figures_are_what_they_are_called(measured):
    for name in ("ours", "seed"):
        row = measured[name]
        assert 0 <= row["R@1"] <= row["MRR"] <= 1 and row["R@1"] <= row["R@5"] == 1.0 and 1 <= row["MnR"] <= 4
        assert row["ci"]["MRR"][0] <= row["MRR"] <= row["ci"]["MRR"][1]
    assert measured["ratio"]["MRR"] == pytest.approx(measured["ours"]["MRR"] / measured["seed"]["MRR"], abs=0.002)
    assert measured["chance"]["MRR"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=1e-4)


@pytest.mark.parametrize("words, expected", [
    (["--clips", "no/such/folder"], "no/such/folder"),
    (["--test-clips", "somewhere"], "--clips"),
])
def test_what_the_user_can_mend_is_said(tmp_path, words, expected):
    done = retrieval(*words, "--work", tmp_path / "work", cwd=tmp_path)
    assert done.returncode != 0 and expected in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_column_names_those_there_are(clips, tmp_path, measured):
    done = retrieval("--clips", clips, "--group-by", "author", "--work", tmp_path, cwd=clips)
    assert done.returncode != 0 and "id, file, source, track_id" in done.stderr


def test_the_soak_accounts_for_every_item(tmp_path):
    "Each fault once, among good clips."
    script = SCRIPT.with_name("soak.py")
    done = subprocess.run([sys.executable, str(script), "--items", "150", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["unexplained"] == 0 and result["first_unexplained"] == []
    assert {row["outcome"]: row["found"] for row in result["outcomes"]} == {row["outcome"]: row["expected"] for row in result["outcomes"]} == {
        "done": 135, "not_media": 3, "no_frames": 2} | dict.fromkeys(
        ("bad_row", "broken", "duplicate_id", "missing", "no_audio", "short_sound", "silent", "too_long", "too_many_pixels", "too_many_streams"), 1)
    assert result["stages"].keys() == {"ingest", "process"}
    for stage in result["stages"].values():
        assert stage["seconds"] > 0 and stage["peak_main_mb"] > 0 and stage["curve"]


def test_the_soak_tells_what_is_not_as_expected(tmp_path):
    "A limit that good clips exceed: they are skipped, and nothing of that is explained."
    words = [sys.executable, str(SCRIPT.with_name("soak.py")), "--items", "20", "-p", "process.max_decoded=3"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1 and "too_many_frames, expected done" in done.stdout, done.stdout + done.stderr


def test_the_service_under_load_answers_or_says_when_to_come_again(demo, tmp_path):
    words = ["--workspace", demo[1].root, "--clients", 4, "--seconds", 3, "--json"]
    done = retrieval(*words, cwd=tmp_path, script=SCRIPT.with_name("serve.py"))
    assert done.returncode == 0, done.stderr[-2000:]
    ours, report = json.loads(done.stdout).values()
    assert ours.keys() == report.keys() and {"a second", "p50 ms", "p95 ms", "health p99 ms", "memory MB", "growth MB"} <= ours.keys()
    assert ours["200"] > 0 and report["200"] > 0 and ours["other"] == ours["files left"] == 0


def test_moments_are_compared_with_chance(clips):
    done = moments("--clips", clips, "--seconds", 2, "--cuts", 3, "--json", cwd=clips)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["clips"] == 16 and found["cuts"] == 48   # each lasts six seconds or more
    assert {"moment", "chance", "beginning of the track"} <= found["shares"].keys()
    for shares in found["shares"].values():
        assert 0 <= shares["0.25 s"]["share"] <= shares["0.5 s"]["share"] <= shares["1 s"]["share"] <= 1
    assert 0.04 < found["shares"]["chance"]["0.25 s"]["share"] < 0.14   # 11 of the 81 to 201 possible starts, at most


@pytest.mark.parametrize("words, expected", [(["--clips", "no/such/folder"], "no such folder"), (["--seconds", 50], "smaller --seconds")])
def test_moments_say_what_can_be_mended(clips, words, expected):
    done = moments(*(["--clips", clips] if "--clips" not in words else []), *words, cwd=clips)
    assert done.returncode != 0 and expected in done.stderr and "Traceback" not in done.stderr


def test_search_is_measured_beside_the_recipe_and_the_bound(tmp_path):
    "Five hundred tracks are all compared, and two thousand are put into lists."
    script = SCRIPT.with_name("search.py")
    words = ("--sizes", "500,2000", "--exact-up-to", 1_000, "--dim", 32, "--queries", 70, "--evenly", "--json")
    done = retrieval(*words, cwd=tmp_path, script=script)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    for row in rows.values():
        assert row.keys() == {"name", "ours", "recipe", "bound", "unit", "ratio_to_recipe", "ratio_to_bound"} and row["ours"] >= 0
        for other in ("recipe", "bound"):
            if row[other]: assert row[f"ratio_to_{other}"] == pytest.approx(row["ours"] / row[other])
    recall = {name.partition(" at 10")[0]: row["ours"] for name, row in rows.items() if "recall at 10, sounds" in name}
    assert recall["500 tracks, exact: recall"] == recall["500 tracks spread evenly, exact: recall"] == 1
    assert recall["2,000 tracks, lists: recall"] > 0.9
    few, all_lists = (rows[f"2,000 tracks{how}, lists: lists opened"] for how in ("", " spread evenly"))
    assert few["ours"] < all_lists["ours"] <= all_lists["bound"]                # without structure, no grouping helps
    assert rows["500 tracks, exact: memory a track"]["bound"] == 32 * 4


def test_extraction_gives_what_the_plain_path_gives(clips):
    "The script compares them itself and fails if they differ; here also that every line says what it should."
    done = retrieval("--clips", clips, "--limit", 4, "--rounds", 1, "--no-memory", "--json", cwd=clips, script=SCRIPT.with_name("extraction.py"))
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    for row in rows.values():
        assert row.keys() == {"name", "ours", "recipe", "bound", "unit", "ratio_to_recipe", "ratio_to_bound"}
        for other in ("recipe", "bound"):   # ours by the other, as in all tables, also where less is better
            assert row[f"ratio_to_{other}"] == (row[other] and pytest.approx(row["ours"] / row[other]))
    whole, stages = rows["extraction"], [rows[name] for name in ("pictures and sound", "MFCC", "network")]
    assert whole["recipe"] and whole["bound"] and whole["unit"] == "clips/s" and all(stage["recipe"] for stage in stages)
    assert 1000 / whole["ours"] == pytest.approx(sum(stage["ours"] for stage in stages))   # ms a clip
    for kind in ("visual features with 32 bits", "sound features"): assert rows[f"{kind}, difference from the plain path"]["ours"] <= 1e-3
    assert rows["visual features as made, difference from the plain path"]["ours"] <= 0.01   # with 16 bits, where the processor has them


def test_extraction_says_that_there_are_too_few_clips(clips, tmp_path):
    done = retrieval("--clips", tmp_path, cwd=clips, script=SCRIPT.with_name("extraction.py"))
    assert done.returncode != 0 and "holds 0 MP4 files" in done.stderr and "Traceback" not in done.stderr
