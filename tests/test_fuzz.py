"""Damaged files: each ends as done or with a reason, none leaves half a result. `benchmarks/fuzz.py` does it to two thousand."""
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from avmatch.config import ProcessConfig
from benchmarks.fuzz import DAMAGE, damage, make_seeds, run_batches

SCRIPT = Path(__file__).parents[1] / "benchmarks/fuzz.py"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory): return make_seeds(tmp_path_factory.mktemp("seeds"))


def test_every_damaged_file_is_accounted_for(seeds, tmp_path):
    "The checks are those of the benchmark; it raises where one fails."
    outcomes = Counter(i.reason or i.state for items in run_batches(150, seeds, tmp_path, ProcessConfig(timeout=60.0), seed=1) for i in items)
    assert sum(outcomes.values()) == 150
    assert outcomes["done"] >= 15 and outcomes["broken"] >= 15   # neither all nor none: the damage is worth the name
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", DAMAGE, ids=lambda way: way.__name__)
def test_each_kind_of_damage_changes_a_file(way):
    data = bytes(range(256)) * 20
    changed = [bytearray(data) for _ in range(20)]
    for i, each in enumerate(changed): way(each, np.random.default_rng(i))
    assert sum(each != data for each in changed) >= 15


def test_the_same_seed_damages_alike():
    data = bytes(5000)
    assert damage(data, np.random.default_rng(3)) == damage(data, np.random.default_rng(3)) != damage(data, np.random.default_rng(4))


def test_the_benchmark_prints_figures(tmp_path):
    run = subprocess.run([sys.executable, SCRIPT, "--files", "5", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
                         env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])})
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout)
    assert figures["files"] == 5 == sum(figures["outcomes"].values())
