"""Rendering: pictures of every kind keep their times, and a click lands where it should, to within an audio frame."""
from fractions import Fraction
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from serving import make_app

from avmatch.media import probe, read_audio, read_frames, write_wav
from avmatch.render import SR, Mix, read_stereo, render, survey
from avmatch.serve import running
from tools.media_files import make_file

AUDIO_FRAME = 1024 / SR


def click(seconds: float, at: float, sr: int = SR, channels: int = 1) -> np.ndarray:
    "Silence with a short click, shape (channels, n_samples)."
    y = np.zeros((channels, round(seconds * sr)), np.float32)
    y[:, round(at * sr):round(at * sr) + sr // 500] = 0.9
    return y


@pytest.fixture(scope="module")
def track(tmp_path_factory):
    "Three seconds with a click at one second."
    path = tmp_path_factory.mktemp("track") / "track.wav"
    write_wav(path, click(3.0, 1.0)[0], sr=SR)
    return path


def clicks(path) -> list[float]:
    "When something is heard (s)."
    y = abs(read_audio(path, sr=SR))
    loud = np.flatnonzero(y > 0.5 * max(y.max(), 0.05))
    return [float(t) / SR for i, t in enumerate(loud) if i == 0 or t - loud[i - 1] > SR // 10]


SHAPES = {
    "mp4": ("a.mp4", {}, True), "B-frames": ("a.mp4", {"options": {"bf": "3"}}, True), "odd length": ("a.mp4", {"times": range(0, 1733, 33)}, True),
    "variable rate": ("a.mp4", {"times": [0, 40, 80, 500, 540, 1200, 1240, 1900]}, True),
    "starts late": ("a.mkv", {"times": range(700, 2700, 100)}, True),
    "matroska": ("a.mkv", {}, True), "hevc": ("a.mp4", {"codec": "libx265"}, True), "vp9": ("a.webm", {"codec": "libvpx-vp9", "sound": None}, True),
    "transport stream": ("a.ts", {"tick": Fraction(1, 90_000)}, False), "mpeg4": ("a.mp4", {"codec": "mpeg4"}, False),
    "motion jpeg": ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, False), "rotated": ("a.mp4", {"rotation": 90}, True),
    "rotated and encoded again": ("a.mov", {"rotation": 90, "codec": "mjpeg", "pix_fmt": "yuvj420p"}, False),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_keep_their_times_and_the_click_its_place(tmp_path, track, shape):
    name, options, can_copy = SHAPES[shape]
    clip = make_file(tmp_path / name, **options)
    assert survey(clip).can_copy == can_copy
    render(clip, track, tmp_path / "out.mp4", Mix(offset=0.4))
    (before, images), (after, rendered) = (zip(*read_frames(path, fps=1_000, max_frames=1_000)) for path in (clip, tmp_path / "out.mp4"))
    np.testing.assert_allclose(after, before, atol=0.002)
    assert rendered[0].shape == images[0].shape and max(abs(a.mean() - b.mean()) for a, b in zip(images, rendered)) < 4
    np.testing.assert_allclose(clicks(tmp_path / "out.mp4"), [0.6], atol=AUDIO_FRAME)


@pytest.mark.parametrize("channels, layout, sr", [(1, "mono", 44_100), (2, "stereo", 48_000), (6, "5.1", 48_000), (1, "mono", 16_000)])
def test_the_own_sound_stays_where_it_was(tmp_path, track, channels, layout, sr):
    clip = make_file(tmp_path / "a.mp4", y=click(2.0, 1.5, sr, channels), sr=sr, layout=layout)
    render(clip, track, tmp_path / "out.mp4", Mix(offset=0.4, own_gain=1.0 if channels < 6 else 0.4))   # six of them add up
    np.testing.assert_allclose(clicks(tmp_path / "out.mp4"), [0.6, 1.5], atol=AUDIO_FRAME)
    render(clip, track, tmp_path / "out.mp4", Mix(own_gain=0.0, music_gain=0.0))
    assert abs(read_audio(tmp_path / "out.mp4")).max() < 1e-4


def test_a_clip_longer_than_its_track_hears_the_loop(tmp_path, track):
    clip = make_file(tmp_path / "a.mp4", times=range(0, 7_000, 100))
    render(clip, track, tmp_path / "out.mp4", Mix(loop=(0.5, 2.5)))
    np.testing.assert_allclose(clicks(tmp_path / "out.mp4"), [1.0, 3.0, 5.0], atol=AUDIO_FRAME)
    render(clip, track, tmp_path / "out.mp4", Mix())
    y, _ = read_stereo(tmp_path / "out.mp4")
    assert len(clicks(tmp_path / "out.mp4")) == 1 and abs(y.shape[1] / SR - 7.0) < 2 * AUDIO_FRAME


def test_a_track_in_a_compressed_file(tmp_path, track):
    "An MP3 or AAC file has a delay of its own, which a player leaves out; so must we."
    for name, codec in (("track.m4a", "aac"), ("track.mp3", "libmp3lame"), ("track.ogg", "libopus"), ("track.flac", "flac")):
        song = make_file(tmp_path / name, codec=None, sound=codec, y=click(3.0, 1.0), sr=SR)
        render(make_file(tmp_path / "a.mp4"), song, tmp_path / "out.mp4", Mix(offset=0.4))
        expected = clicks(song)[0] - 0.4   # of the track as media reads it, which is where moments are measured
        np.testing.assert_allclose(clicks(tmp_path / "out.mp4"), [expected], atol=AUDIO_FRAME, err_msg=name)
        assert abs(expected - 0.6) < 2 * AUDIO_FRAME


def test_the_service_sends_the_rendered_clip_and_keeps_nothing(client, engine, track, tmp_path, uploads):
    clip = make_file(tmp_path / "a.mp4").read_bytes()
    file = Path(engine.tracks["rain"].audio_path)   # a tone; the click is put in its place for a moment
    tone = file.read_bytes()
    file.write_bytes(track.read_bytes())
    try: response = client.post("/render", params={"audio_id": "rain", "offset": 0.4, "fade_out": 0.5}, files={"file": ("../x.mp4", clip)})
    finally: file.write_bytes(tone)
    assert response.status_code == 200 and 'filename="rain.mp4"' in response.headers["content-disposition"]
    (tmp_path / "out.mp4").write_bytes(response.content)
    np.testing.assert_allclose(clicks(tmp_path / "out.mp4"), [0.6], atol=AUDIO_FRAME)
    assert probe(tmp_path / "out.mp4").has_video and list(uploads.iterdir()) == []


@pytest.mark.parametrize("params, status", [
    ({"audio_id": "none"}, 404), ({}, 422), ({"audio_id": "rain", "offset": "NaN"}, 422), ({"audio_id": "rain", "own_gain": -1}, 422),
    ({"audio_id": "rain", "loop_start": 2, "loop_end": 1}, 422), ({"audio_id": "../../etc/passwd"}, 404),
    ({"audio_id": "rain", "fade_in": "Infinity"}, 422),
])
def test_what_cannot_be_rendered_is_told(client, clip, params, status, uploads):
    response = client.post("/render", params=params, files={"file": clip})
    assert response.status_code == status and list(response.json()) == ["reason", "detail"]
    assert list(uploads.iterdir()) == []


def test_a_reader_that_stops_does_not_keep_the_file(engine, clip, uploads):
    "The time for a download is that for an upload."
    with running(make_app(engine, upload_timeout=5.0)) as url, httpx.Client(base_url=url, timeout=30) as client:
        with client.stream("POST", "/render?audio_id=rain", files={"file": clip}) as response: assert response.status_code == 200
        assert client.get("/health").status_code == 200
    assert list(uploads.iterdir()) == []


def test_metadata_of_the_clip_stays_out(tmp_path, track):
    "Where it was filmed, and on what, is nobody's business."
    clip = make_file(tmp_path / "a.mp4")
    with av.open(str(clip)) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
        target.metadata["location"] = "+27.5916+086.5640/"
        out = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            packet.stream = out
            if packet.size: target.mux(packet)
    render(tmp_path / "b.mp4", track, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container: assert "27.5916" not in str(container.metadata)
