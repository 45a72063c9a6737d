"""Tracks by their sound: what stage 01 makes of a small folder, what it keeps, and the index on damaged and large input."""
import dataclasses
import os

import numpy as np
import pytest

import avmatch.process as process
from avmatch.config import load_config
from avmatch.fingerprint import SoundIndex, find_links, fingerprint, group_by_sound, join_links, place_sounds
from avmatch.ingest import make_record
from avmatch.media import read_audio, write_video
from avmatch.process import run_process
from avmatch.samples import plan_track, track_sound
from avmatch.workspace import Workspace, load_counts, load_json, load_manifest, save_json

SR = 44_100
PICTURES = [np.full((32, 32, 3), grey, np.uint8) for grey in (40, 120, 200)]
SAME_TEMPO = [dataclasses.replace(plan_track(i), tempo=100.0) for i in range(4)]


def sounds():
    "Clip -> sound: a, b and c have one song, d and e another one, f has its own."
    one, two, three = (track_sound(track) for track in SAME_TEMPO[:3])
    return {"a": one[:12 * SR], "b": 0.3 * one[2 * SR:11 * SR], "c": one[5 * SR:15 * SR], "d": two[:9 * SR], "e": two[4 * SR:16 * SR], "f": three}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    "The clips as files; the sound of c was encoded twice."
    folder = tmp_path_factory.mktemp("videos")
    for name, y in sounds().items(): write_video(folder / f"{name}.mp4", PICTURES, y, frame_rate=1, sr=SR)
    write_video(folder / "c.mp4", PICTURES, read_audio(folder / "c.mp4", sr=SR), frame_rate=1, sr=SR)
    return folder


@pytest.fixture
def workspace(videos, tmp_path):
    "A workspace as ingest leaves it, whose metadata know two tracks."
    workspace = Workspace(tmp_path / "data")
    workspace.videos.mkdir(parents=True)
    for path in videos.iterdir(): os.link(path, workspace.videos / path.name)
    write_metadata(workspace, a="song", b="", c="zebra", f="solo")
    return workspace


def write_metadata(workspace, **tracks):
    save_json(workspace.metadata, [make_record(n, views=10, likes=1, comments=1, track_id=tracks.get(n) or None) for n in "abcdef"])


def config(**changes): return load_config({"process": {"group_sounds": True} | changes})


def tracks(workspace): return {e["video_id"]: e["track_id"] for e in load_manifest(workspace)}


def dates(workspace): return {p.name: p.stat().st_mtime_ns for p in (workspace.manifest.parent / "fingerprints").iterdir()}


def test_one_sound_is_one_track(workspace):
    counts = run_process(config(), workspace)
    assert tracks(workspace) == {"a": "song", "b": "song", "c": "song", "d": "d", "e": "d", "f": "solo"}
    assert (counts["tracks"], counts["merged"]) == (3, 3)   # b, c and e
    assert load_counts(workspace, "process") == counts
    assert load_json(workspace.manifest.with_name("meta.json"), command="")["settings"]["group_sounds"] is True


def test_offsets_are_relative_to_the_longest(workspace):
    run_process(config(), workspace)
    offsets = {e["video_id"]: e["track_offset"] for e in load_manifest(workspace)}
    assert offsets == pytest.approx({"a": 0.0, "b": 2.0, "c": 5.0, "d": -4.0, "e": 0.0, "f": 0.0}, abs=0.15)


def test_metadata_join_too(workspace):
    write_metadata(workspace, a="A", d="A", e="B")
    run_process(config(), workspace)
    assert tracks(workspace) == dict.fromkeys("abcde", "A") | {"f": "f"}
    offsets = [e["track_offset"] for e in load_manifest(workspace)]
    assert [o is None for o in offsets] == [False, False, False, True, True, False]   # of two sounds the one with more clips


def test_without_it_nothing_changes(workspace):
    run_process(config(group_sounds=False), workspace)
    before = workspace.manifest.read_bytes()
    assert tracks(workspace)["b"] == "b" and b"track_offset" not in before
    assert not (workspace.manifest.parent / "fingerprints").exists()
    run_process(config(), workspace)
    assert "tracks" not in run_process(config(group_sounds=False), workspace)
    assert workspace.manifest.read_bytes() == before


def test_the_switch_decodes_nothing_again(workspace, monkeypatch):
    run_process(config(group_sounds=False), workspace)
    monkeypatch.setattr(process, "_note", lambda *a: pytest.fail("a clip was decoded again"))
    assert run_process(config(), workspace)["tracks"] == 3


def test_second_run_listens_to_nothing(workspace, monkeypatch):
    run_process(config(workers=1), workspace)
    before = workspace.manifest.read_bytes()
    monkeypatch.setattr(process, "fingerprint", lambda *a, **k: pytest.fail("a fingerprint was made again"))
    run_process(config(workers=3), workspace)
    assert workspace.manifest.read_bytes() == before


def test_a_changed_file_is_heard_again(workspace):
    run_process(config(), workspace)
    before = dates(workspace)
    (workspace.videos / "b.mp4").unlink()
    write_video(workspace.videos / "b.mp4", PICTURES, sounds()["f"][SR:9 * SR], frame_rate=1, sr=SR)
    run_process(config(), workspace)
    assert tracks(workspace) == {"a": "song", "b": "solo", "c": "song", "d": "d", "e": "d", "f": "solo"}
    assert {name for name, date in dates(workspace).items() if date != before[name]} == {"b.npz"}


def test_damaged_and_lost_fingerprints_are_made_again(workspace):
    run_process(config(), workspace)
    before, folder = workspace.manifest.read_bytes(), workspace.manifest.parent / "fingerprints"
    (folder / "a.npz").unlink()
    (folder / "b.npz").write_bytes(b"PK\x03\x04 nothing")
    np.savez(folder / "c.npz", version=-1, names=["c"], hashes=[1], times=[1], lengths=[1])
    run_process(config(), workspace)
    assert workspace.manifest.read_bytes() == before


def noise(seed, seconds=8): return np.random.default_rng(seed).standard_normal(seconds * SR).astype(np.float32)


def test_noise_is_like_itself_only():
    "Noise has peaks too: the same noise is the same sound, another is not."
    y = [noise(0), noise(1), noise(0)[SR:], 0.01 * noise(1), np.zeros(SR)]
    assert group_by_sound([fingerprint(x, sr=SR) for x in y]) == [0, 1, 0, 1, 4]


def test_the_order_does_not_matter():
    "Groups are the same sets, whatever the order of the clips."
    prints = {name: fingerprint(y, sr=SR) for name, y in sounds().items()}
    def sets(names):
        group = group_by_sound([prints[n] for n in names])
        return {frozenset(n for n, g in zip(names, group, strict=True) if g == own) for own in set(group)}
    assert sets("abcdef") == sets("fedcba") == sets("cfabed") == {frozenset("abc"), frozenset("de"), frozenset("f")}


def test_a_sound_that_everybody_uses_is_still_found():
    "Its hashes are all above the limit of what is looked at, so none of them may be passed over for that."
    sound = fingerprint(noise(3, seconds=4), sr=SR)
    index = SoundIndex()
    for i in range(2_050): index.add(str(i), sound)
    assert len(index.find(sound)) == 20


def test_one_wrong_link_does_not_join_two_songs():
    parts = [fingerprint(y[start * SR:], sr=SR) for y in (noise(5, 14), noise(6, 14)) for start in range(4)]
    links = find_links(parts)
    assert len(links) == 12 and all((link.a < 4) == (link.b < 4) for link in links)   # all within the songs
    wrong, lengths = [dataclasses.replace(links[0], a=2, b=b) for b in (5, 6, 7)], [14.0, 13.0, 12.0, 11.0] * 2
    assert join_links([*links, *wrong], lengths) == [0, 0, 0, 0, 4, 4, 4, 4]


def test_a_clip_with_both_songs_does_not_join_them():
    "A clip in which one song follows the other matches all clips of both."
    one, two = noise(7, 12), noise(8, 12)
    parts = [fingerprint(y, sr=SR) for y in (one, one[2 * SR:], two, two[2 * SR:], np.concatenate([one[8 * SR:], two[:4 * SR]]))]
    group = group_by_sound(parts)
    assert group[:4] == [0, 0, 2, 2] and group[4] in (0, 2, 4)


def test_places_of_nothing(): assert place_sounds([]) == []
