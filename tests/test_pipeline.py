"""The whole path on a few generated clips: `avmatch run` as a user starts it, and the files it leaves."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from avmatch.config import Workspace
from avmatch.pipeline import STAGES

SMALL = ["-p", "ingest.n_tracks=8", "-p", "ingest.clips_per_track=2", "-p", "ingest.sample_size=90", "-p", "process.max_frames=6",
         "-p", "train.epochs=4"]
STATS = {"views", "likes", "comments"}


def avmatch(*words, cwd):
    return subprocess.run([sys.executable, "-m", "avmatch.cli", *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    "A run of everything, started in a folder that is not the checkout; the workspace's name has a space and an umlaut."
    folder = tmp_path_factory.mktemp("somewhere")
    done = avmatch("run", "--workspace", "my wörkspace", *SMALL, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, Workspace(folder / "my wörkspace"), done.stdout


def test_every_stage_is_recorded(first_run):
    _, workspace, _ = first_run
    run = json.loads(workspace.run.read_text())
    assert list(run["stages"]) == [s.name for s in STAGES]
    assert {s["status"] for s in run["stages"].values()} == {"done"}
    assert all(s["seconds"] > 0 for s in run["stages"].values())
    assert run["stages"]["process"]["counts"]["clips"] == 16
    assert run["config"]["ingest"]["n_tracks"] == 8
    assert run["versions"]["torch"] == torch.__version__.split("+")[0] or run["versions"]["torch"] == torch.__version__
    for stage in STAGES: assert (workspace.reports / stage.notebook).exists()


def test_metadata_has_the_fields_of_the_report(first_run):
    records = json.loads(first_run[1].metadata.read_text())
    assert all({"video_id", *STATS} <= record.keys() for record in records)
    assert any(record["likes"] is None for record in records), "a hidden count is null, not zero"


def test_manifest_has_the_fields_of_the_report_in_their_order(first_run):
    _, workspace, _ = first_run
    manifest = json.loads(workspace.manifest.read_text())
    assert len(manifest) == 16
    for entry in manifest:
        assert list(entry)[:6] == ["video_id", "video_path", "frames_dir", "audio_path", "num_frames", "engagement"]
        name = entry["video_id"]
        assert entry["video_path"] == f"my wörkspace/raw/videos/{name}.mp4"
        assert entry["frames_dir"] == f"my wörkspace/processed/frames/{name}"
        assert entry["audio_path"] == f"my wörkspace/processed/audio/{name}.wav"
        frames = sorted(p.name for p in workspace.resolve(entry["frames_dir"]).iterdir())
        assert frames == [f"frame_{i:03d}.jpg" for i in range(entry["num_frames"])]


def test_artifacts_have_the_formats_of_the_report(first_run):
    _, workspace, _ = first_run
    for path in workspace.audio.glob("*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.format) == (22_050, 1, "WAV")
    for path in workspace.audio_features.glob("*.npy"):
        assert np.load(path, allow_pickle=False).shape == (40,)
    for path in workspace.video_features.glob("*.pt"):
        assert torch.load(path, weights_only=True).shape == (1280,)
    checkpoint = torch.load(workspace.checkpoint, map_location="cpu", weights_only=True)
    assert checkpoint["model_state"]["video_proj.0.weight"].shape == (256, 1280)
    assert checkpoint["config"]["preset"] == "default"


def test_each_flawed_clip_is_skipped_with_its_reason(first_run):
    _, workspace, _ = first_run
    skipped = json.loads(workspace.ingest_skipped.read_text()) + json.loads(workspace.process_skipped.read_text())
    assert {s["video_id"]: s["reason"] for s in skipped} == {
        "bad_private": "private", "bad_too_long": "too_long", "bad_no_audio": "no_audio", "bad_silent": "silent", "bad_broken": "broken"}


def test_metrics_are_printed_in_the_reports_format(first_run):
    lines = first_run[2].splitlines()
    for label in ("Recall@1  :", "Recall@5  :", "Recall@10 :", "Mean Rank :"):
        assert any(label in line for line in lines), label


def test_a_second_run_skips_everything(first_run):
    folder, workspace, _ = first_run
    before = workspace.run.read_text()
    again = avmatch("run", "--workspace", "my wörkspace", *SMALL, cwd=folder)
    assert again.returncode == 0
    assert again.stdout.count("unchanged, skipped") == len(STAGES)
    assert workspace.run.read_text() == before


def test_a_failed_stage_says_why_and_the_run_can_be_resumed(first_run):
    folder, workspace, _ = first_run
    features = sorted(workspace.audio_features.glob("*.npy"))[0]
    kept = features.read_bytes()
    features.write_bytes(b"not an array")
    failed = avmatch("run", "--workspace", "my wörkspace", "--only", "train", "--force", *SMALL, cwd=folder)
    assert failed.returncode == 1
    message = failed.stderr.strip().splitlines()[-1]
    assert message.startswith("avmatch: 05_train: ArtifactError:") and features.name in message and "Traceback" not in failed.stderr
    stages = json.loads(workspace.run.read_text())["stages"]
    assert (stages["train"]["status"], stages["process"]["status"]) == ("failed", "done")
    features.write_bytes(kept)
    resumed = avmatch("run", "--workspace", "my wörkspace", *SMALL, cwd=folder)
    assert resumed.returncode == 0, resumed.stderr
    assert "05 train: unchanged" not in resumed.stdout and "03 video_features: unchanged" in resumed.stdout


def test_recommend_and_inspect_answer_from_the_workspace(first_run):
    folder, workspace, _ = first_run
    clip = sorted(workspace.videos.glob("s*.mp4"))[0]
    answer = avmatch("recommend", clip, "--workspace", "my wörkspace", "--top-k", "3", "--json", cwd=folder)
    found = json.loads(answer.stdout)
    assert len(found) == 3 and len({r["track_id"] for r in found}) == 3
    assert [r["score"] for r in found] == sorted((r["score"] for r in found), reverse=True)
    seen = avmatch("inspect", "--workspace", "my wörkspace", cwd=folder)
    assert seen.returncode == 0 and seen.stdout.strip(), seen.stderr


@pytest.mark.parametrize("words, expected", [
    (["run", "--videos", "no/such/folder"], "no/such/folder"),
    (["run", "-p", "train.epoch=1"], "did you mean 'epochs'"),
    (["run", "--only", "trian"], "did you mean 'train'"),
    (["run", "--preset", "sed"], "did you mean 'seed'"),
    (["recommend", "clip.mp4", "--workspace", "empty"], "avmatch run"),
    (["serve", "--workspace", "empty"], "avmatch run"),
])
def test_what_the_user_can_mend_is_one_line(tmp_path, words, expected):
    done = avmatch(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert expected in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_help_needs_no_heavy_library():
    code = ("import sys; from avmatch.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
            "print('heavy', {'torch', 'librosa', 'cv2', 'av'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip().endswith("heavy set()")
