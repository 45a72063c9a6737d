"""What the page shows when there is nothing, when it waits and when something fails; and whether everyone can read and use it."""
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from pages import answers, ask, script, value, wait_for
from serving import make_app

import avmatch
from avmatch.media import write_video
from avmatch.serve import running

pytestmark = pytest.mark.browser
BUSY = {"reason": "busy", "detail": "too many clips at the moment"}


def press(page, path):
    "Choose a clip and press the button."
    page.set_input_files("#file", path)
    page.get_by_role("button", name="Recommend Audio").click()


def told(page) -> str:
    "The sentence of an error."
    page.locator(".status.bad").wait_for()
    return page.locator("#status").inner_text()


# ---- nothing yet, nothing found, nothing good

def test_while_it_waits_there_are_empty_cards_and_the_button_is_busy(opened, sounds, film):
    page = opened().page
    arrived = threading.Event()
    waiting = []
    page.route("**/recommend?*", lambda route: (waiting.append(route), arrived.set()))
    page.set_input_files("#file", film)
    page.locator("#top-k").fill("2")
    page.get_by_role("button", name="Recommend Audio").click()
    wait_for(page, "document.querySelectorAll('.skeleton').length === 2")
    go = page.locator("#go")
    assert go.get_attribute("aria-busy") == "true" and go.is_disabled() and "Looking for sounds" in page.locator("#status").inner_text()
    page.set_input_files("#file", film)        # another clip ends the question
    wait_for(page, "!document.querySelector('.skeleton') && !document.getElementById('go').disabled")
    assert arrived.is_set() and page.locator("#status").inner_text() == ""


def test_an_empty_library_and_too_narrow_filters_are_two_things(opened, film):
    watched = opened([])
    page = watched.page
    press(page, film)
    page.get_by_text("The library has no sounds yet").wait_for()
    page.locator("#filters summary").click()
    page.get_by_label("Shortest duration").fill("9999")
    page.get_by_role("button", name="Recommend Audio").click()
    page.get_by_text("No sound of the library passes these filters").wait_for()
    page.get_by_role("button", name="Clear the filters and ask again").click()
    page.get_by_text("The library has no sounds yet").wait_for()
    assert ["min_duration" in request.url for request in watched.asked] == [False, True, False] and watched.problems == []


def test_no_good_match_is_said_and_the_nearest_are_shown(opened, sounds, film, monkeypatch):
    "As the service itself says it."
    monkeypatch.setattr(sounds, "good", False)
    watched = opened()
    ask(watched.page, film)
    assert "No sound of the library fits this clip well" in watched.page.locator("#status").inner_text()
    assert watched.page.locator(".card").count() == watched.page.get_by_text("weak match").count() == 3


def test_answers_are_shown_with_the_videos_that_speak_for_them_and_nothing_more_is_asked_for(opened, film):
    watched, asked = opened(), []
    watched.page.on("request", lambda request: asked.append(request.url))
    ask(watched.page, film)
    card = watched.page.locator(".card").first
    card.locator(".more summary").click()
    assert card.locator(".evidence li").all_inner_texts() == ["Surf"] and "weak match" not in watched.page.locator("#cards").inner_text()
    assert not any("/tracks" in url for url in asked) and watched.problems == []


# ---- errors

@pytest.mark.parametrize("status, problem, headers, sentence, can_retry", [
    (503, BUSY, {"Retry-After": "7"}, "Too many clips at the moment.", "Try again in 7 seconds"),
    (429, {"reason": "too_often", "detail": "Too many in a short time."}, {"Retry-After": "1"}, "Too many in a short time.", "Try again in 1 second"),
    (422, {"reason": "no_frames", "detail": "Your clip: no picture can be read"}, {}, "Your clip: no picture can be read.", None),
    (413, {"reason": "too_large", "detail": "Larger than the 1 MB that are read"}, {}, "Larger than the 1 MB that are read.", None),
    (500, "Internal", {}, "The server answered with an error (500). Its log says more.", "Try again"),
    (200, {"not": "a list"}, {}, "The server answered with something that is no list of sounds. Is it another version?", None),
])
def test_errors_are_sentences_with_a_way_out(opened, sounds, film, status, problem, headers, sentence, can_retry):
    page = opened(problem, status, headers).page
    press(page, film)
    assert sentence in told(page) and page.locator(".card").count() == 0
    assert page.locator("#status button").all_inner_texts() == ([can_retry] if can_retry else [])
    if can_retry:
        page.unroute("**/recommend?*")
        script(page, answers(sounds))
        page.locator("#status button").click()
        page.locator(".card:not(.skeleton)").first.wait_for()
        assert page.locator(".status.bad").count() == 0


def test_what_is_no_video_is_told_and_the_next_clip_works(opened, film, tmp_path):
    watched = opened()
    (tmp_path / "text.mp4").write_text("This is not a video.")
    watched.page.set_input_files("#file", tmp_path / "text.mp4")
    watched.page.get_by_text("Your browser cannot show this file").wait_for()
    watched.page.get_by_role("button", name="Recommend Audio").click()
    assert "Your clip: not a video" in told(watched.page)
    assert all("415" in problem for problem in watched.problems) and watched.problems  # the browser notes the status
    ask(watched.page, film, top_k=1)
    assert watched.page.locator("#status").inner_text().startswith("1 sound for")


def test_an_empty_and_a_too_large_file_are_not_even_sent(opened, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "large.mp4").write_bytes(bytes(2_000_000))
    watched = opened()
    for name, sentence in {"empty.mp4": "is empty", "large.mp4": "at most 1.0 MB can be sent"}.items():
        watched.page.set_input_files("#file", tmp_path / name)
        assert sentence in told(watched.page) and watched.page.get_by_role("button", name="Recommend Audio").is_disabled()
    assert watched.problems == []


def test_a_clip_that_is_too_long_is_not_even_sent(watch, sounds, film):
    "How long is too long is told before, and the browser knows how long the clip is: four seconds."
    with running(make_app(sounds, max_seconds=3.0)) as url:
        watched = watch()
        page = watched.page
        page.goto(url)
        page.get_by_text("up to 1\u00a0MB and 3 seconds").wait_for()
        page.set_input_files("#file", film)
        assert "my clip.mp4 lasts 0:04; at most 3 seconds are read." in told(page)
        assert page.get_by_role("button", name="Recommend Audio").is_disabled() and watched.problems == []


def test_a_server_that_is_gone_is_told(watch, sounds, film):
    watched = watch()
    with running(make_app(sounds)) as url:
        watched.page.goto(url)
        watched.page.get_by_text("up to 1\u00a0MB").wait_for()
    press(watched.page, film)
    assert "cannot be reached" in told(watched.page) and watched.page.get_by_role("button", name="Try again").is_visible()


def test_a_page_without_its_server_says_so(watch, page_url):
    watched = watch()
    watched.page.route("**/settings", lambda route: route.abort())
    watched.page.goto(page_url)
    assert "cannot be reached" in told(watched.page)
    watched.page.unroute("**/settings")
    watched.page.get_by_role("button", name="Try again").click()
    watched.page.get_by_text("up to 1\u00a0MB").wait_for()
    assert watched.page.locator("#status").inner_text() == ""


def test_a_sound_that_is_gone_does_not_play_and_has_no_outline(opened, sounds, film):
    page = opened([answers(sounds)[0] | {"audio_id": "gone"}]).page
    ask(page, film)
    page.get_by_text("No outline for this sound").wait_for()
    page.locator(".pair").click()
    assert "This sound cannot be played" in told(page) and value(page, "video.paused")


def test_a_video_that_is_not_rendered_says_why_in_its_card(opened, sounds, film):
    page = opened(answers(sounds)).page
    ask(page, film)
    page.route("**/render?*", lambda route: route.fulfill(status=503, json=BUSY))
    page.locator(".action.video").first.click()
    page.locator(".message.bad").wait_for()
    assert page.locator(".message").first.inner_text() == "Too many clips at the moment."
    assert page.locator(".action.video span").first.inner_text() == "Video"
    page.unroute("**/render?*")
    page.route("**/render?*", lambda route: None)
    page.locator(".action.video").first.click()
    page.get_by_text("Stop", exact=True).click()
    page.get_by_text("Stopped.").wait_for()


# ---- a token

TOKEN = "0123456789abcdef"


@pytest.fixture
def closed_url(sounds, monkeypatch):
    monkeypatch.setenv("AVMATCH_TOKEN", TOKEN)
    with running(make_app(sounds)) as url: yield url


def test_a_token_is_asked_for_once_and_opens_everything(watch, closed_url, film):
    watched = watch()
    page = watched.page
    page.goto(closed_url)
    for given, answer in (("with a space", "no spaces"), ("wrong", "not the right token")):
        page.get_by_label("Token", exact=True).fill(given)
        page.keyboard.press("Enter")
        page.get_by_text(answer).wait_for()
    page.get_by_label("Token", exact=True).fill(TOKEN)
    page.route("**/session", lambda route: route.fulfill(status=429, json={"reason": "too_often", "detail": "Too many in a short time"}), times=1)
    page.get_by_role("button", name="Open").click()
    page.get_by_text("Too many in a short time.").wait_for()
    page.get_by_role("button", name="Open").click()
    page.get_by_text("up to 1\u00a0MB").wait_for()
    ask(page, film, top_k=2)                                             # uploads, outlines, sounds and videos, all without a header
    wait_for(page, "document.querySelectorAll('.wave svg').length === 2")
    page.locator(".pair").first.click()
    wait_for(page, "!document.querySelector('audio').paused && document.querySelector('audio').currentTime > 0.3")
    with page.expect_download() as download: page.locator(".action.video").first.click()
    assert download.value.path().stat().st_size > 1_000
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"]) == (True, "Strict", -1) and TOKEN not in cookie["value"]
    assert value(page, "document.cookie + sessionStorage.length + localStorage.length") == "00"
    page.reload()                                                        # it is not asked for again
    page.get_by_text("up to 1\u00a0MB").wait_for()
    assert not page.locator("#door").is_visible() and all("401" in problem or "429" in problem for problem in watched.problems), watched.problems


def test_who_has_no_token_can_come_back_to_it(watch, closed_url):
    page = watch(width=390).page
    page.goto(closed_url)
    page.get_by_role("button", name="Not now").click()
    assert "This service asks for a token." in told(page)
    page.get_by_role("button", name="Try again").click()
    wait_for(page, "document.activeElement.id === 'token'")
    page.keyboard.press("Escape")
    assert "This service asks for a token." in told(page)


# ---- what strangers write

def test_no_file_of_the_page_names_another_server():
    for path in (Path(avmatch.__file__).parent / "ui").iterdir():
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"https?://(?!www\.w3\.org).*|[\"'(]//.*", text) == [] and text.count("\n") < 400, path


def test_a_title_cannot_put_html_into_the_page(opened, sounds, film):
    trick = "<img src=x onerror=alert(1)>"
    written = dict.fromkeys(("title", "artist", "reason", "licence", "attribution"), trick)
    fields = written | {"link": "javascript:alert(1)", "tags": [trick],
              "evidence": [{"video_id": "v", "title": trick, "picture_url": "https://example.org/x.jpg"}]}
    watched = opened([answers(sounds)[0] | fields])
    page = watched.page
    ask(page, film)
    page.locator(".more summary").click()
    assert page.locator(".title").inner_text() == page.locator(".tag").inner_text() == trick
    assert page.locator(".card a[href^=javascript]").count() == 0 and page.locator(".card img[src=x]").count() == 0
    assert not any("outside" in problem for problem in watched.problems)


def test_long_words_stay_inside(opened, sounds, film):
    long = "Donaudampfschifffahrtsgesellschaftskapitän" * 4
    written = dict.fromkeys(("title", "artist", "reason", "licence", "attribution"), long)
    page = opened([answers(sounds)[0] | written | {"tags": [long]}], width=390).page
    ask(page, film)
    page.locator(".more summary").click()
    assert value(page, "document.documentElement.scrollWidth") <= 390


# ---- for everyone

def test_a_dropped_file_is_chosen(opened):
    page = opened().page
    page.evaluate("""() => {
        const data = new DataTransfer();
        data.items.add(new File(["x"], "dropped.mp4", { type: "video/mp4" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }""")
    assert page.locator("#name").inner_text() == "dropped.mp4"


def test_a_clip_that_cannot_be_shown_still_hears_its_sounds(opened, sounds, tmp_path):
    (tmp_path / "odd.mkv").write_bytes(b"\x1aE\xdf\xa3" + bytes(100))
    page = opened(answers(sounds)).page
    press(page, tmp_path / "odd.mkv")
    page.locator(".pair").first.click()
    wait_for(page, "document.querySelectorAll('audio')[0].currentTime > 5.3")
    assert page.locator("#position").is_disabled() and not page.locator("#mix").is_visible()


def test_a_landscape_clip_fits_its_frame(opened, tmp_path):
    write_video(tmp_path / "wide.mp4", [np.full((90, 160, 3), 20 * i, np.uint8) for i in range(10)], frame_rate=10)
    page = opened(width=390).page
    page.set_input_files("#file", tmp_path / "wide.mp4")
    wait_for(page, "video.videoWidth === 160")
    assert page.locator("#video").bounding_box() == page.locator(".stage").bounding_box()


def test_on_a_phone_the_player_stays_in_sight(opened, sounds, film):
    page = opened(answers(sounds), width=390, height=844, has_touch=True).page
    ask(page, film)
    page.locator(".card").nth(2).scroll_into_view_if_needed()
    wait_for(page, "document.getElementById('deck').classList.contains('floating')")
    page.get_by_role("button", name="2: Storm").tap()
    page.get_by_role("group", name="Player").get_by_role("button", name="Play", exact=True).tap()
    wait_for(page, "!video.paused && !document.querySelectorAll('audio')[1].paused")
    small = page.evaluate("""() => [...document.querySelectorAll('button, .action, summary, select')]
        .filter(node => node.checkVisibility() && node.getBoundingClientRect().height < 24).map(node => node.id || node.className)""")
    assert small == [], "a finger hits what is at least 24 pixels high"


CONTRAST = """() => {
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
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(opened, sounds, film, scheme):
    "Contrast of all text that is shown, after WCAG 2.1: at least 4.5 to 1, and 3 to 1 where it is large."
    page = opened([answer | {"good": i > 0} for i, answer in enumerate(answers(sounds))], color_scheme=scheme).page
    ask(page, film)
    for part in ("#filters summary", ".more >> nth=0 >> summary"): page.locator(part).click()
    page.keyboard.press("2")
    page.keyboard.press("s")
    page.wait_for_timeout(600)  # the cards have faded in
    assert page.evaluate(CONTRAST) == []


ROLES = ("button", "link", "slider", "checkbox", "spinbutton", "combobox", "DisclosureTriangle", "Video", "progressbar")
LANDMARKS = ("banner", "main", "contentinfo")


def test_everything_that_acts_has_a_name_and_a_value(opened, sounds, film):
    "What a screen reader says of each control, from Chromium's own tree of accessible nodes."
    page = opened(answers(sounds)).page
    ask(page, film)
    page.locator("#filters summary").click()
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    acts = [found for found in named if found[0] in ROLES]
    assert len(acts) > 25 and all(name for _, name in acts), acts
    once = [name for _, name in acts if name.startswith(("Play with", "Keep: ", "Video: ", "Sound: "))]
    assert len(once) == len(set(once)), "no two buttons have the same name"
    ids = value(page, "[...document.querySelectorAll('[id]')].map(node => node.id)")
    assert len(ids) == len(set(ids))
    assert [role for role, _ in named if role in LANDMARKS] == list(LANDMARKS)
