"""The explorer as people use it: the notebook 08_explore, open in JupyterLab, in a real browser."""
import csv
import json
from pathlib import Path

import pytest

pytest.importorskip("jupyterlab")

from avmatch.audio_features import run_audio_features
from avmatch.config import config_dict
from avmatch.ingest import run_ingest
from avmatch.process import run_process
from avmatch.recommend import run_recommend
from avmatch.train import run_train
from avmatch.video_features import run_video_features
from avmatch.workspace import demo_workspace, load_json, load_manifest
from tools.lab import jupyter_lab, run_all, with_parameters
from tools.notebooks import NBS

NOTEBOOK = NBS / "08_explore.ipynb"
STAGES = [run_ingest, run_process, run_audio_features, run_video_features, run_train, run_recommend]
APP = ".widget-box.avm-app"  # the explorer; what stands still in an output is no widget box
ANSWER = ".avm-answer:visible"  # not those of the tabs that lie behind


@pytest.fixture(scope="module")
def demo():
    "The demo workspace and a clip of it that the model has not seen."
    config, workspace = demo_workspace(STAGES)
    clip = load_json(workspace.split, command="avmatch run --only train")["test"][0]
    entry = next(e for e in load_manifest(workspace) if e["video_id"] == clip)
    return config, workspace, workspace.resolve(entry["video_path"])


def test_upload_ask_and_listen(demo, watch, tmp_path):
    config, workspace, clip = demo
    notebook = with_parameters(NOTEBOOK, workspace=str(workspace.root), config=config_dict(config))
    (tmp_path / "08_explore.ipynb").write_text(json.dumps(notebook))
    (tmp_path / "broken.mp4").write_text("This is not a video.")
    with jupyter_lab(tmp_path) as address:
        watched = watch(width=1440, height=1000)
        page = watched.page
        page.goto(address("08_explore.ipynb"))
        run_all(page, ready=".avm-status.done")  # the notebook asks for a clip by itself at its end
        assert page.locator(".jp-OutputArea-output[data-mime-type*=error]").count() == 0

        upload(page, tmp_path / "broken.mp4")
        page.locator(".avm-status.error", has_text="broken.mp4: not a video").wait_for(timeout=20_000)
        assert page.locator(ANSWER).count() == 0

        upload(page, clip)
        page.locator(".avm-status", has_text=f"{clip.name} is ready").wait_for(timeout=20_000)
        page.locator(f"{APP} video").wait_for()
        ask(page, clip, top_k=5)
        assert page.locator(f"{ANSWER} audio").count() == 5
        assert [page.locator(f"{ANSWER} .avm-rank").nth(i).inner_text() for i in range(5)] == list("12345")

        plays = "async a => { await a.play(); await new Promise(r => setTimeout(r, 400)); a.pause(); return [a.duration, a.currentTime] }"
        duration, position = page.locator(f"{ANSWER} audio").first.evaluate(plays)
        assert duration > 1 and 0 < position < duration
        check_held_out(page, clip)
        check_map(page)
        check_why_not(page)
        check_export(page, clip)
        page.locator(APP).screenshot(path=tmp_path / "explorer.png")
        assert [p for p in watched.problems if p.startswith(("script error", "outside request"))] == []


def ask(page, clip: Path, *, top_k: int) -> None:
    "Set the slider, press the button and wait for the answers; another number than before, or the old ones may be taken for new."
    page.locator(f"{APP} .widget-readout").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.type(str(top_k))
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Recommend Audio").click()
    page.locator(".avm-status.done", has_text=f"{top_k} tracks for {clip.name}").wait_for(timeout=60_000)
    page.locator(f"{ANSWER} audio").nth(top_k - 1).wait_for()


def check_held_out(page, clip: Path) -> None:
    "A held-out clip is told where its own track stands; players begin at the moment, with whatever taste."
    page.locator(f"{APP} select").first.select_option(label=next(o for o in page.locator(f"{APP} select option").all_inner_texts() if clip.stem in o))
    page.locator(".avm-status", has_text=f"{clip.name} is ready").wait_for(timeout=20_000)
    page.locator(APP).get_by_text("Filters and taste").click()
    page.locator(APP).get_by_text("each recording once").click()
    ask(page, clip, top_k=4)
    page.locator(".avm-status.done", has_text="Its own track").wait_for()
    for audio in page.locator(f"{ANSWER} audio").all():
        start, position = audio.evaluate("""async a => {
            while (a.readyState < 1 || a.seeking) await new Promise(r => setTimeout(r, 50));
            return [Number(a.src.split('#t=')[1] ?? 0), a.currentTime] }""")
        assert abs(start - position) < 0.1
    page.locator(APP).get_by_role("button", name="Clear").click()
    ask(page, clip, top_k=5)


def check_map(page) -> None:
    "A click on the best answer's number shows its card and its player."
    title = page.locator(f"{ANSWER} .avm-title").first.inner_text()
    page.locator(APP).get_by_text("Map", exact=True).click()
    page.locator(f"{APP} .avm-map .answer").nth(4).wait_for()
    assert page.locator(f"{APP} .avm-map .answer").count() == 5 and page.locator(f"{APP} .avm-map .asks").count() == 1
    page.locator(f"{APP} .avm-map .answer").last.click()  # the best one lies on top
    page.locator(f"{APP} .avm-map .picked").wait_for()
    found = page.locator(ANSWER)
    found.locator("audio").wait_for()
    assert found.locator(".avm-title").inner_text() == title and found.locator("audio").count() == 1


def check_why_not(page) -> None:
    "Any track can be asked about."
    page.locator(APP).get_by_text("Why not this one?", exact=True).click()
    page.get_by_placeholder("title or id of a track").fill(page.locator("datalist option").last.get_attribute("value"))
    page.keyboard.press("Enter")
    page.locator(".avm-verdict", has_text="By score alone it is place").wait_for(timeout=20_000)
    assert page.locator(".avm-verdict .avm-parts").count() >= 1


def check_export(page, clip: Path) -> None:
    "The answers can be saved as a table."
    page.locator(APP).get_by_text("Answers", exact=True).click()
    with page.expect_download() as download: page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == f"avmatch-{clip.stem}.csv"
    rows = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()))
    assert [row["rank"] for row in rows] == list("12345") and all(row["audio_id"] for row in rows)


def upload(page, path: Path) -> None:
    "Choose a file with the upload button; it has no input element of its own, so we answer the file chooser."
    with page.expect_file_chooser() as chooser: page.locator("button.widget-upload").click()
    chooser.value.set_files(path)
