"""The benchmarks of speed, tiny: that they run, that what they compare is equal (they end with an error otherwise), and what they print."""
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
FIELDS = {"name", "ours", "recipe", "bound", "unit", "ratio_to_recipe", "ratio_to_bound"}


def rows_of(script, *words, cwd):
    "What a benchmark prints as JSON, by name."
    done = subprocess.run([sys.executable, str(FOLDER / script), *words, "--json"], cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout)   # nothing but the list on standard output
    for row in rows:
        assert row.keys() == FIELDS and row["ours"] > 0 and math.isfinite(row["ours"]), row
        for other in ("recipe", "bound"):
            expected = row[other] and pytest.approx(row["ours"] / row[other])
            assert row[f"ratio_to_{other}"] == expected, row
    return {row["name"]: row for row in rows}


@pytest.mark.slow
def test_training_learns_the_same_from_the_disk_and_from_memory(tmp_path):
    rows = rows_of("training.py", "--clips", "2000", "--seconds", "0.1", "--epochs", "1", cwd=tmp_path)
    assert all(rows[f"training, batches of {n}"]["recipe"] for n in (256, 1024))
    assert any(name.startswith("until validation MRR") for name in rows) and any("on the disk" in name for name in rows)


@pytest.mark.slow
def test_a_clip_gets_the_same_answer_from_engine_command_and_service(tmp_path):
    rows = rows_of("recommend.py", "--rounds", "1", cwd=tmp_path)
    assert {"cold, avmatch recommend", "service, until it is ready", "service, a clip by HTTP"} <= rows.keys()
    warm = next(row for name, row in rows.items() if name.startswith("warm"))
    assert warm["bound"] == pytest.approx(sum(row["ours"] for name, row in rows.items() if name.startswith("  alone: ")))


@pytest.mark.slow
def test_startup_measures_commands_and_a_stage(tmp_path):
    rows = rows_of("startup.py", "--rounds", "1", cwd=tmp_path)
    assert {"import avmatch", "avmatch --help", "a stage, empty notebook"} <= rows.keys()


def test_a_table_names_the_machine_and_marks_what_is_missing():
    rows = "[table.row('search', 2.0, 'ms', recipe=160.0), table.row('a' * 60, 1.0, 'clips/s')]"
    code = f"import table; table.show({rows}, 'Speed', table.parser('').parse_args([]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=True)
    title, machine, _, head, row, other = done.stdout.splitlines()
    assert len(head) == len(row) == len(other)
    assert title == "Speed" and "cores" in machine and row.split() == ["search", "2", "160", "-", "ms", "0.0125", "-"]
