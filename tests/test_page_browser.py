"""The page in a real browser, over the service of the demo workspace."""
import re
import struct
import time
from types import SimpleNamespace

import numpy as np
import pytest

from avmatch.config import load_config, override
from avmatch.media import write_video
from avmatch.serve import create_app, running
from avmatch.workspace import load_manifest

pytestmark = pytest.mark.browser
SHAPES = [pytest.param(1440, "light", id="desktop-light"), pytest.param(390, "dark", id="phone-dark")]


@pytest.fixture(scope="module")
def url(demo):
    with running(create_app(*demo)) as url: yield url


@pytest.fixture(scope="module")
def clip(demo): return demo[1].resolve(load_manifest(demo[1])[0]["video_path"])


@pytest.fixture
def opened(watch, url):
    "The page, opened and ready; `opened(width=390)` is a phone."
    def open_page(**options):
        watched = watch(**options)
        watched.page.goto(url)
        watched.page.get_by_text("up to 100 MB").wait_for()
        return watched
    return open_page


def ask(page, path, top_k=None):
    "Choose a clip, set the slider, press the button, wait for the answers."
    page.set_input_files("#file", path)
    if top_k: page.locator("#top-k").fill(str(top_k))
    page.get_by_role("button", name="Recommend Audio").click()
    page.locator(".card:not(.skeleton)").first.wait_for(timeout=30_000)


def value(page, expression): return page.evaluate(expression)


def wait_for(page, condition):
    "Wait until a condition is met; playwright's own way needs `eval` in the page, which the page forbids."
    until = time.monotonic() + 15
    while not page.evaluate(condition):
        assert time.monotonic() < until, f"not within 15 s: {condition}"
        page.wait_for_timeout(50)


@pytest.mark.parametrize("width, scheme", SHAPES)
def test_from_a_clip_to_sounds(opened, clip, width, scheme):
    watched = opened(width=width, color_scheme=scheme)
    page = watched.page
    assert page.get_by_role("button", name="Recommend Audio").is_disabled()
    assert page.get_by_text("Nothing to hear yet").is_visible()
    ask(page, clip, top_k=3)
    assert page.locator(".card").count() == 3
    assert page.locator(".rank").all_inner_texts() == ["1", "2", "3"]
    scores = [float(text) for text in page.locator(".score").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    assert all(page.locator(".title").all_inner_texts()) and re.search(r"0:\d\d", page.locator(".meta").first.inner_text())
    assert page.get_by_role("status").inner_text().startswith("3 sounds for ")
    wait_for(page, "[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert value(page, "document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert watched.problems == []


def test_a_sound_plays_and_seeks(opened, clip):
    watched = opened()
    page = watched.page
    ask(page, clip)
    sound = "document.querySelectorAll('audio')[1]"
    assert value(page, f"{sound}.preload") == "none"
    page.evaluate(f"{sound}.play()")
    wait_for(page, f"{sound}.currentTime > 0.3 && !{sound}.paused")
    page.evaluate(f"{sound}.currentTime = 4")
    wait_for(page, f"{sound}.currentTime > 4.2 && !{sound}.seeking")
    assert value(page, f"{sound}.currentTime") < 6
    assert watched.problems == []


def test_download_gives_the_wav(opened, clip):
    watched = opened()
    ask(watched.page, clip)
    with watched.page.expect_download() as download: watched.page.locator(".download").first.click()
    data = download.value.path().read_bytes()
    assert download.value.suggested_filename.endswith(".wav") and data[:4] == b"RIFF"
    assert struct.unpack("<I", data[24:28])[0] == 22_050


@pytest.mark.parametrize("width, scheme", SHAPES)
def test_a_sound_plays_with_the_clip(opened, clip, width, scheme):
    watched = opened(width=width, color_scheme=scheme)
    page = watched.page
    ask(page, clip)
    buttons = page.locator(".pair")
    buttons.nth(0).click()
    together = ("!video.paused && video.muted && state.sound && !state.sound.paused"
                " && Math.abs(video.currentTime - state.sound.currentTime) < 0.15")
    wait_for(page, f"{together} && video.currentTime > 1")
    assert buttons.nth(0).get_attribute("aria-pressed") == "true" and buttons.nth(0).inner_text() == "Stop"
    page.evaluate("document.getElementById('results').scrollIntoView({ behavior: 'instant' })")
    place = "fixed" if width < 860 else "relative"  # on a phone the clip follows in a corner
    wait_for(page, f"getComputedStyle(document.getElementById('stage')).position === '{place}'")
    before = value(page, "video.currentTime")
    buttons.nth(1).click()
    wait_for(page, f"{together} && state.sound === document.querySelectorAll('audio')[1] && state.sound.currentTime > {before}")
    assert page.locator(".playing").count() == 1
    assert value(page, "document.querySelectorAll('audio')[0].paused"), "one sound at a time"
    page.evaluate("video.currentTime = 3")
    wait_for(page, f"{together} && state.sound.currentTime > 3.2")
    buttons.nth(1).click()
    wait_for(page, "video.paused && state.sound === null && !video.muted")
    assert value(page, "[...document.querySelectorAll('audio')].every(sound => sound.paused)")
    assert watched.problems == []


def test_it_works_by_keyboard_alone(opened, clip):
    watched = opened()
    page = watched.page
    choosers = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))  # from now on; at the key press is too late
    page.keyboard.press("Tab")  # the link that skips to the results
    page.keyboard.press("Tab")
    assert value(page, "document.activeElement.id") == "file"
    assert value(page, "getComputedStyle(document.getElementById('drop')).outlineStyle") == "solid", "focus is seen"
    page.keyboard.press("Space")
    until = time.monotonic() + 15
    while not choosers and time.monotonic() < until: page.wait_for_timeout(50)
    choosers[0].set_files(clip)
    page.locator("#top-k").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.locator("#top-k-value").inner_text() == "2"
    page.keyboard.press("Enter")  # sends the form
    page.locator(".card:not(.skeleton)").first.wait_for(timeout=30_000)
    assert page.locator(".card").count() == 2
    page.locator(".pair").first.focus()
    page.keyboard.press("Space")
    wait_for(page, "video.currentTime > 0.3 && !state.sound.paused")
    assert watched.problems == []


def test_a_dropped_file_is_chosen(opened):
    watched = opened()
    watched.page.evaluate("""() => {
        const data = new DataTransfer();
        data.items.add(new File(["x"], "dropped.mp4", { type: "video/mp4" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }""")
    assert watched.page.locator("#name").inner_text() == "dropped.mp4"


def test_what_is_no_video_is_told_and_the_next_clip_works(opened, clip, tmp_path):
    watched = opened()
    page = watched.page
    (tmp_path / "text.mp4").write_text("This is not a video.")
    page.set_input_files("#file", tmp_path / "text.mp4")
    page.get_by_text("Your browser cannot show this file").wait_for()
    page.get_by_role("button", name="Recommend Audio").click()
    page.locator(".status.bad").wait_for()
    assert "Your clip: not a video" in page.get_by_role("status").inner_text()
    assert page.locator(".card").count() == 0 and page.get_by_role("button", name="Recommend Audio").is_enabled()
    assert all("415" in problem for problem in watched.problems) and watched.problems  # the browser notes the status
    ask(page, clip, top_k=1)
    assert page.locator(".card").count() == 1 and page.get_by_role("status").inner_text().startswith("1 sound for")


def test_an_empty_and_a_too_large_file_are_not_even_sent(watch, demo, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "large.mp4").write_bytes(bytes(2_000_000))
    with running(create_app(override(demo[0], {"serve": {"max_upload_mb": 1.0}}), demo[1])) as url:
        watched = watch()
        page = watched.page
        page.goto(url)
        page.get_by_text("up to 1 MB").wait_for()
        for name, sentence in {"empty.mp4": "is empty", "large.mp4": "at most 1.0 MB can be sent"}.items():
            page.set_input_files("#file", tmp_path / name)
            assert sentence in page.get_by_role("status").inner_text()
            assert page.get_by_role("button", name="Recommend Audio").is_disabled()
    assert watched.problems == []


def test_a_server_that_is_gone_is_told(watch, demo, clip):
    watched = watch()
    with running(create_app(*demo)) as url:
        watched.page.goto(url)
        watched.page.get_by_text("up to 100 MB").wait_for()
    watched.page.set_input_files("#file", clip)
    watched.page.get_by_role("button", name="Recommend Audio").click()
    watched.page.locator(".status.bad").wait_for()
    assert "cannot be reached" in watched.page.get_by_role("status").inner_text()


def test_a_title_cannot_put_html_into_the_page(watch, tmp_path, clip):
    trick = {"audio_id": "trick", "track_id": "t", "title": "<img src=x onerror=alert(1)>", "duration": None,
             "link": "javascript:alert(1)", "licence": None, "attribution": None, "artist": None,
             "audio_path": "none.wav", "frame_path": "none.jpg"}
    why = {"parts": {"joint": -0.5}, "reason": "<img src=x onerror=alert(2)> — rain"}
    engine = SimpleNamespace(tracks={"trick": SimpleNamespace(**trick)},
                             recommend=lambda path, top_k: [SimpleNamespace(**trick, score=-0.5, **why)])
    with running(create_app(load_config(), engine=engine)) as url:
        watched = watch()
        watched.page.goto(url)
        ask(watched.page, clip)
        assert watched.page.locator(".title").inner_text() == trick["title"]
        assert watched.page.locator(".card a:not(.download)").count() == 0 and watched.page.locator(".card img").count() == 0
        assert watched.page.locator(".score").inner_text() == "-0.50"
        assert watched.page.locator(".why").inner_text() == f"why: {why['reason']}"
    assert watched.problems == []


@pytest.mark.parametrize("width", [1200, 390])
def test_a_card_says_why_and_on_which_terms(watch, clip, width):
    "A reason is shown; where the two sides did not meet it is no why; where there is none, there is no empty line. Below it stand the terms."
    long = "acoustic guitar, concert stage, crowd of people — rock music, electric guitar, singing"
    told = [(long, {"joint": 0.3, "words": 0.2, "rhythm": 0.001, "hub": -0.02}), ("seen: stage; heard: piano", {}), ("", {})]
    terms = {"link": "https://example.org/song", "licence": "CC BY-SA 4.0", "artist": "Ann",
             "attribution": "Ann and the very long list of all who played along"}
    found = [SimpleNamespace(audio_id=str(i), track_id=str(i), title=f"Song {i}", score=0.5 - i / 10, reason=reason, parts=parts, **terms)
             for i, (reason, parts) in enumerate(told)]
    with running(create_app(load_config(), engine=SimpleNamespace(tracks={}, recommend=lambda path, top_k: found))) as url:
        watched = watch(width=width)
        page = watched.page
        page.goto(url)
        ask(page, clip)
        lines = page.locator(".why")
        assert lines.nth(0).inner_text() == f"why: {long}" and lines.nth(1).inner_text() == "seen: stage; heard: piano"
        assert [lines.nth(i).is_visible() for i in range(3)] == [True, True, False]
        assert page.locator(".score").nth(0).get_attribute("title").splitlines()[1:] == ["learned +0.30", "words +0.20", "too common −0.02"]
        assert value(page, "document.documentElement.scrollWidth") <= width, "nothing sticks out"
        assert page.locator(".meta").nth(0).inner_text().split("\n") == [terms["attribution"], terms["licence"], "Source"]
        assert page.locator(".meta a").nth(0).get_attribute("href") == terms["link"]
        boxes = value(page, """['.head', '.bar', '.why', '.meta', '.controls'].map(name => {
            const { top, bottom } = document.querySelector(name).getBoundingClientRect();
            return [top, bottom];
        })""")  # all at the same moment: on a phone the page is still scrolling
        assert all(bottom <= top + 1 for (_, bottom), (top, _) in zip(boxes, boxes[1:])), "nothing overlaps"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(opened, clip, scheme):
    "Contrast of all text that is shown, after WCAG 2.1: at least 4.5 to 1, and 3 to 1 where it is large."
    page = opened(color_scheme=scheme).page
    ask(page, clip)
    page.wait_for_timeout(600)  # the cards have faded in
    low = page.evaluate("""() => {
        const parse = c => { const [r, g, b, a = 1] = c.match(/[\\d.]+/g).map(Number); return { rgb: [r, g, b], a }; };
        const light = rgb => rgb.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const ground = node => {
            const colour = parse(getComputedStyle(node).backgroundColor);
            return colour.a > 0.85 ? colour.rgb : node.parentElement ? ground(node.parentElement) : [255, 255, 255];
        };
        return [...document.querySelectorAll("body *")].filter(node => node.checkVisibility() && !node.closest(".hidden, .skip, :disabled")
            && [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())).map(node => {
                const style = getComputedStyle(node), [a, b] = [light(parse(style.color).rgb), light(ground(node))].sort((x, y) => y - x);
                const least = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
                return { text: node.textContent.trim().slice(0, 40), ratio: (a + 0.05) / (b + 0.05), least };
            }).filter(found => found.ratio < found.least);
    }""")
    assert low == []


def test_a_landscape_clip_fits_its_frame(opened, tmp_path):
    write_video(tmp_path / "wide.mp4", [np.full((90, 160, 3), 20 * i, np.uint8) for i in range(10)], frame_rate=10)
    page = opened(width=390).page
    page.set_input_files("#file", tmp_path / "wide.mp4")
    wait_for(page, "video.videoWidth === 160")
    stage, video = page.locator("#stage").bounding_box(), page.locator("#video").bounding_box()
    assert video == stage
