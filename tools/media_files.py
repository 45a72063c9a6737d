"""Media files of any shape, whose every picture and sample is known: for tests and benchmarks.

Picture number i is grey; its level rises by `STEP` from picture to picture, so the level tells which one it is.
"""
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

STEP = 6   # grey levels between neighbouring pictures
MILLISECOND = Fraction(1, 1000)


def grey(i: int, size: tuple[int, int]) -> np.ndarray:
    "Picture number i, RGB; the levels begin anew after 40 pictures."
    width, height = size
    return np.full((height, width, 3), 10 + STEP * (i % 40), np.uint8)


def tone(seconds: float, sr: int, channels: int = 1, amplitude: float = 0.5) -> np.ndarray:
    "A tone of 440 Hz, alike in all channels, shape (channels, n_samples)."
    wave = amplitude * np.sin(2 * np.pi * 440 * np.arange(round(seconds * sr)) / sr)
    return np.repeat(np.float32(wave)[None], channels, axis=0)


def add_sound(container: av.container.OutputContainer, y: np.ndarray, *, codec: str, sr: int, layout: str) -> Callable[[], Iterable[av.Packet]]:
    "A stream for a sound (channels, n_samples) in a container; the function gives its packets."
    stream = container.add_stream(codec, rate=sr, layout=layout)
    def packets():
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(y, np.float32), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = sr, 0, Fraction(1, sr)
        context = stream.codec_context
        context.open()
        resampler = av.AudioResampler(format=context.format, layout=layout, rate=sr, frame_size=context.frame_size or 1024)
        for piece in (*resampler.resample(frame), *resampler.resample(None), None): yield from stream.encode(piece)
    return packets


def make_file(path: Path, *, codec: str | None = "libx264", times: Sequence[int] = range(0, 2000, 100), size: tuple[int, int] = (64, 48),
              pix_fmt: str = "yuv420p", y: np.ndarray | None = None, sound: str | None = "aac", sr: int = 44_100, layout: str = "mono",
              rotation: int = 0, tick: Fraction = MILLISECOND, options: dict | None = None, muxer: dict | None = None, n_sounds: int = 1) -> Path:
    "A file with pictures at these times (ms), and a tone of the same length, or the sound `y` (channels, n_samples)."
    with av.open(str(path), "w", options=muxer or {}) as container:
        packets = []
        if codec:
            stream = container.add_stream(codec, rate=10, options=({} if codec == "mpeg2video" else {"threads": "1"}) | (options or {}))
            stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
            stream.codec_context.time_base = tick
            if rotation: stream.set_display_rotation(rotation)
        if y is None: y = tone(max(times[-1] - times[0], 0) / 1000 + 0.1, sr, av.AudioLayout(layout).nb_channels)
        sounds = [add_sound(container, y, codec=sound, sr=sr, layout=layout) for _ in range(n_sounds if sound else 0)]
        for i, time in enumerate(times if codec else ()):
            frame = av.VideoFrame.from_ndarray(grey(i, size), format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(Fraction(time, 1000) / tick), tick
            packets += stream.encode(frame)
        if codec: packets += stream.encode()
        for packets_of_sound in sounds: packets += packets_of_sound()
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base): container.mux(packet)
    return path


def level_of(i: int) -> int:
    "The grey level of picture number i."
    return int(grey(i, (1, 1))[0, 0, 0])
