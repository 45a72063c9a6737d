"""What the training loop promises: a run that was killed and started again gives the same model; a GPU is used where there is one."""
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from avmatch.joint_model import build_two_tower, contrastive_loss, unique_tracks
from avmatch.pairs import Pairs
from avmatch.training_loop import LoopSettings, fit_two_tower

EPOCHS = 150
SCRIPT = """
import sys
from pathlib import Path
import torch
from tests.test_training_loop import EPOCHS, made_up_pairs
from avmatch.joint_model import build_two_tower
from avmatch.training_loop import LoopSettings, fit_two_tower

torch.set_num_threads(1)
torch.manual_seed(3)
folder = Path(sys.argv[1])
settings = LoopSettings(epochs=EPOCHS, crop=3, save_every=7, patience=0, full_batch=100, batch_size=64, stats="mean+std")
model = build_two_tower("mlp", 40, 20, noise=0.1)
result = fit_two_tower(model, made_up_pairs(200, 0), made_up_pairs(50, 1), settings, log_path=folder / "log.jsonl", state_path=folder / "state.pt")
torch.save({"model": result.model.state_dict(), "epoch": result.best_epoch, "mrr": result.best_mrr}, folder / "final.pt")
"""


def made_up_pairs(n: int, seed: int) -> Pairs:
    "A cause of five numbers behind each picture and sound; some tracks have two clips."
    rng, shared = np.random.default_rng(seed), np.random.default_rng(99)
    eyes, ears = shared.normal(size=(5, 20)), shared.normal(size=(5, 10))
    track = np.arange(n) * 4 // 5
    cause = rng.normal(size=(n, 5))[track]
    rows = [c + rng.normal(size=(int(rng.integers(2, 8)), 5)) for c in cause]
    return Pairs([r @ eyes for r in rows], [r @ ears for r in rows], track, rng.uniform(0.5, 2, n))


def start(folder) -> subprocess.Popen:
    "A training in a process of its own."
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], env=os.environ | {"PYTHONPATH": os.pathsep.join(["."] + sys.path)})


def n_lines(path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
def test_a_killed_run_ends_with_the_same_model(tmp_path):
    assert start(tmp_path / "whole").wait(timeout=300) == 0
    killed = tmp_path / "killed"
    for lines in (20, 60):                                   # killed twice, at two places
        process = start(killed)
        while n_lines(killed / "log.jsonl") < lines and process.poll() is None: time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL, "it ended before it could be killed"
        assert not (killed / "final.pt").exists()
    assert start(killed).wait(timeout=300) == 0
    whole, again = (torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("whole", "killed"))
    assert (whole["epoch"], whole["mrr"]) == (again["epoch"], again["mrr"])
    assert all(torch.equal(whole["model"][name], again["model"][name]) for name in whole["model"])
    logs = [[json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()] for name in ("whole", "killed")]
    assert [h | {"seconds": 0} for h in logs[0]] == [h | {"seconds": 0} for h in logs[1]]
    assert [h["epoch"] for h in logs[1]] == list(range(1, EPOCHS + 1))


@pytest.mark.parametrize("seed", range(40))
def test_the_loss_agrees_with_a_slow_one(seed):
    "Whatever tracks are shared and whatever the weights: the loss, written down clip by clip, is the same, and never below zero."
    rng = np.random.default_rng(seed)
    n, scale = int(rng.integers(1, 12)), float(rng.uniform(1, 50))
    tracks = torch.from_numpy(rng.integers(0, int(rng.integers(1, 8)), n))
    v, a = (torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(n, 5)).astype(np.float32)), dim=1) for _ in range(2))
    weights = torch.from_numpy(rng.uniform(1 / 3, 3, n))
    a_unique, pos = unique_tracks(a, tracks)
    logits = (scale * v @ a_unique.T).double().numpy()
    to_audio = [np.log(np.exp(row).sum()) - row[p] for row, p in zip(logits, pos)]
    others = [[logits[j, pos[i]] for j in range(n) if pos[j] != pos[i]] for i in range(n)]
    to_video = [np.log(np.exp([logits[i, pos[i]], *others[i]]).sum()) - logits[i, pos[i]] for i in range(n)]
    w = weights.numpy()
    share = w / np.array([(pos == p).sum() for p in pos])
    expected = ((w * to_audio).sum() / w.sum() + (share * to_video).sum() / share.sum()) / 2
    found = contrastive_loss(v, a_unique, pos, weights=weights, logit_scale=scale).item()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5) and found >= 0


def test_hardly_any_pairs():
    "One pair, or one track for all, has nothing to teach, and does not break."
    for pairs in (made_up_pairs(1, 0), Pairs(np.ones((3, 4)), np.ones((3, 2)), np.zeros(3, int))):
        model = build_two_tower("linear", np.shape(pairs.video[0])[-1], np.shape(pairs.audio[0])[-1])
        result = fit_two_tower(model, pairs, pairs, LoopSettings(epochs=2))
        assert result.best_mrr == 1.0
        assert all(torch.isfinite(value).all() for value in result.model.state_dict().values())


@pytest.mark.gpu
@pytest.mark.parametrize("rung", ["linear", "mlp", "transformer"])
def test_on_an_accelerator(rung):
    "There the loop computes with bf16, and comes near to what the processor finds."
    train, val = made_up_pairs(200, 0), made_up_pairs(50, 1)
    def train_on(device):
        torch.manual_seed(0)
        return fit_two_tower(build_two_tower(rung, 20, 10), train, val, LoopSettings(epochs=40, crop=3, device=device))
    on_gpu, on_cpu = train_on("cuda"), train_on("cpu")
    assert next(on_gpu.model.parameters()).device.type == "cpu"       # what is returned can be used anywhere
    assert on_gpu.best_mrr == pytest.approx(on_cpu.best_mrr, abs=0.15)
