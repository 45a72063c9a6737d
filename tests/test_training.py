"""What training promises: no leak between the parts of a split, the same model from the same seed, a checkpoint that is only data."""
import json
import random
import shutil

import numpy as np
import pytest
import torch

from avmatch.audio_features import run_audio_features
from avmatch.checkpoint import load_model
from avmatch.config import Config, TrainConfig, load_config, override
from avmatch.ingest import run_ingest
from avmatch.process import run_process
from avmatch.splits import split_clips
from avmatch.train import run_train
from avmatch.video_features import run_video_features
from avmatch.workspace import Workspace, demo_workspace, load_json, load_manifest, save_json


def random_entries(rng: random.Random) -> list[dict]:
    "A set of clips whose tracks and channels cross in random ways; some channels are unknown."
    n_tracks, n_channels = rng.randint(3, 30), rng.randint(3, 60)
    return [{"video_id": f"v{i}", "track_id": f"t{rng.randrange(n_tracks)}",
             "channel_id": rng.choice([None, f"c{rng.randrange(n_channels)}"])} for i in range(rng.randint(3, 80))]


@pytest.mark.parametrize("seed", range(60))
def test_no_track_and_no_channel_stands_on_two_sides(seed):
    entries = random_entries(random.Random(seed))
    try: parts = split_clips(entries, TrainConfig(seed=seed))
    except Exception as error:
        assert "groups" in str(error)
        return
    assert sorted(i for ids in parts.values() for i in ids) == sorted(e["video_id"] for e in entries)
    assert all(parts.values())
    part_of = {i: name for name, ids in parts.items() for i in ids}
    for key in ("track_id", "channel_id"):
        sides: dict[str, set] = {}
        for entry in entries:
            if entry[key] is not None: sides.setdefault(entry[key], set()).add(part_of[entry["video_id"]])
        assert all(len(s) == 1 for s in sides.values())


# so that two dozen of the demo's clips are left to learn from
SMALL = {"val_share": 0.1, "test_share": 0.1, "epochs": 5, "folds": 2, "views": "meaning"}


@pytest.fixture(scope="module")
def demo():
    "The notebooks' demo workspace with its features: (config, workspace)."
    return demo_workspace([run_ingest, run_process, run_audio_features, run_video_features])


def copy_of(demo, folder) -> Workspace:
    "A workspace with the demo's frames and features, for trainings of its own."
    _, workspace = demo
    target = Workspace(folder / "data")
    shutil.copytree(workspace.root / "processed", target.root / "processed", ignore=shutil.ignore_patterns("audio", "fingerprints"))
    return target


def train(demo, folder, config: Config, change=lambda i, entry: {}) -> dict:
    "The checkpoint of a training on the demo's clips, whose entries may be changed first."
    workspace = copy_of(demo, folder)
    save_json(workspace.manifest, [entry | change(i, entry) for i, entry in enumerate(load_manifest(workspace))])
    run_train(config, workspace)
    return torch.load(workspace.checkpoint, weights_only=True)


def same_state(a: dict, b: dict) -> bool:
    "Whether two checkpoints hold the same numbers in their joint model."
    one, other = a["model_state"], b["model_state"]
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("rung", ["cca", "linear"])
def test_the_same_seed_gives_the_same_model(demo, tmp_path, rung):
    config = override(demo[0], {"train": SMALL | {"rungs": rung}})
    first, second = (train(demo, tmp_path / name, config) for name in ("first", "second"))
    assert first["model_state"] and same_state(first, second)
    assert first["matcher"]["weights"] == second["matcher"]["weights"]
    assert first["matcher"]["space"]["rung"] == rung
    assert not same_state(first, train(demo, tmp_path / "other", override(config, {"train": {"seed": 1}})))


def test_a_checkpoint_says_all_that_a_matcher_needs(demo, tmp_path):
    checkpoint = train(demo, tmp_path, override(demo[0], {"train": SMALL | {"rungs": "cca"}}))
    assert {"schema_version", "model_state", "matcher", "config", "counts", "table", "versions", "inputs"} <= checkpoint.keys()
    matcher = checkpoint["matcher"]
    assert {"space", "background", "weights", "bank", "metas", "embed_dim", "threshold"} == matcher.keys()
    assert {"dim", "encoders", "per_second"} <= matcher["metas"]["video"].keys() & matcher["metas"]["audio"].keys()
    bank, n = matcher["bank"], checkpoint["counts"]["train"] + checkpoint["counts"]["val"]
    assert bank["seen"].shape == bank["heard"].shape == (n, matcher["embed_dim"]) and len(bank["ids"]) == n
    assert all(weight >= 0 for weight in matcher["weights"].values())


def test_the_split_is_kept_and_shares_nothing(demo, tmp_path):
    workspace = copy_of(demo, tmp_path)
    run_train(override(demo[0], {"train": SMALL}), workspace)
    split = load_json(workspace.split, command="avmatch run")
    assert {"train", "val", "test", "warm", "look_alikes"} == split.keys()
    ids = [i for name in ("train", "val", "test", "warm") for i in split[name]]
    assert sorted(ids) == sorted(e["video_id"] for e in load_manifest(workspace)) and len(ids) == len(set(ids))
    tracks = {e["video_id"]: e["track_id"] for e in load_manifest(workspace)}
    train_tracks, test_tracks, warm_tracks = ({tracks[i] for i in split[name]} for name in ("train", "test", "warm"))
    assert not train_tracks & test_tracks and warm_tracks <= train_tracks


def test_engagement_changes_the_model_and_equal_engagement_does_not(demo, tmp_path):
    config = override(demo[0], {"train": SMALL | {"rungs": "cca", "tau": 1.0}})
    counts = lambda likes: {"views": 1_000, "likes": likes, "comments": 5, "duration": 6.0}
    unknown = train(demo, tmp_path / "a", config, lambda i, entry: {"views": None, "likes": None, "comments": None})
    equal = train(demo, tmp_path / "b", config, lambda i, entry: counts(50))
    unequal = train(demo, tmp_path / "c", config, lambda i, entry: counts(10 + 60 * (i % 5)))
    ignored = train(demo, tmp_path / "d", override(config, {"train": {"tau": 0.0}}), lambda i, entry: counts(10 + 60 * (i % 5)))
    assert same_state(unknown, equal) and same_state(unknown, ignored)
    assert not same_state(unknown, unequal)


def test_the_seed_preset_keeps_the_reports_recipe(demo, tmp_path):
    workspace = copy_of(demo, tmp_path)
    config = load_config(preset="seed")
    run_train(config, workspace)
    model = load_model(workspace)
    assert (model.config, model.rung, model.matcher.weights) == (config, "seed", {"joint": 1.0})
    state = torch.load(workspace.checkpoint, weights_only=True)["model_state"]
    n_video, n_audio = (model.matcher.metas[side]["dim"] for side in ("video", "audio"))
    assert (state["video_proj.0.weight"].shape, state["audio_proj.0.weight"].shape) == ((256, n_video), (256, n_audio))
    view = model.matcher.space.video
    assert np.array_equal(view.mean, np.zeros(n_video)) and np.array_equal(view.matrix, np.eye(n_video))   # features as they are
    log = [json.loads(line) for line in workspace.training_log.read_text().splitlines()]
    assert len(log) == 1 + 10 and log[0]["rung"] == "seed"                                                 # a header, then ten epochs
    assert all(np.isfinite([line["train_loss"], line["val_loss"]]).all() for line in log[1:])
