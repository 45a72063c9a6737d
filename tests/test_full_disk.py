"""No room on the disk in the stages after the download: an error that says so, nothing half written, and the next run goes on.

The system itself refuses: no file of the child process may grow beyond a limit. What fits, such as the state, is written as ever.
"""
import subprocess
import sys

import numpy as np
import pytest

from avmatch.audio_features import load_audio_sequences, run_audio_features
from avmatch.config import load_config
from avmatch.media import write_video
from avmatch.process import run_process
from avmatch.records import make_record
from avmatch.sequences import Timed
from avmatch.state import open_state
from avmatch.video_features import run_video_features
from avmatch.workspace import Workspace, load_manifest, save_json

LIMIT = 500_000   # bytes of a file; the state needs less
SR = 22_050
IN_A_SMALL_WORLD = """
import resource, sys
sys.path.insert(0, {tests!r})
import test_full_disk
from avmatch.config import ArtifactError
from avmatch.workspace import Workspace
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try: test_full_disk.{stage}(Workspace(sys.argv[1]))
except ArtifactError as e: sys.exit(str(e))
"""
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")


class Wide:
    "An encoder of sounds and pictures with so many columns that a second of them does not fit."
    name, version, licence, source, cost = "wide", "1", "none needed", "made up", "nothing"
    sr, reads, settings, groups = SR, "frames", {}, {"all": 200_000}
    def encode(self, *_): return Timed(np.ones((1, 200_000), np.float32), np.zeros(1))


def config(**process): return load_config({"process": {"workers": 1, "max_frames": 2, "group_sounds": False, **process}})
def take_apart(workspace): return run_process(config(), workspace)
def listen(workspace):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avmatch.audio_features.get_audio_encoders", lambda settings: [Wide()])
        return run_audio_features(config(), workspace)
def look(workspace):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avmatch.video_features.get_video_encoders", lambda settings: [Wide()])
        return run_video_features(config(), workspace)


def refused(stage, workspace, limit=LIMIT):
    "What a stage says when its files may not grow beyond a limit."
    code = IN_A_SMALL_WORLD.format(tests=str(__file__).rpartition("/")[0], limit=limit, stage=stage.__name__)
    done = subprocess.run([sys.executable, "-c", code, workspace.root], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    return done.stderr


def states(workspace, stage):
    with open_state(workspace) as state: return {i.video_id: i.reason or i.state for i in state.items(stage)}


@pytest.fixture
def workspace(tmp_path):
    "Two clips: the sound of the first is short, that of the second makes a file of 661 500 bytes."
    workspace = Workspace(tmp_path / "data")
    for name, seconds in (("a", 3), ("b", 15)):
        sound = 0.2 * np.sin(2 * np.pi * 330 * np.arange(seconds * SR) / SR)
        write_video(workspace.videos / f"{name}.mp4", [np.full((64, 48, 3), 90, np.uint8)] * seconds, sound, frame_rate=1, sr=SR)
    save_json(workspace.metadata, [make_record(name, source="folder") for name in ("a", "b")])
    return workspace


def test_a_sound_that_does_not_fit(workspace):
    message = refused(take_apart, workspace)
    assert "b.wav cannot be written (File too large); free some space and run again" in message
    assert states(workspace, "process") == {"a": "done", "b": "running"}, "no clip is blamed"
    assert not workspace.manifest.exists() and not list(workspace.root.rglob("*.partial")), "nothing is half there"
    assert not (workspace.audio / "b.wav").exists() and not (workspace.frames / "b").exists()
    assert take_apart(workspace)["clips"] == 2
    with open_state(workspace) as state: assert {i.video_id: i.attempts for i in state.items("process")} == {"a": 1, "b": 2}


def test_pictures_that_do_not_fit(workspace):
    noise = np.random.default_rng(0).integers(0, 256, (1200, 900, 3), np.uint8)
    write_video(workspace.videos / "b.mp4", [noise] * 2, np.ones(2 * SR) * 0.1, frame_rate=1, sr=SR)
    message = refused(take_apart, workspace)
    assert "free some space and run again" in message
    assert states(workspace, "process") == {"a": "done", "b": "running"}
    assert not list(workspace.root.rglob("*.partial")) and not (workspace.frames / "b").exists()
    assert take_apart(workspace)["clips"] == 2


@pytest.mark.parametrize(("stage", "name"), [(listen, "audio_features"), (look, "video_features")])
def test_features_that_do_not_fit(stage, name, workspace):
    take_apart(workspace)
    message = refused(stage, workspace)
    assert "cannot be written (File too large); free some space and run again" in message and f"{name}/a." in message
    assert set(states(workspace, name).values()) <= {"pending", "running"}, "no clip is blamed"
    assert [p.name for p in getattr(workspace, name).iterdir()] == ["meta.json"], "nothing is half there"
    assert (stage(workspace)["clips"], stage(workspace)["skipped"]) == (2, 0)
    assert states(workspace, name) == {"a": "done", "b": "done"}


def test_a_manifest_that_does_not_fit(workspace):
    save_json(workspace.metadata, [make_record(name, source="folder", title=400_000 * "x") for name in ("a", "b")])   # either would fit
    message = refused(take_apart, workspace, limit=700_000)
    assert "manifest.json cannot be written (File too large); free some space" in message
    assert not workspace.manifest.exists() and not list(workspace.root.rglob("*.partial"))
    assert take_apart(workspace)["clips"] == 2
    assert len(load_manifest(workspace)) == 2
    assert listen(workspace)["clips"] == 2 and load_audio_sequences(workspace, ["a"])[0].shape == (3, 200_000)
