"""Draw the picture of the page that README.md shows: a real answer of a finished workspace.

    python -m tools.picture_page data
"""
import os
import shutil
import sys

from tools.notebooks import NBS

PATH = NBS / "images" / "page.png"


def main(workspace: str) -> None:
    "Ask the page about a held-out clip and keep what it shows."
    from PIL import Image
    from playwright.sync_api import sync_playwright

    from avmatch.serve import create_app, running
    from avmatch.workspace import Workspace, load_json, load_manifest
    workspace = Workspace(workspace)
    videos = {entry["video_id"]: entry["video_path"] for entry in load_manifest(workspace)}
    clip = workspace.resolve(videos[load_json(workspace.split, command="avmatch run --only train")["test"][0]])
    PATH.parent.mkdir(exist_ok=True)
    with running(create_app(workspace=workspace)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 830})
        page.goto(url)
        page.set_input_files("#file", clip)
        page.get_by_role("button", name="Recommend Audio").click()
        page.locator(".card:not(.skeleton)").first.wait_for(timeout=60_000)
        page.wait_for_timeout(1_000)  # the cards have faded in
        page.locator(".pair").nth(0).click()
        page.evaluate("scrollTo({ top: 0, behavior: 'instant' })")  # the click may have scrolled
        page.wait_for_timeout(2_500)
        page.screenshot(path=PATH)
        browser.close()
    Image.open(PATH).convert("RGB").quantize(256).save(PATH, optimize=True)  # a third of the size, no visible difference
    print(f"{PATH.name}: {PATH.stat().st_size / 1024:.0f} KB")


if __name__ == "__main__": main(sys.argv[1] if len(sys.argv) > 1 else "data")
