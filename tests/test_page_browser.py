"""The page in a real browser: from a clip to its video with a new sound. The service and the sounds are real, the engine is pretended."""
import csv
import io
import json
import re
import statistics
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from pages import CC_BY, RAIN, answers, ask, value, wait_for

from avmatch.media import probe

pytestmark = pytest.mark.browser
SHAPES = [pytest.param(1440, "light", id="desktop-light"), pytest.param(390, "dark", id="phone-dark")]
SOUNDS = "document.querySelectorAll('audio')"


@pytest.fixture
def answered(opened, sounds, film):
    "The page with three answers of which all is known."
    def open_page(**options):
        watched = opened(answers(sounds), **options)
        ask(watched.page, film)
        return watched
    return open_page


def differences(page, sound: int, expected: str) -> list[float]:
    "How far a sound is from where it should be, by the clocks of both elements, over two seconds once both run; in seconds."
    wait_for(page, f"!video.paused && !{SOUNDS}[{sound}].paused")
    page.wait_for_timeout(1500)
    measure = f"(() => {{ const t = video.currentTime, place = {expected}; return Math.abs({SOUNDS}[{sound}].currentTime - place); }})()"
    found = []
    for _ in range(40):
        page.wait_for_timeout(50)
        found.append(value(page, measure))
    return found


def saved(page, button) -> tuple[str, bytes]:
    "Press a button that gives a file; its name and its content."
    with page.expect_download(timeout=60_000) as download: button.click()
    return download.value.suggested_filename, download.value.path().read_bytes()


@pytest.mark.parametrize("width, scheme", SHAPES)
def test_from_a_clip_to_sounds(opened, film, width, scheme):
    "Over the service as it is, which tells no moments yet: all begin at 0."
    watched = opened(width=width, color_scheme=scheme)
    page = watched.page
    assert page.get_by_role("button", name="Recommend Audio").is_disabled() and page.get_by_text("Nothing to hear yet").is_visible()
    ask(page, film, top_k=2)
    assert page.locator(".rank").all_inner_texts() == ["1", "2"]
    assert page.locator(".score").all_inner_texts() == ["fit 0.80", "fit 0.70"]
    assert page.locator(".title").all_inner_texts() == [RAIN, "Storm"] and page.locator(".card b").count() == 0
    assert page.get_by_role("status").first.inner_text() == "2 sounds for my clip.mp4, the best first"
    assert page.locator(".wave").first.get_attribute("aria-valuetext").startswith("From 0:00.0")
    wait_for(page, "document.querySelectorAll('.wave svg').length > 0")
    assert value(page, "document.documentElement.scrollWidth") <= width, "nothing sticks out"
    assert watched.problems == []


@pytest.mark.parametrize("width, scheme", SHAPES)
def test_sounds_play_in_step_from_their_moment_and_flip_by_key(answered, width, scheme):
    watched = answered(width=width, color_scheme=scheme)
    page = watched.page
    page.keyboard.press("1")
    page.keyboard.press("Space")
    assert statistics.median(differences(page, 0, "5 + t")) < 0.08
    assert value(page, "video.muted") and page.locator(".now").inner_text() == f"1 · {RAIN}"
    page.keyboard.press("2")                                            # repeats from 0.5 s on once it is at 2.5 s
    wait_for(page, f"{SOUNDS}[0].paused && !{SOUNDS}[1].paused && !video.paused")
    assert statistics.median(differences(page, 1, "(1 + t < 2.5 ? 1 + t : 0.5 + (0.5 + t) % 2)")) < 0.08
    wait_for(page, "document.querySelectorAll('.card')[1].getBoundingClientRect().top >= 0")
    page.keyboard.press("0")
    wait_for(page, f"!video.paused && !video.muted && video.volume === 1 && [...{SOUNDS}].every(sound => sound.paused)")
    assert page.get_by_role("button", name="Original sound").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Space")
    wait_for(page, "video.paused")
    assert watched.problems == []


def test_a_jump_in_the_clip_is_followed(answered):
    page = answered().page
    page.locator(".pair").first.click()
    wait_for(page, f"!{SOUNDS}[0].paused")
    page.locator("#position").fill("3")
    assert statistics.median(differences(page, 0, "5 + t")) < 0.08
    page.locator(".pair").first.click()
    wait_for(page, f"video.paused && {SOUNDS}[0].paused")
    assert page.locator(".pair").first.inner_text() == "Play with the clip"


def test_a_flip_that_is_overtaken_plays_one_sound_only(answered):
    page = answered().page
    page.keyboard.press("1")
    page.keyboard.press("Space")
    for key in "2312130123": page.keyboard.press(key)
    wait_for(page, f"!{SOUNDS}[2].paused && [...{SOUNDS}].filter(sound => !sound.paused).length === 1")
    assert page.locator(".playing .title").all_inner_texts() == ["Surf"]


def test_the_balance_goes_from_the_original_to_the_music(answered):
    page = answered().page
    page.keyboard.press("1")
    slider = page.locator("#balance")
    loudness = f"[video.muted, video.volume, {SOUNDS}[0].volume].map(Number)"
    assert value(page, loudness) == [1, 0, 1]
    slider.fill("50")
    muted, own, music = value(page, loudness)
    assert not muted and own == music == pytest.approx(0.707)
    slider.fill("0")
    assert value(page, loudness) == [0, 1, 0] and slider.get_attribute("aria-valuetext") == "original only"


def test_fades_are_heard_as_they_will_be_rendered(answered):
    page = answered().page
    page.keyboard.press("1")
    page.locator("#fade-in").fill("2")
    page.locator("#fade-out").fill("1")
    assert page.locator("#fade-in").get_attribute("aria-valuetext") == "2 seconds"
    page.keyboard.press("Space")
    until, heard = time.monotonic() + 30, {}
    while len(heard) < 30 and time.monotonic() < until:                 # four seconds of a clip that begins again and again
        page.wait_for_timeout(80)
        at, volume = value(page, f"[video.currentTime, {SOUNDS}[0].volume]")
        heard[round(at, 1)] = (at, volume)
    for at, volume in heard.values(): assert volume == pytest.approx(min(1, at / 2) * min(1, 4 - at), abs=0.06), at
    page.locator("#fade-in").fill("0")
    assert page.locator("#fade-in-value").inner_text() == "off"


def test_the_moment_is_dragged_and_moved_by_keys(answered):
    page = answered().page
    wave = page.locator(".wave").first
    assert wave.get_attribute("aria-valuenow") == "5.00" and wave.get_attribute("aria-valuetext") == "From 0:05.0 of 0:12"
    wait_for(page, "document.querySelector('.wave svg')")
    box, held = wave.bounding_box(), page.locator(".range").first.bounding_box()
    assert held["x"] - box["x"] == pytest.approx(box["width"] * 5 / 12, abs=2) and held["width"] == pytest.approx(box["width"] / 3, abs=2)
    page.mouse.move(held["x"] + 20, held["y"] + 20)
    page.mouse.down()
    page.mouse.move(held["x"] + 20 - box["width"] * 2 / 12, held["y"] + 20, steps=4)
    page.mouse.up()
    assert float(wave.get_attribute("aria-valuenow")) == pytest.approx(3, abs=0.03)
    page.get_by_role("button", name="Back to the best moment").first.click()
    wave.focus()
    for key, start in (("ArrowRight", 5.1), ("Shift+ArrowLeft", 4.1), ("PageDown", 0), ("End", 8), ("Home", 0), ("PageUp", 5)):
        page.keyboard.press(key)
        assert float(wave.get_attribute("aria-valuenow")) == pytest.approx(start), key
    page.keyboard.press("1")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")
    assert statistics.median(differences(page, 0, "4.9 + t")) < 0.08


def test_the_video_is_rendered_as_it_was_heard(answered, tmp_path):
    watched = answered()
    page, sent = watched.page, []
    page.on("request", lambda request: "/render?" in request.url and sent.append(parse_qs(urlsplit(request.url).query)))
    page.locator("#balance").fill("50")
    page.locator("#fade-in").fill("1")
    name, video = saved(page, page.get_by_role("button", name="Video: download with Storm"))
    assert sent == [{"audio_id": ["stürm/1 ?"], "offset": ["1.000"], "own_gain": ["0.707"], "music_gain": ["0.707"],
                     "fade_in": ["1"], "fade_out": ["0.5"], "loop_start": ["0.5"], "loop_end": ["2.5"]}]
    (tmp_path / "got.mp4").write_bytes(video)
    found = probe(tmp_path / "got.mp4")
    assert name == "my clip - Storm.mp4" and found.has_video and found.has_audio and found.duration == pytest.approx(4, abs=0.1)
    page.get_by_text("The video is in your downloads").wait_for()
    assert watched.problems == []


def test_a_sound_is_offered_where_its_licence_allows(answered):
    page = answered().page
    name, sound = saved(page, page.locator(".sound").nth(0))
    assert name.endswith(".wav") and sound[:4] == b"RIFF"
    closed = page.locator(".sound").nth(1)
    reason = page.locator(f"#{closed.get_attribute('aria-describedby')}").text_content()
    assert closed.get_attribute("aria-disabled") == "true" and "licence is not known" in reason
    closed.dispatch_event("click")
    assert "licence is not known" in page.locator(".message").nth(1).inner_text()
    assert page.locator(".badge").all_inner_texts() == ["CC0-1.0", "licence unknown", CC_BY]
    assert "if you name Ann of the sea" in page.locator(".terms").nth(2).text_content()


def test_results_come_as_a_table_and_as_data(opened, sounds, film):
    found = answers(sounds)
    found[0]["title"] = '=HYPERLINK("x"), a trick'
    page = opened(found).page
    ask(page, film)
    name, table = saved(page, page.locator("#save-csv"))
    rows = list(csv.DictReader(io.StringIO(table.decode("utf-8-sig"))))
    assert name == "avmatch-my clip.csv" and [row["audio_id"] for row in rows] == ["rain", "stürm/1 ?", "surf"]
    assert rows[0]["title"] == '\'=HYPERLINK("x"), a trick' and (rows[0]["start"], rows[1]["loop"], rows[2]["licence"]) == ("5", "0.5; 2.5", CC_BY)
    data = json.loads(saved(page, page.locator("#save-json"))[1])
    assert data["sounds"][0]["clip"] == rows[0]["clip"] == "my clip.mp4"
    assert data["sounds"][0]["tags"] == ["calm", "ambient"] and data["sounds"][1]["loop"] == [0.5, 2.5]


def test_what_is_kept_stays_when_another_clip_comes(answered, film):
    page = answered().page
    page.keyboard.press("2")
    page.keyboard.press("s")
    assert page.locator(".keep").nth(1).get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name=f"Keep: {RAIN}").click()
    assert page.locator("#kept strong").all_inner_texts() == ["Storm", RAIN]
    other = film.with_name("another clip.mp4")
    other.write_bytes(film.read_bytes())
    ask(page, other)
    page.get_by_role("button", name="Keep: Surf").click()
    assert page.locator("#kept strong").all_inner_texts() == ["Storm", RAIN, "Surf"]
    page.get_by_role("button", name="Remove Storm").click()
    kept = json.loads(saved(page, page.locator("#kept-json"))[1])["sounds"]
    assert [(sound["title"], sound["clip"]) for sound in kept] == [(RAIN, "my clip.mp4"), ("Surf", "another clip.mp4")]


def test_filters_become_parameters(opened, sounds, film):
    watched = opened(answers(sounds))
    page = watched.page
    page.locator("#filters summary").click()
    page.get_by_text(CC_BY, exact=True).click()
    page.get_by_label("Shortest duration").fill("10")
    page.get_by_label("Fastest tempo").fill("120")
    page.get_by_label("Voice").select_option("instrumental")
    page.get_by_label("No sound twice").uncheck()
    assert page.locator("#filter-count").inner_text() == "5"
    ask(page, film, top_k=3)
    sent = parse_qs(urlsplit(watched.asked[0].url).query)
    assert sent == {"top_k": ["3"], "details": ["true"], "min_duration": ["10"], "max_tempo": ["120"], "voice": ["instrumental"],
                    "licence": [CC_BY], "diverse": ["false"]}
    page.get_by_label("Longest duration").fill("5")
    page.get_by_role("button", name="Recommend Audio").click()
    assert "10 is more than 5" in page.locator(".status.bad").inner_text() and len(watched.asked) == 1


def test_it_works_by_keyboard_alone(opened, sounds, film):
    watched = opened(answers(sounds))
    page, choosers = watched.page, []
    page.on("filechooser", lambda chooser: choosers.append(chooser))  # from now on; at the key press is too late
    page.keyboard.press("Tab")                                        # the link that skips to the results
    page.keyboard.press("Tab")
    assert value(page, "document.activeElement.id") == "file"
    assert value(page, "getComputedStyle(document.getElementById('drop')).outlineStyle") == "solid", "focus is seen"
    page.keyboard.press("Space")
    until = time.monotonic() + 15
    while not choosers and time.monotonic() < until: page.wait_for_timeout(50)
    choosers[0].set_files(film)
    wait_for(page, "video.readyState >= 2")
    tab_to(page, "#top-k")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")                                      # sends the form
    page.locator(".card:not(.skeleton)").first.wait_for(timeout=30_000)
    assert "top_k=2&" in watched.asked[0].url
    tab_to(page, ".wave")
    page.keyboard.press("ArrowRight")
    tab_to(page, ".pair")
    page.keyboard.press("Space")
    wait_for(page, f"video.currentTime > 0.3 && !{SOUNDS}[0].paused")
    tab_to(page, "#keys")
    page.keyboard.press("Space")                                      # single keys off
    page.keyboard.press("2")
    assert page.locator(".now").inner_text().startswith("1 · ")
    tab_to(page, ".action.video")
    name, _ = saved(page, KeyPress(page, "Enter"))
    assert re.fullmatch(r"my clip - .*\.mp4", name) and watched.problems == []


class KeyPress:
    "A key where a button is expected."
    def __init__(self, page, key): self.click = lambda: page.keyboard.press(key)


def tab_to(page, selector):
    "Press Tab until the focus is there, which must happen."
    for _ in range(80):
        page.keyboard.press("Tab")
        if value(page, f"document.activeElement.matches('{selector}')"): return
    raise AssertionError(f"{selector} is not reached by Tab")
