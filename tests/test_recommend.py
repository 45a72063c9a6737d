"""Recommendations with every kind of matcher: what the report's recipe, words alone and a learned space answer from a real index."""
import os
import subprocess
import sys

import numpy as np
import pytest

from avmatch.audio_features import load_audio_sequences, run_audio_features
from avmatch.checkpoint import load_model
from avmatch.config import ArtifactError, load_config
from avmatch.ingest import run_ingest
from avmatch.matcher import N_WORDS, Bank, Described, Matcher
from avmatch.media import write_video
from avmatch.nearest import unit_vectors
from avmatch.process import run_process
from avmatch.recommend import Engine, load_index, run_recommend
from avmatch.runtime import _DRIVERS
from avmatch.search import Sounds, search_sounds
from avmatch.train import run_train
from avmatch.vector_index import read_version
from avmatch.video_features import run_video_features
from avmatch.workspace import DEMO_CHANGES, Workspace, load_manifest


def run(folder, changes: dict, preset: str = "", stages=(run_ingest, run_process, run_audio_features, run_video_features, run_train, run_recommend)):
    "A small workspace with some stages done."
    config, workspace = load_config(DEMO_CHANGES | changes, preset=preset), Workspace(folder)
    for stage in stages: stage(config, workspace)
    return config, workspace


def check_answers(workspace: Workspace, top_k: int = 4) -> list:
    "Ask for the first clip; the answers must be what the matcher itself says of every sound."
    entries = load_manifest(workspace)
    engine, video = Engine.load(workspace), workspace.resolve(entries[0]["video_path"])
    answers = engine.recommend(video, top_k)
    matcher, clip = load_model(workspace).matcher, np.atleast_2d(engine.encode(video))
    sounds = matcher.describe_sounds(load_audio_sequences(workspace, [e["video_id"] for e in entries]))
    best = {}
    for entry, score in zip(entries, matcher.score(matcher.describe_clips([clip]), sounds)[0]):
        best[entry["track_id"]] = max(best.get(entry["track_id"], -2), score)
    np.testing.assert_allclose([a.score for a in answers], sorted(best.values(), reverse=True)[:top_k], atol=1e-4)
    for answer in answers:
        assert abs(best[answer.track_id] - answer.score) < 1e-4 and abs(sum(answer.parts.values()) - answer.score) < 1e-5
    return answers


@pytest.fixture(scope="module")
def seed_run(tmp_path_factory):
    "The report's recipe; its pictures by a network whose weights come in a package, since ResNet18's are fetched from a hub."
    changes = {"audio_features": {"encoder": "mfcc"}, "video_features": {"encoder": "efficientnet_lite0"}, "train": {"epochs": 2}}
    return run(tmp_path_factory.mktemp("seed") / "data", changes, preset="seed")


def test_the_reports_recipe_answers_with_plain_cosines(seed_run):
    _, workspace = seed_run
    model = load_model(workspace)
    assert model.rung == "seed" and model.matcher.weights == {"joint": 1.0}
    answers = check_answers(workspace)
    assert all(a.parts == {"joint": a.parts["joint"], "words": 0.0, "rhythm": 0.0, "hub": 0.0} for a in answers)
    assert [a.reason for a in answers] == [""] * 4, "one mean of the pictures has no names, and MFCC neither"


def check_without_torch(workspace: Workspace) -> None:
    "A process of its own gives the same answers, and never imports PyTorch."
    video = workspace.resolve(load_manifest(workspace)[0]["video_path"])
    code = ("import sys; from avmatch.recommend import recommend_audio; found = recommend_audio(sys.argv[1], workspace=sys.argv[2]); "
            "print(*(r.audio_id for r in found)); print('torch' in sys.modules)")
    words = [sys.executable, "-c", code, str(video), str(workspace.root)]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told == [" ".join(a.audio_id for a in Engine.load(workspace).recommend(video)), "False"]


@pytest.mark.skipif(sys.platform != "linux" or any(map(os.path.exists, _DRIVERS)), reason="PyTorch is asked for the accelerator")
@pytest.mark.parametrize("made", ["seed_run", "demo"])
def test_a_cold_answer_needs_no_torch(made, request):
    "For a network of the report's kind, and for words alone."
    check_without_torch(request.getfixturevalue(made)[1])


def test_a_damaged_file_is_refused_and_built_again(seed_run):
    config, workspace = seed_run
    for name in ("sounds.npz", "vectors.faiss", "index.json", "tracks.json"):
        path = workspace.index / read_version(workspace.index)[0] / name
        whole = path.read_bytes()
        path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
        with pytest.raises(ArtifactError, match=f"{name} is not as it was written.*avmatch run --from recommend"): Engine.load(workspace)
        run_recommend(config, workspace)
        assert read_version(workspace.index)[1][name]
        Engine.load(workspace)


def test_words_and_rhythm_answer_without_any_training(demo):
    _, workspace = demo
    assert load_model(workspace).rung == "words", "the demo holds out so much that too few clips are left to learn a space from"
    sounds, _ = load_index(workspace.index)
    assert not sounds.take(sounds.index.ids)[0].joint.any()
    answers = check_answers(workspace)
    assert all(a.parts["joint"] == 0 for a in answers) and any(a.parts["words"] or a.parts["rhythm"] for a in answers)


def test_a_learned_space_answers(demo, tmp_path):
    config, workspace = demo
    (tmp_path / "data").mkdir()
    for folder in ("raw", "processed"): (tmp_path / "data" / folder).symlink_to(workspace.root / folder)
    run(tmp_path / "data", {"train": {"rungs": "cca", "folds": 6, "test_share": 0.1, "val_share": 0.1}}, stages=(run_train, run_recommend))
    assert load_model(Workspace(tmp_path / "data")).rung == "cca"
    assert any(abs(a.parts["joint"]) > 1e-3 for a in check_answers(Workspace(tmp_path / "data")))
    check_verdicts(Workspace(tmp_path / "data"), tmp_path / "still.mp4")


def check_verdicts(workspace: Workspace, path) -> None:
    "Most clips get their own track as a good match, with evidence; for a picture that stands still and shows nothing, hardly anything is good."
    engine, threshold = Engine.load(workspace), load_model(workspace).matcher.threshold
    assert threshold.value is not None and threshold.n_groups >= 9 and threshold.true_above >= 0.85
    own = []
    for entry in load_manifest(workspace):
        answers = engine.recommend(workspace.resolve(entry["video_path"]), 100)
        assert all(a.good == (a.score >= threshold.value) for a in answers)
        own.append(next(a for a in answers if a.track_id == entry["track_id"]))
    assert np.mean([a.good for a in own]) >= 0.8 and np.mean([len(a.evidence) > 0 for a in own]) > 0.5
    write_video(path, [np.full((96, 54, 3), 128, np.uint8)] * 60, frame_rate=10)
    still = engine.recommend(path, 100)
    assert sum(a.good for a in still) <= 1 < len(still) and np.mean([a.score > still[0].score for a in own]) >= 0.8


def test_a_sound_of_which_nothing_is_known_does_not_crash_and_scores_nothing():
    points = unit_vectors(np.random.default_rng(0).standard_normal((3, 8)))
    points[1] = 0
    described = Described(points, np.zeros((3, N_WORDS), np.float32), [None] * 3)
    matcher = Matcher(None, None, {"joint": 1.0, "words": 1.0}, Bank.empty(8), {}, 8)
    sounds = Sounds.make(["a", "mute", "c"], described, hubs=np.zeros(3), names={})
    found = search_sounds(matcher, sounds, described.take([0]), top_k=3)
    assert found[0].audio_id == "a" and {f.audio_id: f.score for f in found}["mute"] == 0
    nothing = search_sounds(matcher, sounds, described.take([1]), top_k=3)
    assert [f.audio_id for f in nothing] == ["a", "mute", "c"], "all the same: in the order of the library"


@pytest.mark.parametrize("n", [999, 1_001, 3_000])
def test_the_short_cut_ranks_as_comparing_with_everything_does(n):
    "Three sounds a track; every clip resembles some of them, as clips do."
    rng = np.random.default_rng(n)
    def like(rows): return unit_vectors(rows + 1.2 * rng.standard_normal(rows.shape) / np.sqrt(rows.shape[1]))
    def envelopes(n): return [rng.standard_normal((4, int(size))).astype(np.float32) for size in rng.integers(20, 60, n)]
    theme, bank = unit_vectors(rng.standard_normal((50, 256))), unit_vectors(rng.standard_normal((40, 256)))
    rows = np.arange(n) // 3 % 50
    sounds = Described(like(theme[rows]), like(theme[rows, :N_WORDS]), envelopes(n))
    clips = Described(like(theme[:10]), like(theme[:10, :N_WORDS]), envelopes(10))
    weights = {"joint": 1.0, "words": 0.7, "flow~onsets": 0.2, "impact~onsets": 0.1, "flow~level": 0.1, "hub": 0.2}
    matcher = Matcher(None, None, weights, Bank([""] * 40, bank, bank), {})
    library = Sounds.make([f"s{i}" for i in range(n)], sounds, hubs=matcher.hubs(sounds), names={})
    track_of = {f"s{i}": f"t{i // 3}" for i in range(n)}
    for clip, scores in enumerate(matcher.score(clips, sounds)):
        expected = {}
        for i in np.argsort(-scores, kind="stable"): expected.setdefault(track_of[f"s{i}"], f"s{i}")
        found = search_sounds(matcher, library, clips.take([clip]), top_k=10, track_of=track_of)
        assert [f.audio_id for f in found] == list(expected.values())[:10]
        np.testing.assert_allclose([f.score for f in found], [scores[int(f.audio_id[1:])] for f in found], atol=1e-5)
