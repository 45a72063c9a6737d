"""The page over a service with a pretended engine: real sounds and a real service, answers of which everything is known."""
import json
import time
from dataclasses import asdict

import numpy as np
import pytest
from serving import Pretended, make_app

from avmatch.answers import Similar
from avmatch.media import write_video, write_wav
from avmatch.recommend import Recommendation, Soundtrack
from avmatch.serve import running

SR, SECONDS = 8_000, 12
RAIN = "<b>Rain</b> on a roof"
CC_BY = "CC BY 4.0"


def wave(hertz: float) -> np.ndarray:
    "A tone that swells three times in twelve seconds."
    time = np.arange(SECONDS * SR) / SR
    return 0.3 * np.sin(2 * np.pi * hertz * time) * (0.15 + np.abs(np.sin(np.pi * time / 4)))


class PageEngine(Pretended):
    "Three sounds: one with a free licence, one whose licence is unknown, one that must be credited."
    good = True

    def __init__(self, folder):
        super().__init__(folder)
        about = {"rain": (RAIN, "CC0-1.0", None, None), "stürm/1 ?": ("Storm", None, None, "Bea"), "surf": ("Surf", CC_BY, "Ann of the sea", "Ann")}
        for i, (audio_id, (title, licence, attribution, artist)) in enumerate(about.items()):
            write_wav(folder / f"{i}.wav", wave(220 * (i + 1)), sr=SR)
            self.tracks[audio_id] = Soundtrack(audio_id, audio_id, title, SECONDS, "https://example.org/song", licence, str(folder / f"{i}.wav"),
                                               "none.jpg", attribution, artist)

    def recommend(self, features, top_k=5):
        why = {"parts": {"joint": 0.3, "words": 0.2, "rhythm": 0.001, "hub": -0.02}, "reason": "umbrella — rain", "good": self.good,
               "evidence": [Similar("surf", picture=0.9, sound=0.8)]}
        return [Recommendation(**asdict(t), score=0.8 - i / 10, **why) for i, t in enumerate(self.tracks.values())][:top_k]


def answers(sounds) -> list[dict]:
    "What the service answers when it knows all: moments, tags, tempo, evidence."
    moments = [{"start": 5.0, "length": 4.0, "loop": None, "score": 0.7}, {"start": 1.0, "length": 4.0, "loop": [0.5, 2.5], "score": 0.4},
               {"start": 8.0, "length": 4.0, "loop": None, "score": 0.1}]
    more = {"duration": float(SECONDS), "tempo": 92.4, "voice": "instrumental", "tags": ["calm", "ambient"], "source": "music", "good": True,
            "picture_url": None, "evidence": [{"video_id": "v1", "title": "A walk in the rain", "picture_url": None}]}
    fields = ("audio_id", "track_id", "title", "link", "licence", "attribution", "artist", "score", "reason", "parts")
    return [{name: getattr(found, name) for name in fields} | more | {"moment": moment} for found, moment in zip(sounds.recommend(None), moments)]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory): return PageEngine(tmp_path_factory.mktemp("sounds"))


@pytest.fixture(scope="module")
def page_url(sounds):
    with running(make_app(sounds)) as url: yield url


@pytest.fixture(scope="session")
def film(tmp_path_factory):
    "Four seconds of a clip with a sound of its own."
    path = tmp_path_factory.mktemp("clip") / "my clip.mp4"
    shade = np.linspace(40, 200, 160)[:, None, None] * np.ones((1, 90, 1))
    images = [np.clip(shade * np.array([0.5 + i / 80, 0.7, 1.1 - i / 80]), 0, 255).astype(np.uint8) for i in range(40)]
    write_video(path, images, wave(330)[:4 * SR], frame_rate=10, sr=SR)
    return path


@pytest.fixture
def opened(watch, page_url):
    "The page, opened and ready; `opened(width=390)` is a phone. With `answer` the service seems to answer that."
    def open_page(answer=None, status=200, headers=None, **options):
        watched = watch(**options)
        if answer is not None: watched.asked = script(watched.page, answer, status, headers)
        watched.page.goto(page_url)
        watched.page.get_by_text("up to 1\u00a0MB").wait_for()
        return watched
    return open_page


def script(page, answer, status=200, headers=None) -> list:
    "Answer /recommend with this; gives the list of requests that come."
    asked = []

    def handle(route):
        asked.append(route.request)
        route.fulfill(status=status, headers={"Content-Type": "application/json"} | (headers or {}), body=json.dumps(answer))
    page.route("**/recommend?*", handle)
    return asked


def ask(page, path, top_k=None):
    "Choose a clip, set the slider, press the button, wait for the answers."
    page.set_input_files("#file", path)
    wait_for(page, "video.readyState >= 2")
    if top_k: page.locator("#top-k").fill(str(top_k))
    page.get_by_role("button", name="Recommend Audio").click()
    page.locator(".card:not(.skeleton)").first.wait_for(timeout=60_000)


def value(page, expression): return page.evaluate(expression)


def wait_for(page, condition):
    "Wait until a condition is met; playwright's own way needs `eval` in the page, which the page forbids."
    until = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < until, f"not within 30 s: {condition}"
        page.wait_for_timeout(50)
