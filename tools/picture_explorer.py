"""Draw the picture of the explorer that 08_explore shows: a held-out clip of a finished workspace, in JupyterLab.

    python -m tools.picture_explorer data
    python -m tools.picture_explorer data --theme Dark --tab Map --path map.png     # to look at another side of it
"""
import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

from tools.lab import jupyter_lab, run_all
from tools.notebooks import NBS
from tools.picture_page import shrink

APP = ".widget-box.avm-app"
CODE = """from avmatch.config import load_config
from avmatch.explore import make_explorer
from avmatch.workspace import Workspace
explorer = make_explorer(load_config({{}}), Workspace({workspace!r}))
explorer.widget"""


def notebook(workspace: Path) -> dict:
    "A notebook that shows the explorer and nothing else."
    cell = {"cell_type": "code", "id": "explorer", "metadata": {}, "execution_count": None, "outputs": [],
            "source": CODE.format(workspace=str(workspace.absolute()))}
    kernel = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    return {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def ask(page) -> None:
    "Choose the second held-out clip and ask for instrumental answers."
    page.locator(f"{APP} select").first.select_option(index=2)
    page.locator(".avm-status", has_text="is ready").wait_for(timeout=30_000)
    page.locator(APP).get_by_text("Filters and taste").click()
    page.get_by_role("button", name="Recommend Audio").click()
    page.locator(".avm-status.done", has_text="Its own track").wait_for(timeout=60_000)


def show_tab(page, name: str) -> None:
    "Turn to a tab; on the map, click on the best answer; under the question why, ask for the last track."
    page.locator(APP).get_by_text(name, exact=True).first.click()
    if name == "Map":
        page.locator(".avm-map .answer").last.click()
        page.locator(".avm-map .picked").wait_for()
    if name.startswith("Why"):
        page.get_by_placeholder("title or id of a track").fill(page.locator("datalist option").last.get_attribute("value"))
        page.keyboard.press("Enter")
        page.locator(".avm-verdict").wait_for()
    page.wait_for_timeout(1_000)  # players have loaded


def main(workspace: Path, *, theme: str, tab: str, path: Path) -> None:
    "Ask the explorer about a held-out clip and keep what it shows."
    from playwright.sync_api import sync_playwright
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        (Path(folder) / "explorer.ipynb").write_text(json.dumps(notebook(workspace)))
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 1400})
        with jupyter_lab(Path(folder), theme=f"JupyterLab {theme}") as address:
            page.goto(address("explorer.ipynb"))
            run_all(page, ready=APP)
            ask(page)
            show_tab(page, tab)
            page.locator(APP).screenshot(path=path)
        browser.close()
    shrink(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path, nargs="?", default=Path("data"))
    parser.add_argument("--theme", default="Light", choices=["Light", "Dark"])
    parser.add_argument("--tab", default="Answers", choices=["Answers", "Map", "Why not this one?"])
    parser.add_argument("--path", type=Path, default=NBS / "images/explorer.png")
    main(**vars(parser.parse_args()))
