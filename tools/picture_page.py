"""Draw the pictures of the page that README.md and the guides show: a real answer of a finished workspace.

    python -m tools.picture_page data
"""
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tools.notebooks import NBS

FOLDER = NBS / "images"
DESKTOP = {"viewport": {"width": 1200, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 780}, "device_scale_factor": 1.5, "has_touch": True}


def listen(page: Any) -> bytes:
    "The first answer plays."
    page.locator(".pair").nth(0).click()
    if not page.locator(".floating").count(): page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")   # the click may have scrolled
    page.wait_for_timeout(2_500)
    return page.screenshot()


def look_into(page: Any) -> bytes:
    "The second answer, with another moment and all that is said of it."
    card = page.locator(".card").nth(1)
    card.locator("summary").click()
    card.get_by_role("slider").focus()
    for _ in range(3): page.keyboard.press("ArrowRight")
    page.mouse.click(0, 0)   # the focus goes elsewhere
    page.wait_for_timeout(500)
    return card.screenshot()


def begin(page: Any) -> bytes:
    "No clip yet."
    page.reload()
    page.get_by_text("up to").wait_for()
    return page.screenshot(clip={"x": 0, "y": 0, "width": 1200, "height": 690})


PICTURES = {"page.png": (DESKTOP, listen), "page_dark.png": (DESKTOP | {"color_scheme": "dark"}, listen), "page_phone.png": (PHONE, listen),
            "page_card.png": (DESKTOP, look_into), "page_start.png": (DESKTOP, begin)}


def ask(page: Any, url: str, clip: Path) -> None:
    "Open the page and wait for its answers."
    page.goto(url)
    page.set_input_files("#file", clip)
    page.get_by_role("button", name="Recommend Audio").click()
    page.locator(".card:not(.skeleton) .wave svg").nth(1).wait_for(timeout=60_000)
    page.wait_for_timeout(1_000)   # the cards have faded in


def shrink(path: Path) -> None:
    "A third of the size, no visible difference."
    from PIL import Image
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB")


def main(workspace: str) -> None:
    "Ask the page about a held-out clip, once for each picture."
    from playwright.sync_api import sync_playwright

    from avmatch.serve import create_app, running
    from avmatch.workspace import Workspace, load_json, load_manifest
    workspace = Workspace(workspace)
    videos = {entry["video_id"]: entry["video_path"] for entry in load_manifest(workspace)}
    clip = workspace.resolve(videos[load_json(workspace.split, command="avmatch run --only train")["test"][0]])
    FOLDER.mkdir(exist_ok=True)
    with running(create_app(workspace=workspace)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"), args=["--no-sandbox"])
        for name, (options, draw) in PICTURES.items():
            page = browser.new_page(**options)
            ask(page, url, clip)
            (FOLDER / name).write_bytes(draw(page))
            shrink(FOLDER / name)
        browser.close()


if __name__ == "__main__": main(sys.argv[1] if len(sys.argv) > 1 else "data")
