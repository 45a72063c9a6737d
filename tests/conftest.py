"""What several tests share: a finished workspace, a browser that reaches this machine only, a server for static files."""
import functools
import os
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pages import film, opened, page_url, sounds  # noqa: F401 (fixtures)
from serving import client, clip, engine, uploads  # noqa: F401 (fixtures)

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run",
         "--autoplay-policy=no-user-gesture-required")


def find_browser() -> str | None:
    "The browser named by CHROMIUM, else the first one installed."
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)


@pytest.fixture(scope="module")  # for a module only: an open playwright keeps an event loop running in this thread
def browser():
    "Headless Chromium, driven by playwright."
    program = find_browser()
    if not program:
        message = "no Chromium found: install it, or name it in CHROMIUM"
        if os.environ.get("CI"): pytest.fail(message)  # CI must not pass because a browser is missing
        pytest.skip(message)
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


class Watched:
    "A page together with everything that went wrong on it."
    def __init__(self, page):
        self.page, self.problems = page, []
        page.on("pageerror", lambda error: self.problems.append(f"script error: {error}"))
        page.on("console", lambda m: m.type == "error" and self.note("console: " + m.text, m.location["url"]))
        page.on("response", lambda r: r.status >= 400 and self.note(f"status {r.status}", r.url))
        page.on("request", lambda r: is_outside(r.url) and self.note("outside request", r.url))

    def note(self, problem: str, url: str) -> None:
        "Remember a problem; the browser asks every server for an icon, and may go without."
        if not url.endswith("/favicon.ico"): self.problems.append(f"{problem} ({url})")


def is_outside(url: str) -> bool:
    "Whether an address leads away from this machine."
    return not url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "about:"))


@pytest.fixture
def watch(browser):
    "Open a watched page: `watch(width=390)` is a phone, `watch(color_scheme='dark')` asks for the dark theme."
    contexts = []

    def open_page(width=1200, height=900, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        return Watched(contexts[-1].new_page())
    yield open_page
    for context in contexts: context.close()


class QuietHandler(SimpleHTTPRequestHandler):
    "Serves files and prints nothing."
    def log_message(self, *args): pass


@pytest.fixture(scope="module")
def serve_folder():
    "Serve a folder on 127.0.0.1: `serve_folder(path)` gives its address."
    servers = []

    def serve(folder: Path) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(folder))))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"
    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def demo():
    "The notebooks' demo workspace with every stage done that the service needs: (config, workspace)."
    from avmatch.audio_features import run_audio_features
    from avmatch.ingest import run_ingest
    from avmatch.process import run_process
    from avmatch.recommend import run_recommend
    from avmatch.train import run_train
    from avmatch.video_features import run_video_features
    from avmatch.workspace import demo_workspace
    return demo_workspace([run_ingest, run_process, run_audio_features, run_video_features, run_train, run_recommend])
