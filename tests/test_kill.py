"""A run that is killed without warning, in every stage, and goes on: nothing is lost, nothing is doubled, and the files are the same."""
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from avmatch.pipeline import STAGES
from avmatch.state import open_state
from avmatch.workspace import Workspace

SETTINGS = {"ingest.n_tracks": 8, "ingest.clips_per_track": 2, "ingest.sample_size": 48, "process.max_frames": 4, "process.workers": 1,
            "audio_features.encoder": "mfcc+rhythm", "video_features.encoder": "motion", "train.rungs": "cca"}
WORDS = [word for key, value in SETTINGS.items() for word in ("-p", f"{key}={value}")]
CLIP_STAGES = ("ingest", "process", "audio_features", "video_features")   # with a state for each clip
ENVIRONMENT = os.environ | {"SOURCE_DATE_EPOCH": "1790000000"}   # both runs write this time into their artifacts


def start(folder, **more):
    "`avmatch run` in a folder."
    return subprocess.Popen([sys.executable, "-m", "avmatch.cli", "run", *WORDS], cwd=folder, env=ENVIRONMENT, text=True, **more)


def finish(folder):
    done = start(folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = done.communicate(timeout=600)
    assert done.returncode == 0, out + err
    return out


def n_done(workspace, stage):
    "How many clips a stage has done, as its state says at this moment."
    try:
        with sqlite3.connect(f"file:{workspace.state}?mode=ro", uri=True) as state:
            return state.execute("SELECT count(*) FROM items WHERE stage = ? AND state = 'done'", [stage]).fetchone()[0]
    except sqlite3.OperationalError: return 0   # not there yet


def kill_within(folder, stage):
    "Start a run, and kill it when it is in a stage, and there in the middle of its clips if it has any. Its kernel is left an orphan."
    workspace, run = Workspace(folder / "data"), start(folder, stdout=subprocess.PIPE)
    for line in run.stdout:
        if line.startswith(f"{stage.number} {stage.name} ..."): break
    else: pytest.fail(f"the run never came to {stage.name}")
    until = time.monotonic() + 120
    while stage.name in CLIP_STAGES and n_done(workspace, stage.name) < 3 and run.poll() is None and time.monotonic() < until: time.sleep(0.002)
    if stage.name not in CLIP_STAGES: time.sleep(1.5)   # its kernel has begun
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()


def content(workspace):
    "What the stages have made of each clip: the lists byte by byte, and the files of the clips."
    folders = (workspace.videos, workspace.frames, workspace.audio, workspace.audio_features, workspace.video_features)
    files = [workspace.metadata, workspace.ingest_skipped, workspace.manifest, workspace.process_skipped, workspace.split]
    files += [p for folder in folders for p in folder.rglob("*") if p.is_file()]
    return {p.relative_to(workspace.root).as_posix(): p.read_bytes() for p in files}


def states(workspace):
    with open_state(workspace) as state: return [(i.video_id, i.stage, i.state, i.reason, i.inputs) for i in state.items()]


@pytest.mark.slow
def test_killed_in_every_stage_it_goes_on_where_it_was(tmp_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    undisturbed = start(folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)   # meanwhile, nobody disturbs this one
    for stage in STAGES: kill_within(tmp_path, stage)
    printed = finish(tmp_path)
    out, _ = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, out
    workspace, whole = Workspace(tmp_path / "data"), Workspace(folder / "data")
    assert printed.startswith("00 ingest: unchanged, skipped"), "what was done before the last kill is not done again"
    assert content(workspace) == content(whole)
    assert states(workspace) == states(whole)
    assert [p for p in workspace.root.rglob("*") if ".partial" in p.name or ".download" in p.name] == [], "no half file is left"
    evaluation, expected = (json.loads(w.evaluation.read_text()) for w in (workspace, whole))
    assert len(evaluation["ranks"]) == evaluation["n_clips"] > 0
    assert evaluation == expected, "the same model, as its hash says, and every figure of it"


def test_two_runs_in_one_workspace_do_not_fight(tmp_path):
    both = [subprocess.Popen([sys.executable, "-m", "avmatch.cli", "run", "--only", "ingest", *WORDS], cwd=tmp_path, env=ENVIRONMENT,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    for run in both:
        out, _ = run.communicate(timeout=300)
        assert run.returncode == 0, out
    with open_state(Workspace(tmp_path / "data")) as state: items = state.items("ingest")
    assert {i.attempts for i in items if i.state == "done"} == {1}, "no clip was brought twice"
    assert len(json.loads(Workspace(tmp_path / "data").metadata.read_text())) == sum(i.state == "done" for i in items)
