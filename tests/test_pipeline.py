"""The whole path on a few generated clips: `avmatch run` as a user starts it, and the files it leaves."""
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from avmatch.audio_features import resolve_audio_encoder
from avmatch.pipeline import STAGES
from avmatch.sequences import count_seconds
from avmatch.workspace import Workspace

# the encoders whose weights are on this machine: nothing is fetched here
LISTENS = resolve_audio_encoder("auto", say=lambda line: None)
SMALL = ["-p", "ingest.n_tracks=8", "-p", "ingest.clips_per_track=2", "-p", "ingest.sample_size=90", "-p", "process.max_frames=6",
         "-p", "train.epochs=4", "-p", f"audio_features.encoder={LISTENS}"]
SEED = ["--preset", "seed", "-p", "video_features.encoder=efficientnet_lite0", "-p", "ingest.n_tracks=6", "-p", "ingest.clips_per_track=2",
        "-p", "ingest.sample_size=90"]
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


def widths(folder: Path) -> dict[str, dict[str, int]]:
    "Encoder -> group -> columns, as meta.json names them; they stand side by side and fill the width."
    meta = json.loads((folder / "meta.json").read_text())
    places = [place for encoder in meta["encoders"] for place in encoder["columns"].values()]
    assert [place[0] for place in places] == [0, *(place[1] for place in places[:-1])] and places[-1][1] == meta["dim"]
    return {encoder["name"]: {group: stop - start for group, (start, stop) in encoder["columns"].items()} for encoder in meta["encoders"]}


def test_features_are_kept_second_by_second(first_run):
    _, workspace, _ = first_run
    heard, seen = widths(workspace.audio_features), widths(workspace.video_features)
    assert list(heard) == LISTENS.split("+") and list(seen) == ["efficientnet_lite0", "motion"]
    assert seen["efficientnet_lite0"] == {"embedding": 1280, "classes": 1000}
    assert heard["rhythm"]["onsets"] == seen["motion"]["flow"] == 20
    files = sorted(workspace.audio_features.glob("*.npy"))
    assert len(files) == len(list(workspace.video_features.glob("*.pt"))) == 16
    for path in files:
        sound, picture = np.load(path, allow_pickle=False), torch.load(workspace.video_features / f"{path.stem}.pt", weights_only=True)
        info = soundfile.info(workspace.audio / f"{path.stem}.wav")
        assert sound.shape == (count_seconds(info.frames / info.samplerate), sum(sum(groups.values()) for groups in heard.values()))
        assert picture.shape == (3, sum(sum(groups.values()) for groups in seen.values()))   # six frames, two a second
        assert (sound.dtype, picture.dtype) == (np.float32, torch.float32)


def test_the_checkpoint_is_plain_data_and_has_a_card(first_run):
    _, workspace, _ = first_run
    checkpoint = torch.load(workspace.checkpoint, map_location="cpu", weights_only=True)
    assert checkpoint["config"]["preset"] == "default"
    assert checkpoint["matcher"]["metas"]["video"]["encoder"] == "efficientnet_lite0+motion"
    card = workspace.checkpoint.with_suffix(".md").read_text()
    assert card.count("## Evaluation") == 1 and "efficientnet_lite0" in card and "Leak probes" in card


def test_the_evaluation_compares_with_the_reports_recipe(first_run):
    evaluation = json.loads(first_run[1].evaluation.read_text())
    assert {"random", "popular", "nearest training clip", "seed"} <= evaluation["baselines"].keys()
    assert evaluation["probes"]["inputs"]["lengths only"]["verdict"] == "at chance"
    assert all({"metrics", "mrr_interval", "paired"} == found.keys() for found in evaluation["ablation"].values())


@pytest.fixture(scope="module")
def seed_run(tmp_path_factory):
    "A run of the report's recipe, with a picture network whose weights need no download."
    folder = tmp_path_factory.mktemp("report")
    done = avmatch("run", "--workspace", "data", *SEED, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return Workspace(folder / "data")


def test_the_seed_preset_writes_the_formats_of_the_report(seed_run):
    sounds, pictures = sorted(seed_run.audio_features.glob("*.npy")), sorted(seed_run.video_features.glob("*.pt"))
    assert [p.stem for p in sounds] == [p.stem for p in pictures] and len(sounds) == 12
    for path in seed_run.audio.glob("*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.format) == (22_050, 1, "WAV")
    assert {np.load(path, allow_pickle=False).shape for path in sounds} == {(40,)}
    assert {tuple(torch.load(path, weights_only=True).shape) for path in pictures} == {(1280,)}
    state = torch.load(seed_run.checkpoint, map_location="cpu", weights_only=True)["model_state"]
    assert {name: tuple(tensor.shape) for name, tensor in state.items() if name.endswith(".0.weight")} == {
        "video_proj.0.weight": (256, 1280), "audio_proj.0.weight": (256, 40)}
    assert list(state) == [f"{side}_proj.{layer}.{kind}" for side in ("video", "audio") for layer in (0, 2) for kind in ("weight", "bias")]


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
