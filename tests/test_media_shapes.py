"""Files of every shape that phones, cameras and strangers send: what is read from each, or the reason for which it is refused.

All are generated here. Picture number i of a file has a grey level that tells its number; sound is a tone of 440 Hz.
"""
import shutil
import socket
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from avmatch.config import MediaError, ProcessConfig
from avmatch.containers import Limits
from avmatch.extract import Job, extract_clip
from avmatch.media import probe, read_audio, read_clip, read_frames
from avmatch.workers import Workers
from tools.media_files import grey, level_of, make_file, tone

SR = 22_050
TENTH = Fraction(1, 10)


def level(picture): return float(picture[picture.shape[0] // 4:-(picture.shape[0] // 4) or None].mean())
def levels(clip): return [level(p) for p in clip.pictures]
def n_crossings(y): return int(((y[:-1] < 0) & (y[1:] >= 0)).sum())


def check(clip, numbers, times=None, within=3):
    "That a clip has the pictures of these numbers, at these times (s)."
    assert levels(clip) == pytest.approx([level_of(i) for i in numbers], abs=within)
    if times is not None: assert clip.times == pytest.approx(times, abs=0.002)


def reason(path, read=read_clip, **options):
    "Why a file is refused; None if it is not."
    try:
        result = read(path, **options)
        if read is read_frames: list(result)
    except MediaError as e:
        assert str(e).startswith(path.name)
        return e.reason


# Codecs, pixels and containers

CODECS = [   # container, codec of pictures, their format, codec of sound
    ("mp4", "libx264", "yuv420p", "aac"), ("mp4", "libx264", "yuv420p10le", "aac"), ("mov", "libx264", "yuv444p", "aac"),
    ("mkv", "libx264", "yuv422p", "pcm_f32le"), ("flv", "libx264", "yuv420p", "aac"), ("ts", "libx264", "yuv420p", "aac"),
    ("m2ts", "libx264", "yuv420p", "ac3"), ("mp4", "libx265", "yuv420p", "aac"), ("mp4", "libx265", "yuv420p10le", "aac"),
    ("mkv", "libsvtav1", "yuv420p10le", "libopus"), ("mp4", "libsvtav1", "yuv420p", "aac"), ("webm", "libvpx", "yuv420p", "libopus"),
    ("webm", "libvpx-vp9", "yuv420p", "libopus"), ("webm", "libvpx-vp9", "yuva420p", "libopus"), ("mov", "mjpeg", "yuvj420p", "aac"),
    ("avi", "mjpeg", "yuvj422p", "pcm_s16le"), ("mkv", "ffv1", "gray16le", "flac"), ("mkv", "ffv1", "bgr0", "flac"),
    ("mkv", "ffv1", "yuv422p12le", "flac"), ("mov", "prores_ks", "yuv422p10le", "pcm_s16le"), ("mov", "prores_ks", "yuva444p10le", "pcm_s24le"),
    ("mov", "qtrle", "argb", "pcm_s16le"), ("mov", "png", "rgba", "pcm_s16le"), ("avi", "rawvideo", "bgr24", "pcm_s16le"),
    ("avi", "huffyuv", "rgb24", "pcm_s16le"), ("avi", "utvideo", "gbrp", "ac3"), ("mp4", "mpeg4", "yuv420p", "alac"),
    ("flv", "flv", "yuv420p", "aac"), ("avi", "cinepak", "rgb24", "pcm_s16le")]


@pytest.mark.parametrize(("suffix", "codec", "pix_fmt", "sound"), CODECS, ids="-".join)
def test_codecs_and_pixel_formats(tmp_path, suffix, codec, pix_fmt, sound):
    path = make_file(tmp_path / f"clip.{suffix}", codec=codec, pix_fmt=pix_fmt, sound=sound, sr=48_000 if sound == "libopus" else 44_100,
                     tick=TENTH if suffix == "avi" else Fraction(1, 1000))
    clip = read_clip(path)
    check(clip, [0, 5, 10, 15], [0, 0.5, 1, 1.5])
    assert len(clip.y) / SR == pytest.approx(2, abs=0.06)
    assert np.abs(clip.y[5_000:-5_000]).max() == pytest.approx(0.5, abs=0.04)
    assert n_crossings(clip.y[SR // 2:3 * SR // 2]) == pytest.approx(440, abs=1)
    info = probe(path)
    assert (info.width, info.height, info.has_audio) == (64, 48, True)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "msmpeg4v2"])
def test_avi_knows_no_time_of_presentation(tmp_path, codec):
    "And its B-frames come out of order; nothing is off by more than one picture."
    clip = read_clip(make_file(tmp_path / "clip.avi", codec=codec, sound="pcm_s16le", tick=TENTH))
    check(clip, [0, 5, 10, 15], [0, 0.5, 1, 1.5], within=9)


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (2, 500), (500, 2)])
def test_odd_sizes(tmp_path, size):
    path = make_file(tmp_path / "clip.mkv", codec="ffv1", pix_fmt="bgr0", size=size)
    clip = read_clip(path)
    check(clip, [0, 5, 10, 15])
    assert clip.pictures[0].shape == (*size[::-1], 3)
    assert extract_clip(Job(path, tmp_path / "frames", tmp_path / "clip.wav", ProcessConfig()))["num_frames"] == 4
    assert next(read_frames(path, size=16))[1].shape[2] == 3


# Time

@pytest.mark.parametrize(("times", "numbers", "seconds"), [
    ([0], [0], [0]),
    (range(0, 3000, 1), None, [0, 0.5, 1, 1.5, 2, 2.5]),
    ([0, 30, 60, 90, 120, 2000, 2100, 4000], [0, 5, 7], [0, 2, 4]),
    ([*range(0, 1000, 20), *range(1000, 3000, 250)], None, [0, 0.5, 1, 1.5, 2, 2.5]),
    (range(5_000, 7_000, 100), [0, 5, 10, 15], [0, 0.5, 1, 1.5]),
], ids=["one picture", "1000 a second", "gaps", "slower in the dark", "late start"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_sampling_by_presentation_time(tmp_path, suffix, times, numbers, seconds):
    clip = read_clip(make_file(tmp_path / f"clip.{suffix}", times=list(times), options={"preset": "ultrafast"}))
    if numbers is None: numbers = [next(i for i, t in enumerate(times) if t >= 1000 * s) for s in seconds]
    check(clip, numbers, seconds)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_negative_timestamps(tmp_path, suffix):
    "What lies before zero is cut by the edit list of an MP4 file; other files show it."
    path = make_file(tmp_path / f"clip.{suffix}", times=range(-500, 1500, 100), codec="mjpeg", pix_fmt="yuvj420p",
                     muxer={"avoid_negative_ts": "disabled"})
    clip = read_clip(path)
    assert clip.times[0] == 0.0 and len(clip.times) in (3, 4)
    check(clip, [0, 5, 10, 15] if len(clip.times) == 4 else [5, 10, 15], within=4)


def test_timestamps_that_go_back(tmp_path):
    "A picture that claims to be shown later than the next ones is taken at its word; those after it do not go back in time."
    path = tmp_path / "clip.mkv"
    with av.open(str(make_file(tmp_path / "good.mkv", codec="mjpeg", pix_fmt="yuvj420p"))) as old, av.open(str(path), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for packet in old.demux():
            if packet.dts is None: continue
            if packet.stream.type == "video" and packet.pts == 100: packet.pts = 500
            packet.stream = streams[packet.stream.index]
            new.mux(packet)
    check(read_clip(path), [0, 1, 10, 15], [0, 0.5, 1, 1.5], within=4)


@pytest.mark.parametrize(("seconds", "expected"), [(59, None), (60, None), (62, "too_long")])
def test_a_limit_in_seconds(tmp_path, seconds, expected):
    path = make_file(tmp_path / "clip.mp4", times=range(0, 1000 * seconds, 1000), y=tone(seconds, 8_000), sr=8_000)
    assert reason(path, limits=Limits(max_seconds=60.5)) == expected


def test_ten_hours_are_refused_by_the_header(tmp_path):
    for suffix in ("mp4", "mkv", "avi"):
        tick = Fraction(1) if suffix == "avi" else Fraction(1, 1000)
        path = make_file(tmp_path / f"clip.{suffix}", codec="mpeg4", times=[0, 1000, 36_000_000] if suffix != "avi" else range(0, 1_000_000, 1000),
                         y=tone(1, 44_100), sound="aac" if suffix != "avi" else "libmp3lame", tick=tick)
        for read in (read_clip, read_audio, probe, read_frames): assert reason(path, read) == "too_long"


def test_a_header_that_lies_about_the_time(tmp_path):
    "A stream that is cut from a long one and says nothing of its length: found while decoding."
    path = make_file(tmp_path / "clip.ts", times=range(0, 90_000, 1000), y=tone(1, 44_100))
    assert reason(path, limits=Limits(max_seconds=60)) == "too_long"
    assert reason(path, read_frames, max_frames=10, limits=Limits(max_decoded=5)) == "too_many_frames"
    assert reason(path, max_frames=1000, fps=100, limits=Limits(max_decoded=50)) == "too_many_frames"


# How the camera was held

@pytest.mark.parametrize(("rotation", "lying"), [(0, True), (45, True), (90, False), (180, True), (270, False), (-90, False)])
def test_rotation(tmp_path, rotation, lying):
    path = make_file(tmp_path / "clip.mp4", rotation=rotation)
    shape = (48, 64, 3) if lying else (64, 48, 3)
    assert read_clip(path).pictures[0].shape == shape
    assert (probe(path).height, probe(path).width) == shape[:2]


# Sound

@pytest.mark.parametrize(("layout", "sr", "sound", "suffix"), [
    ("mono", 8_000, "pcm_s16le", "mov"), ("mono", 192_000, "flac", "mkv"), ("stereo", 44_100, "aac", "mp4"), ("5.1", 48_000, "aac", "mp4"),
    ("quad", 44_100, "pcm_s16le", "mov"), ("2.1", 22_050, "pcm_f32le", "mkv"), ("5.1", 48_000, "ac3", "ts")])
def test_sound_of_any_layout_and_rate(tmp_path, layout, sr, sound, suffix):
    n_channels = av.AudioLayout(layout).nb_channels
    path = make_file(tmp_path / f"clip.{suffix}", layout=layout, sr=sr, sound=sound, y=tone(2, sr, n_channels, amplitude=0.2))
    y = read_audio(path)
    assert (y.dtype, y.ndim) == (np.float32, 1) and len(y) / SR == pytest.approx(2, abs=0.06)
    assert n_crossings(y[SR // 2:3 * SR // 2]) == pytest.approx(440, abs=1)
    if n_channels <= 2: assert np.abs(y[5_000:-5_000]).max() == pytest.approx(0.2, abs=0.01)
    assert np.array_equal(y, read_clip(path).y)


def test_loud_stereo_is_not_clipped(tmp_path):
    y = read_audio(make_file(tmp_path / "clip.mov", layout="stereo", sound="pcm_f32le", y=tone(2, 44_100, 2, amplitude=0.95)))
    assert np.abs(y).max() == pytest.approx(0.95, abs=0.01)
    one_side = tone(2, 44_100, 2, amplitude=0.8) * np.array([[1], [0]])
    y = read_audio(make_file(tmp_path / "side.mov", layout="stereo", sound="pcm_f32le", y=one_side))
    assert np.abs(y[5_000:-5_000]).max() == pytest.approx(0.4, abs=0.01)


def test_samples_that_are_no_numbers_or_too_loud(tmp_path):
    wave = tone(2, 44_100)
    wave[0, 1000:1100], wave[0, 2000], wave[0, 3000] = np.nan, np.inf, -1e30
    y = read_audio(make_file(tmp_path / "clip.mov", sound="pcm_f32le", y=wave))
    assert np.isfinite(y).all() and np.abs(y).max() <= 1
    assert n_crossings(y[SR // 2:3 * SR // 2]) == pytest.approx(440, abs=1)


@pytest.mark.parametrize(("y", "expected"), [
    (np.zeros((1, 88_200)), "silent"), (1e-4 * tone(2, 44_100), "silent"), (np.sign(tone(2, 44_100)), None),
    (tone(0.05, 44_100), "short_sound"), (tone(1, 44_100), None), (None, None)], ids=["zeros", "soft", "square", "50 ms", "1 s", "2 s"])
def test_sound_is_measured(tmp_path, y, expected):
    path = make_file(tmp_path / "clip.mov", sound="pcm_f32le", y=y)
    job = Job(path, tmp_path / "frames", tmp_path / "clip.wav", ProcessConfig())
    try: assert extract_clip(job)["num_frames"] == 4 and expected is None
    except MediaError as e: assert e.reason == expected and not job.wav.exists() and not job.frames.exists()


@pytest.mark.parametrize(("name", "sound", "sr"), [("t.mp3", "libmp3lame", 44_100), ("t.flac", "flac", 48_000), ("t.wav", "pcm_s16le", 8_000),
                                                   ("t.ogg", "libopus", 48_000), ("t.m4a", "aac", 44_100), ("t.aac", "aac", 44_100)])
def test_a_catalogue_of_music(tmp_path, name, sound, sr):
    y = read_audio(make_file(tmp_path / name, codec=None, sound=sound, sr=sr))
    assert len(y) / SR == pytest.approx(2, abs=0.06) and n_crossings(y[SR // 2:3 * SR // 2]) == pytest.approx(440, abs=1)
    assert reason(tmp_path / name) == "no_frames" and not probe(tmp_path / name).has_video


def test_sound_that_changes_half_way(tmp_path):
    "Two transport streams, one after the other: a broadcast with an advertisement in it."
    forms = [{"layout": "mono", "sr": 48_000}, {"layout": "stereo", "sr": 32_000}]
    parts = [make_file(tmp_path / f"{n}.ts", sound="ac3", **form) for n, form in enumerate(forms)]
    path = tmp_path / "clip.ts"
    path.write_bytes(b"".join(p.read_bytes() for p in parts))
    y = read_audio(path)
    assert len(y) / SR == pytest.approx(4, abs=0.15)
    for second in (y[SR // 2:3 * SR // 2], y[5 * SR // 2:7 * SR // 2]): assert n_crossings(second) == pytest.approx(440, abs=2)


# Streams

def test_without_sound_or_without_pictures(tmp_path):
    assert reason(make_file(tmp_path / "mute.mp4", sound=None)) == "no_audio"
    assert reason(make_file(tmp_path / "song.mp4", codec=None)) == "no_frames"
    assert reason(tmp_path / "mute.mp4", read_audio) == "no_audio" and reason(tmp_path / "song.mp4", read_frames) == "no_frames"


@pytest.mark.parametrize(("n_sounds", "expected"), [(1, None), (15, None), (16, "too_many_streams"), (60, "too_many_streams")])
def test_many_streams(tmp_path, n_sounds, expected):
    assert reason(make_file(tmp_path / "clip.mp4", n_sounds=n_sounds)) == expected


def copied(source, path, *, cover=False, data=False):
    "A copy with a cover picture or a stream of data in front of the others."
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        if cover:
            art = new.add_stream("png", rate=1)
            art.width, art.height, art.pix_fmt, art.disposition = 300, 300, "rgb24", av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(np.full((300, 300, 3), 255, np.uint8), format="rgb24")
        if data: bytes_ = new.add_data_stream("bin_data")
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        packets = [*art.encode(frame), *art.encode()] if cover else []
        if data:
            packets.append(av.Packet(b"position of the camera"))
            packets[-1].stream, packets[-1].pts, packets[-1].dts, packets[-1].time_base = bytes_, 0, 0, Fraction(1, 1000)
        for packet in old.demux():
            if packet.dts is None: continue
            packet.stream = streams[packet.stream.index]
            packets.append(packet)
        for packet in packets: new.mux(packet)
    return path


def test_an_attached_cover_is_no_picture_of_the_clip(tmp_path):
    good, song = make_file(tmp_path / "good.mp4"), make_file(tmp_path / "song.mp4", codec=None)
    check(read_clip(copied(good, tmp_path / "covered.mp4", cover=True)), [0, 5, 10, 15])
    covered = copied(song, tmp_path / "cover.mp4", cover=True)
    assert reason(covered) == "no_frames" and len(read_audio(covered)) / SR == pytest.approx(2, abs=0.06)


def test_streams_of_data_are_passed_over(tmp_path):
    check(read_clip(copied(make_file(tmp_path / "good.mp4"), tmp_path / "data.ts", data=True)), [0, 5, 10, 15])


def test_another_size_half_way(tmp_path):
    parts = [make_file(tmp_path / f"{n}.ts", size=size, times=range(start, start + 1000, 100), y=tone(1, 44_100))
             for n, (size, start) in enumerate([((64, 48), 0), ((128, 96), 1000)])]
    path = tmp_path / "clip.ts"
    path.write_bytes(b"".join(p.read_bytes() for p in parts))
    shapes = [p.shape for p in read_clip(path).pictures]
    assert shapes[0] == (48, 64, 3) and shapes[-1] == (96, 128, 3)
    assert reason(path, limits=Limits(max_pixels=64 * 48)) == "too_many_pixels"


# Bombs

@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited on Linux only")
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_a_huge_picture_costs_nothing(tmp_path, suffix):
    "8192 x 8192 takes 900 MB to decode; the worker may have 200, of which its libraries take 100."
    path = tmp_path / f"bomb.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "threads": "1"})
        stream.width = stream.height = 8192
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame(8192, 8192, "yuv420p")
        for plane in frame.planes: plane.update(bytes(plane.buffer_size))
        frame.pts = 0
        for packet in (*stream.encode(frame), *stream.encode()): container.mux(packet)
    with Workers(1, memory_mb=200) as workers, pytest.raises(MediaError, match="67,108,864 pixels") as caught: workers.run(probe, path)
    assert caught.value.reason == "too_many_pixels"


def test_a_large_file_is_refused_unread(tmp_path):
    path = make_file(tmp_path / "clip.mp4")
    with path.open("ab") as file: file.truncate(600_000_000)   # sparse: takes no room
    assert reason(path) == "too_large"
    assert reason(path, limits=Limits(max_mb=601)) is None


# Files that are something else

GOOD = "good.mp4"   # lies beside each of them
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0\x90wS\xde"
OTHERS = {
    "nothing": b"", "one byte": b"\0", "zeros": bytes(5000), "text": b"not a video " * 500, "html": b"<!DOCTYPE html>\n<html>Sign in</html>",
    "zip": b"PK\3\4" + bytes(100), "pdf": b"%PDF-1.7\n" + bytes(100), "png": PNG, "gif": b"GIF89a" + bytes(50),
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(50), "srt": b"1\n00:00:01,000 --> 00:00:02,000\nhello\n",
    "ffconcat": b"ffconcat version 1.0\nfile good.mp4\n", "ffconcat with a mark": b"\xef\xbb\xbfffconcat version 1.0\nfile good.mp4\n",
    "ffconcat, absolute": b"ffconcat version 1.0\nfile /etc/hostname\n", "hls": b"#EXTM3U\n#EXTINF:2,\ngood.mp4\n#EXT-X-ENDLIST\n",
    "dash": b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "heif": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "noise": bytes(range(128, 256)) * 20 + bytes(range(32))}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_video(tmp_path, kind):
    make_file(tmp_path / GOOD)
    path = tmp_path / "clip.mp4"
    path.write_bytes(OTHERS[kind])
    for read in (read_clip, read_audio, read_frames, probe):
        assert reason(path, read) == "not_media"


def test_no_address_is_followed(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/clip.mp4"
        for name, text in (("a.mp4", f"ffconcat version 1.0\nfile {address}\n"), ("b.mp4", f"#EXTM3U\n#EXTINF:2,\n{address}\n")):
            (tmp_path / name).write_text(text)
            assert reason(tmp_path / name) == "not_media"
        with pytest.raises(BlockingIOError): server.accept()   # nobody waits to be let in


def damaged(path, how):
    "The bytes of a good file, damaged."
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    flipped = bytearray(data)
    for i in rng.integers(len(data) // 2, len(data), 20): flipped[i] ^= 1 << int(rng.integers(8))
    return {"no moov": data[:len(data) // 2], "head only": data[:40], "flipped bits": bytes(flipped), "garbage behind": data + rng.bytes(5000)}[how]


@pytest.mark.parametrize(("how", "expected"), [("no moov", {"broken"}), ("head only", {"broken"}), ("garbage behind", {None}),
                                               ("flipped bits", {None, "broken", "no_frames"})])
def test_damage(tmp_path, how, expected):
    good = make_file(tmp_path / GOOD)   # its table of contents is at the end
    assert good.read_bytes().rfind(b"moov") > good.read_bytes().rfind(b"mdat") and reason(good) is None
    path = tmp_path / "clip.mp4"
    path.write_bytes(damaged(good, how))
    assert reason(path) in expected


def test_links_and_names(tmp_path):
    good = make_file(tmp_path / "Größe 1 – 猫.mp4")
    check(read_clip(good), [0, 5, 10, 15])
    check(read_clip(shutil.copy(good, tmp_path / "clip.mp4.part")), [0, 5, 10, 15])
    check(read_clip(shutil.copy(good, tmp_path / "%03d.jpg")), [0, 5, 10, 15])
    (tmp_path / "link.mp4").symlink_to(good)
    check(read_clip(tmp_path / "link.mp4"), [0, 5, 10, 15])
    (tmp_path / "to_text.mp4").symlink_to(__file__)
    (tmp_path / "to_nothing.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "folder.mp4").mkdir()
    assert [reason(tmp_path / f"{n}.mp4") for n in ("to_text", "to_nothing", "folder")] == ["not_media", "missing", "missing"]


def test_pictures_of_the_generator_tell_their_numbers():
    assert len({level_of(i) for i in range(40)}) == 40 and grey(3, (2, 2)).mean() == level_of(3)
