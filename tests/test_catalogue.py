"""The user's own music: every format, what its tags say, the same music twice, hostile files, and answers from both kinds of tracks."""
import csv
import json
import shutil

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avmatch.catalogue import add_tracks, export_tracks, list_tracks, open_catalogue, remove_tracks
from avmatch.config import AvmatchError, load_config
from avmatch.media import write_wav
from avmatch.recommend import Engine
from avmatch.samples import plan_track, track_sound
from avmatch.state import working
from avmatch.track_store import Filters, TrackStore
from avmatch.upkeep import purge
from avmatch.workspace import Workspace, load_manifest

CODECS = {"mp3": "libmp3lame", "wav": "pcm_s16le", "m4a": "aac", "ogg": "libopus", "flac": "flac"}
LICENCE_TAG = {"mp3": "copyright", "wav": "copyright", "m4a": "copyright", "ogg": "license", "flac": "license"}
PLANS = [plan_track(i) for i in (0, 3, 4, 5, 8)]
SOUNDS = [track_sound(plan) for plan in PLANS]


def write_music(path, y, **tags):
    "A file of music in the format of its suffix, with tags."
    kind = path.suffix[1:]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[kind], rate=48_000, layout="mono")
        (stream if kind == "ogg" else container).metadata.update(tags)
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=48_000, frame_size=960)
        frame = av.AudioFrame.from_ndarray(y[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = 22_050
        for part in [*resampler.resample(frame), *resampler.resample(None)]: container.mux(stream.encode(part))
        container.mux(stream.encode(None))


@pytest.fixture
def workspace(tmp_path): return Workspace(tmp_path / "data")


@pytest.mark.parametrize("kind", CODECS)
def test_every_format_says_what_it_is(kind, workspace, tmp_path):
    tags = {"title": "Ländler", "artist": "Anna & Co", LICENCE_TAG[kind]: "CC BY 4.0"}
    write_music(tmp_path / f"song.{kind}", SOUNDS[0], **tags)
    report = add_tracks(workspace, [tmp_path / f"song.{kind}"])
    [track] = list_tracks(workspace)
    assert report == {"added": [track["audio_id"]], "renewed": [], "duplicates": [], "skipped": []}
    assert (track["title"], track["artist"], track["licence"]) == ("Ländler", "Anna & Co", "CC BY 4.0")
    assert abs(track["duration"] - 40) < 0.2 and workspace.resolve(track["audio_path"]).is_file()
    assert (track["tempo"], track["voice"], track["tags"]) == (None, None, []), "nobody has listened yet"


def test_the_same_music_in_five_formats_is_one_track(workspace, tmp_path):
    for kind in CODECS: write_music(tmp_path / f"song.{kind}", SOUNDS[0])
    for i, y in enumerate(SOUNDS[1:]): write_music(tmp_path / f"other{i}.ogg", y)
    report = add_tracks(workspace, [tmp_path])
    assert len(report["added"]) == 5 and len(report["duplicates"]) == 4 and not report["skipped"]
    first = next(t["audio_id"] for t in list_tracks(workspace) if t["title"] == "song")
    assert {d["same_as"] for d in report["duplicates"]} == {first}
    assert sorted(p.stem for p in (workspace.catalogue / "audio").iterdir()) == sorted(report["added"]), "nothing is left of duplicates"


def test_a_part_of_a_song_is_another_track_of_its_group(workspace, tmp_path):
    write_music(tmp_path / "song.flac", SOUNDS[0])
    write_music(tmp_path / "part.flac", SOUNDS[0][-20 * 22_050:])
    write_music(tmp_path / "other.flac", SOUNDS[1])
    assert len(add_tracks(workspace, [tmp_path])["added"]) == 3
    group = {t["title"]: t["fingerprint_group"] for t in list_tracks(workspace)}
    assert group["song"] == group["part"] != group["other"]


def test_a_table_has_the_last_word_and_renews(workspace, tmp_path):
    write_music(tmp_path / "song.mp3", SOUNDS[0], title="From the file")
    add_tracks(workspace, [tmp_path / "song.mp3"])
    (tmp_path / "all.csv").write_text('File,Title,Licence,Link,Mood\nsong.mp3,"One, two",CC0,https://example.org/1,glad\nnone.mp3,Gone,,,\n')
    report = add_tracks(workspace, [tmp_path / "all.csv"])
    [track] = list_tracks(workspace)
    assert report["renewed"] == [track["audio_id"]] and [s["reason"] for s in report["skipped"]] == ["missing"]
    assert (track["title"], track["licence"], track["link"]) == ("One, two", "CC0", "https://example.org/1")


def test_what_is_no_music_is_left_out_with_a_reason(workspace, tmp_path):
    write_music(tmp_path / "good.mp3", SOUNDS[0])
    whole = (tmp_path / "good.mp3").read_bytes()
    (tmp_path / "page.mp3").write_text("<!doctype html><title>404</title>")
    (tmp_path / "empty.ogg").write_bytes(b"")
    (tmp_path / "noise.flac").write_bytes(b"fLaC" + np.random.default_rng(0).bytes(5_000))
    write_wav(tmp_path / "silent.wav", np.zeros(44_100), sr=22_050)
    write_wav(tmp_path / "blip.wav", SOUNDS[0][:2_000], sr=22_050)
    write_wav(tmp_path / "long.wav", np.tile(SOUNDS[1], 16), sr=22_050)
    report = add_tracks(workspace, [tmp_path])
    reasons = {entry["file"].rsplit("/", 1)[1]: entry["reason"] for entry in report["skipped"]}
    assert reasons == {"page.mp3": "not_media", "empty.ogg": "not_media", "noise.flac": "broken", "silent.wav": "silent",
                       "blip.wav": "short_sound", "long.wav": "too_long"}
    assert all(entry["detail"] for entry in report["skipped"])
    assert len(report["added"]) == 1 and (tmp_path / "good.mp3").read_bytes() == whole


def test_a_workspace_at_work_is_left_alone(workspace, tmp_path):
    write_wav(tmp_path / "a.wav", SOUNDS[0], sr=22_050)
    with working(workspace), pytest.raises(AvmatchError, match="another avmatch works"): add_tracks(workspace, [tmp_path])


some_tags = st.sampled_from(["calm", "Calm", "x') OR 1=1"])

@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries({
    "duration": st.none() | st.floats(0, 300), "tempo": st.none() | st.floats(40, 240), "voice": st.sampled_from([None, "vocal", "instrumental"]),
    "licence": st.sampled_from([None, "CC0", "cc0", "MIT"]), "tags": st.lists(some_tags, max_size=2)}), max_size=8),
    st.builds(Filters, min_duration=st.none() | st.floats(0, 150), max_duration=st.none() | st.floats(150, 300),
              min_tempo=st.none() | st.floats(0, 100), voice=st.sampled_from([None, "vocal"]), tag=st.sets(st.sampled_from(["CALM", "x') OR 1=1"])),
              licence=st.sets(st.sampled_from(["Cc0", "mit"]))))
def test_filters_mean_what_they_say(tracks, filters):
    "SQL gives what a plain loop gives."
    def passes(t):
        within = lambda value, low, high: (low is None and high is None) or value is not None and (low or 0) <= value <= (high or 1e9)
        some = lambda found, wanted: not wanted or bool({f.lower() for f in found if f} & {w.lower() for w in wanted})
        return (within(t["duration"], filters.min_duration, filters.max_duration) and within(t["tempo"], filters.min_tempo, filters.max_tempo)
                and filters.voice in (None, t["voice"]) and some(t["tags"], filters.tag) and some([t["licence"]], filters.licence))
    named = [t | {"audio_id": str(i)} for i, t in enumerate(tracks)]
    with TrackStore() as store:
        store.put(named)
        assert store.ids(filters) == {t["audio_id"] for t in named if passes(t)}


@pytest.fixture(scope="module")
def library(demo, tmp_path_factory):
    "A workspace with a model, and four pieces of music beside it; the sound of its first clip is one of them."
    _, made = demo
    shutil.copytree(made.root, (folder := tmp_path_factory.mktemp("library")) / "data")
    workspace, music = Workspace(folder / "data"), folder / "music"
    music.mkdir()
    before = Engine.load(workspace)
    for plan, y in zip(PLANS, SOUNDS): write_music(music / f"{plan.track_id}.mp3", y, title=plan.track_id, comment="CC0")
    return workspace, music, before, add_tracks(workspace, [music])


def test_music_is_answered_beside_the_videos(library):
    workspace, _, before, report = library
    engine, entry = Engine.load(workspace), load_manifest(workspace)[0]
    video = workspace.resolve(entry["video_path"])
    assert len(report["added"]) == 5 and set(engine.tracks) == set(before.tracks) | set(report["added"])
    everyone, old = engine.recommend(video, 1_000), before.recommend(video, 1_000)
    assert {a.audio_id for a in everyone} > {a.audio_id for a in old}
    scores = {a.audio_id: a.score for a in everyone}
    np.testing.assert_allclose([scores[a.audio_id] for a in old], [a.score for a in old], atol=1e-5)   # the old answers are as they were
    mine = [a for a in everyone if a.source == "music"]
    assert {a.audio_id for a in mine} == set(report["added"]) and all(abs(sum(a.parts.values()) - a.score) < 1e-5 for a in mine)


def test_the_model_has_listened(library):
    workspace, *_ = library
    tempos = {t["title"]: t["tempo"] for t in list_tracks(workspace, Filters(licence="cc0"))}
    assert all(abs(tempos[plan.track_id] - plan.tempo) < 0.5 for plan in PLANS[:4]), "those whose beat is clear"
    assert {t["source"] for t in list_tracks(workspace)} == {"video", "music"}


def test_filters_choose_among_both(library):
    workspace, *_ = library
    engine, video = Engine.load(workspace), workspace.resolve(load_manifest(workspace)[0]["video_path"])
    slow = engine.recommend(video, 1_000, filters=Filters(min_duration=39, max_tempo=95))
    assert {a.title for a in slow} == {plan.track_id for plan in PLANS if plan.tempo <= 95.1 and plan.track_id in ("t000", "t003", "t005")}
    assert [a.audio_id for a in slow] == [a.audio_id for a in engine.recommend(video, 1_000) if a.audio_id in {s.audio_id for s in slow}]
    assert engine.recommend(video, 5, filters=Filters(licence="no such terms")) == []


def test_an_engine_keeps_its_version_while_music_comes_and_goes(library):
    workspace, music, *_ = library
    engine, video = Engine.load(workspace), workspace.resolve(load_manifest(workspace)[0]["video_path"])
    answers = engine.recommend(video, 1_000)
    gone = next(t["audio_id"] for t in list_tracks(workspace) if t["title"] == "t008")
    assert remove_tracks(workspace, [gone, answers[0].audio_id if answers[0].source == "video" else "x"])["removed"] == [gone]
    assert engine.recommend(video, 1_000) == answers
    assert gone not in {a.audio_id for a in Engine.load(workspace).recommend(video, 1_000)}
    assert not list(workspace.catalogue.rglob(f"{gone}*"))
    assert add_tracks(workspace, [music])["added"] == [gone]
    assert {a.audio_id for a in Engine.load(workspace).recommend(video, 1_000)} == {a.audio_id for a in answers}


def test_an_export_can_be_read(library, tmp_path):
    workspace, *_ = library
    n = export_tracks(workspace, tmp_path / "all.csv", Filters(min_duration=39))
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as file: rows = list(csv.DictReader(file))
    assert n == len(rows) == 5 and {row["title"] for row in rows} == {plan.track_id for plan in PLANS}
    assert export_tracks(workspace, tmp_path / "all.json") == len(json.loads((tmp_path / "all.json").read_text())) > 5


def test_a_purged_clip_leaves_no_trace_but_the_music_stays(library, tmp_path):
    workspace, *_ = library
    shutil.copytree(workspace.root, tmp_path / "data")
    copy, video_id = Workspace(tmp_path / "data"), load_manifest(workspace)[0]["video_id"]
    purge(copy, [video_id])
    assert [t["source"] for t in list_tracks(copy)] == ["music"] * 5
    with open_catalogue(copy) as store: assert len(store) == 5


def test_settings_limit_what_is_decoded(workspace, tmp_path):
    write_wav(tmp_path / "a.wav", SOUNDS[0], sr=22_050)
    report = add_tracks(workspace, [tmp_path], config=load_config({"process": {"max_seconds": 30}}))
    assert [s["reason"] for s in report["skipped"]] == ["too_long"]
