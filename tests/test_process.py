"""The process stage: files, state, skips, and what happens when things change between two runs or one is killed."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import avmatch.process as process
import avmatch.state
from avmatch.config import ArtifactError, load_config
from avmatch.extract import extract_clip
from avmatch.media import read_wav, write_video
from avmatch.process import engagement_score, run_process
from avmatch.records import make_record
from avmatch.state import open_state
from avmatch.workspace import Workspace, load_counts, load_json, load_manifest, save_json

SR = 22_050
TONE = 0.2 * np.sin(2 * np.pi * 330 * np.arange(2 * SR) / SR)


def picture(colour, size=(64, 48)): return np.full((*size, 3), colour, np.uint8)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    "A folder with good clips and others."
    folder = tmp_path_factory.mktemp("clips")
    write_video(folder / "red.mp4", [picture((200, 30, 30))] * 20, TONE, frame_rate=10, sr=SR)
    write_video(folder / "blue.mp4", [picture((30, 30, 200))] * 20, TONE, frame_rate=10, sr=SR)
    write_video(folder / "mute.mp4", [picture(90)] * 20, None, frame_rate=10)
    write_video(folder / "silent.mp4", [picture(90)] * 20, 0 * TONE, frame_rate=10, sr=SR)
    (folder / "half.mp4").write_bytes((folder / "red.mp4").read_bytes()[:3_000])
    (folder / "text.mp4").write_text("not a video " * 50)
    (folder / "empty.mp4").write_bytes(b"")
    return folder


NAMES = ("red", "blue", "mute", "silent", "half", "text", "empty", "gone")


@pytest.fixture
def workspace(clips, tmp_path):
    "A workspace as ingest leaves it."
    workspace = Workspace(tmp_path / "data")
    shutil.copytree(clips, workspace.videos)
    write_metadata(workspace, NAMES)
    return workspace


def write_metadata(workspace, names):
    save_json(workspace.metadata, [make_record(n, views=1000, likes=50, comments=7, duration=2.0, title=n.title(), source="folder",
                                               channel_id="UC1", track_id="song" if n == "red" else None) for n in names])


def dates(workspace): return {p: p.stat().st_mtime_ns for f in (workspace.frames, workspace.audio) for p in f.rglob("*.*")}


def config(**changes): return load_config({"process": changes})


def test_from_videos_to_manifest(workspace):
    counts = run_process(config(), workspace)
    assert counts == load_counts(workspace, "process")
    assert (counts["clips"], counts["frames"], counts["skipped"]) == (2, 8, 6)
    entries = load_manifest(workspace)
    assert [e["video_id"] for e in entries] == ["blue", "red"]
    assert list(entries[0])[:6] == ["video_id", "video_path", "frames_dir", "audio_path", "num_frames", "engagement"]
    assert entries[1]["audio_path"] == "data/processed/audio/red.wav"
    assert [e["track_id"] for e in entries] == ["blue", "song"]
    assert entries[0]["engagement"] == pytest.approx(0.4 * np.log(1001) + 0.4 * 50 / 1001 + 0.2 * 7 / 1001)
    assert counts["reasons"] == {"broken": 1, "not_media": 2, "missing": 1, "no_audio": 1, "silent": 1}


def test_files_hold_what_they_should(workspace):
    run_process(config(), workspace)
    y, sr = read_wav(workspace.audio / "red.wav")
    assert sr == 22_050 and abs(len(y) / sr - 2) < 0.1
    files = sorted((workspace.frames / "red").iterdir())
    assert [f.name for f in files] == [f"frame_{i:03d}.jpg" for i in range(4)]
    blue, green, red = cv2.imread(str(files[0])).mean(axis=(0, 1))
    assert red > 180 and green < 60 and blue < 60


def test_every_skip_has_a_reason_and_leaves_no_files(workspace):
    run_process(config(), workspace)
    skipped = load_json(workspace.process_skipped, command="")
    assert {s["video_id"]: s["reason"] for s in skipped} == {
        "mute": "no_audio", "silent": "silent", "half": "broken", "text": "not_media", "empty": "not_media", "gone": "missing"}
    assert all(s["detail"] for s in skipped)
    assert {p.name for p in workspace.frames.iterdir()} == {"red", "blue"}
    assert {p.name for p in workspace.audio.iterdir()} == {"red.wav", "blue.wav"}


def test_second_run_does_nothing(workspace, monkeypatch):
    run_process(config(), workspace)
    before, manifest = dates(workspace), workspace.manifest.read_bytes()
    monkeypatch.setattr(avmatch.state, "content_hash", lambda path: pytest.fail("a clip was read again"))
    run_process(config(workers=3), workspace)
    assert dates(workspace) == before and workspace.manifest.read_bytes() == manifest


def test_other_settings_start_over(workspace):
    run_process(config(), workspace)
    assert run_process(config(fps=1.0), workspace)["frames"] == 4
    assert len(list((workspace.frames / "red").iterdir())) == 2
    assert load_json(workspace.manifest.with_name("meta.json"), command="")["settings"]["fps"] == 1.0
    assert run_process(config(silence_db=-120.0), workspace)["clips"] == 3   # and now the silent one is welcome
    assert run_process(config(), workspace)["clips"] == 2
    assert not (workspace.audio / "silent.wav").exists()


def test_another_video_of_the_same_name_is_seen(workspace):
    run_process(config(), workspace)
    before = dates(workspace)
    os.utime(shutil.copy(workspace.videos / "blue.mp4", workspace.videos / "red.mp4"), ns=(1, 1))
    shutil.copy(workspace.videos / "red.mp4", workspace.videos / "half.mp4")
    assert run_process(config(), workspace)["clips"] == 3
    red = cv2.imread(str(workspace.frames / "red/frame_000.jpg")).mean(axis=(0, 1))
    assert red[0] > 180   # blue now
    after = dates(workspace)
    assert all(after[p] == before[p] for p in before if "blue" in str(p))


def test_lost_files_are_made_again(workspace):
    run_process(config(), workspace)
    (workspace.audio / "red.wav").unlink()
    shutil.rmtree(workspace.frames / "blue")
    assert run_process(config(), workspace)["clips"] == 2
    assert (workspace.audio / "red.wav").exists() and len(list((workspace.frames / "blue").iterdir())) == 4


def test_what_leaves_the_metadata_leaves_the_manifest(workspace):
    run_process(config(), workspace)
    write_metadata(workspace, ["blue", "mute"])
    run_process(config(), workspace)
    assert [e["video_id"] for e in load_manifest(workspace)] == ["blue"]
    assert [s["video_id"] for s in load_json(workspace.process_skipped, command="")] == ["mute"]


def test_the_number_of_workers_changes_nothing(workspace, clips, tmp_path):
    other = Workspace(tmp_path / "other/data")
    shutil.copytree(clips, other.videos)
    write_metadata(other, reversed(NAMES))
    run_process(config(workers=1), workspace)
    run_process(config(workers=4), other)
    assert workspace.manifest.read_bytes() == other.manifest.read_bytes()
    assert workspace.process_skipped.read_bytes() == other.process_skipped.read_bytes()
    for path in dates(workspace): assert path.read_bytes() == (other.root / path.relative_to(workspace.root)).read_bytes()


def confused(job):
    if job.video.name == "red.mp4": raise RuntimeError("decoder is confused")
    return extract_clip(job)


def deadly(job):
    "A decoder that a file brings down, half way through its work."
    if job.video.name == "red.mp4":
        job.frames.with_name(f".red.{os.getpid()}.partial").mkdir(parents=True)
        os._exit(11)
    return extract_clip(job)


def hungry(job): raise MemoryError("more than there is")
def without_room(job): raise OSError(28, "No space left on device")


def test_a_crash_in_one_clip_is_only_that_clips(workspace, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(process, "extract_clip", deadly)
        assert run_process(config(), workspace)["clips"] == 1
    red = next(s for s in load_json(workspace.process_skipped, command="") if s["video_id"] == "red")
    assert red == {"video_id": "red", "reason": "crashed", "detail": "red.mp4: the worker crashed (exit code 11)"}
    assert not list(workspace.root.rglob("*red*.*a*")) and not (workspace.frames / "red").exists()
    assert run_process(config(), workspace)["clips"] == 1   # the same file would crash again
    shutil.copy(workspace.videos / "blue.mp4", workspace.videos / "red.mp4")
    assert run_process(config(), workspace)["clips"] == 2


def test_an_error_of_the_library_is_not_swallowed(workspace, monkeypatch):
    monkeypatch.setattr(process, "extract_clip", confused)
    with pytest.raises(RuntimeError, match="decoder is confused"): run_process(config(), workspace)


def test_more_memory_is_another_chance(workspace, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(process, "extract_clip", hungry)
        with pytest.raises(ArtifactError, match="out_of_memory"): run_process(config(memory_mb=500), workspace)
    with pytest.raises(ArtifactError, match="out_of_memory"): run_process(config(memory_mb=500), workspace)
    assert run_process(config(memory_mb=600), workspace)["clips"] == 2


def test_a_full_disk_stops_the_run_and_it_can_go_on(workspace, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(process, "extract_clip", without_room)
        with pytest.raises(ArtifactError, match="No space left on device.*free some space"): run_process(config(), workspace)
    assert not workspace.manifest.exists()
    assert not list(workspace.root.rglob("*partial*"))
    assert run_process(config(), workspace)["clips"] == 2


def test_copied_files_are_known_by_their_content(workspace, monkeypatch):
    run_process(config(), workspace)
    for path in workspace.videos.iterdir(): os.utime(path, ns=(5, 5))
    monkeypatch.setattr(process, "extract_clip", without_room)
    assert run_process(config(), workspace)["clips"] == 2


def test_measured_levels_are_kept(workspace):
    run_process(config(), workspace)
    with open_state(workspace) as state: found = state.get("red", "process").result
    assert found["level_db"] == pytest.approx(20 * np.log10(0.2 / np.sqrt(2)), abs=0.5) and found["seconds"] == pytest.approx(2, abs=0.1)


def test_what_the_record_says_of_rights_is_passed_on(workspace):
    known = {"licence": "CC BY 4.0", "attribution": "Ann Other", "artist": "The Others", "link": "https://example.org/red"}
    save_json(workspace.metadata, [make_record("red", **known)])
    run_process(config(), workspace)
    assert known.items() <= load_manifest(workspace)[0].items()


RUN = """
import sys
from avmatch.config import load_config
from avmatch.process import run_process
from avmatch.workspace import Workspace
run_process(load_config({}), Workspace(sys.argv[1]))
"""


def artifacts(workspace):
    files = [workspace.manifest, workspace.process_skipped, *sorted(p for f in (workspace.frames, workspace.audio) for p in f.rglob("*"))]
    return {p.relative_to(workspace.root): p.read_bytes() for p in files if p.is_file()}


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_killed_again_and_again_it_ends_with_the_same_manifest(workspace, clips, tmp_path):
    ids = [f"clip{i:02d}" for i in range(30)]
    for i in ids: shutil.copy(clips / ("red.mp4" if int(i[4:]) % 3 else "half.mp4"), workspace.videos / f"{i}.mp4")
    other = Workspace(tmp_path / "other" / workspace.root.name)
    shutil.copytree(workspace.root, other.root)
    for each in (workspace, other): write_metadata(each, ids)
    run_process(config(), other)
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", RUN, str(workspace.root)], env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])})
        settled, end = n_settled(workspace), time.monotonic() + 60
        while n_settled(workspace) < settled + 4 and time.monotonic() < end and child.poll() is None: time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert settled >= 12 and not workspace.manifest.exists()
    assert run_process(config(), workspace)["clips"] == 20
    assert artifacts(workspace) == artifacts(other)
    assert not list(workspace.root.rglob("*partial*"))


def n_settled(workspace):
    "Clips that are done or skipped."
    with open_state(workspace) as state: return len(state.items("process", "done") + state.items("process", "skipped"))


def test_no_clip_left_is_an_error(workspace):
    write_metadata(workspace, ["mute", "gone"])
    with pytest.raises(ArtifactError, match="none of 2 clips"): run_process(config(), workspace)
    assert len(load_json(workspace.process_skipped, command="")) == 2
    assert load_manifest(workspace) == []


def test_ingest_comes_first(tmp_path):
    with pytest.raises(ArtifactError, match="avmatch run --only ingest"): run_process(config(), Workspace(tmp_path))


def test_metadata_must_have_its_fields(workspace):
    workspace.metadata.write_text(json.dumps([{"views": 3}]))
    with pytest.raises(ArtifactError, match="no field 'video_id'"): run_process(config(), workspace)


def test_report_metadata_is_enough(workspace):
    "The four fields of the shortest record that there is."
    save_json(workspace.metadata, [{"video_id": "red", "views": 10, "likes": None, "comments": 3}])
    run_process(config(), workspace)
    entry = load_manifest(workspace)[0]
    assert (entry["engagement"], entry["track_id"], entry["title"], entry["views"]) == (None, "red", None, 10)


@pytest.mark.parametrize(("counts", "expected"), [((0, 0, 0), 0.0), ((None, 1, 1), None), ((1, None, 1), None), ((1, 1, None), None)])
def test_engagement_of_missing_and_zero_counts(counts, expected): assert engagement_score(*counts) == expected
