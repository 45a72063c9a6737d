"""What training promises: no leak between the parts of a split, the same model from the same seed, a checkpoint that is only data."""
import random
import shutil

import numpy as np
import pytest
import torch

from avmatch.config import TrainConfig, Workspace, load_config, load_manifest, override, save_json
from avmatch.train import load_model, run_train, split_clips


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


def copy_of(demo, folder) -> Workspace:
    "A workspace with the demo's features, for trainings of its own."
    _, workspace = demo
    target = Workspace(folder / "data")
    shutil.copytree(workspace.root / "processed", target.root / "processed", ignore=shutil.ignore_patterns("frames", "audio"))
    return target


def test_the_same_seed_gives_the_same_model(demo, tmp_path):
    config = override(demo[0], {"train": {"epochs": 3}})
    models = []
    for name in ("first", "second"):
        workspace = copy_of(demo, tmp_path / name)
        run_train(config, workspace)
        models.append(torch.load(workspace.checkpoint, weights_only=True)["model_state"])
    assert all(torch.equal(models[0][k], models[1][k]) for k in models[0])
    other = copy_of(demo, tmp_path / "other")
    run_train(override(config, {"train": {"seed": 1}}), other)
    state = torch.load(other.checkpoint, weights_only=True)["model_state"]
    assert not all(torch.equal(models[0][k], state[k]) for k in state)


def test_engagement_changes_the_model_and_equal_engagement_does_not(demo, tmp_path):
    config = override(demo[0], {"train": {"epochs": 2}})
    def train_with(name, score):
        workspace = copy_of(demo, tmp_path / name)
        entries = [{**e, "engagement": score(i)} for i, e in enumerate(load_manifest(workspace))]
        save_json(workspace.manifest, entries)
        run_train(config, workspace)
        return torch.load(workspace.checkpoint, weights_only=True)["model_state"]["video_proj.0.weight"]
    unknown, equal, unequal = train_with("a", lambda i: None), train_with("b", lambda i: 4.0), train_with("c", lambda i: float(1 + i % 5))
    torch.testing.assert_close(unknown, equal, rtol=1e-4, atol=1e-6)
    assert (unknown - unequal).abs().max() > 1e-4


def test_the_seed_preset_keeps_the_reports_recipe(demo, tmp_path):
    workspace = copy_of(demo, tmp_path)
    config = load_config(preset="seed")
    run_train(config, workspace)
    model = load_model(workspace)
    assert model.config == config
    assert torch.equal(model.checkpoint["standardization"]["video_mean"], torch.zeros(1280))   # features as they are
    assert len(workspace.training_log.read_text().splitlines()) == 1 + 10                      # a header, then ten epochs
    assert np.isfinite(model.checkpoint["val_loss"])
