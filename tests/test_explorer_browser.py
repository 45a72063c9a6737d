"""The explorer as people use it: the notebook 08_explore, open in JupyterLab, in a real browser."""
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
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

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "nbs/08_explore.ipynb"
STAGES = [run_ingest, run_process, run_audio_features, run_video_features, run_train, run_recommend]
APP = ".widget-box.avm-app"  # the explorer; what stands still in an output is no widget box
SETTINGS = {  # what a person would click away: the question about news, and cells that exist only while they are seen
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


def with_parameters(notebook: Path, **values) -> dict:
    "A notebook without outputs, with other values in its parameters cell."
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "code": cell["outputs"] = []
        if "parameters" in cell["metadata"].get("tags", []):
            cell["source"] = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    return content


@contextmanager
def jupyter_lab(folder: Path):
    "A JupyterLab of its own over a folder: no settings of the user's, no way in without the token."
    for name, value in SETTINGS.items():
        file = folder / f".jupyter/settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port, token = s.getsockname()[1], secrets.token_hex(16)
    home = {name: str(folder / ".jupyter" / part) for name, part in {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}.items()}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}",
               "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **home, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api/status?token={token}", server, folder / "lab.log")
        yield lambda path: f"http://127.0.0.1:{port}/lab/tree/{path}?reset&token={token}"
    finally:
        server.terminate()  # ends its kernels too
        try: server.wait(15)
        except subprocess.TimeoutExpired: server.kill()


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    "Wait until the server answers."
    for _ in range(240):
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError: time.sleep(0.25)
        if server.poll() is not None: break
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def run_all(page, ready: str) -> None:
    "Run all cells until something is shown; JupyterLab drops a run that comes before its kernel is connected, so ask again."
    page.locator(".jp-Notebook .jp-Cell").first.click(timeout=90_000)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for(timeout=90_000)
    for _ in range(8):
        page.locator("li.lm-MenuBar-item", has_text="Run").first.click()
        page.locator(".lm-Menu-item", has_text="Run All Cells").first.click()
        try: return page.locator(ready).first.wait_for(timeout=15_000)
        except Exception as e:
            if type(e).__name__ != "TimeoutError": raise
    pytest.fail("the explorer was not shown; outputs: " + " | ".join(page.locator(".jp-OutputArea-output").all_inner_texts())[-2000:])


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
        assert page.locator(".avm-answer").count() == 0

        upload(page, clip)
        page.locator(".avm-status", has_text=f"{clip.name} is ready").wait_for(timeout=20_000)
        page.locator(f"{APP} video").wait_for()
        page.locator(f"{APP} .widget-readout").first.click()
        page.keyboard.press("Control+A")
        page.keyboard.type("5")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Recommend Audio").click()
        page.locator(".avm-status.done", has_text=f"5 tracks for {clip.name}").wait_for(timeout=60_000)
        page.locator(".avm-answer audio").nth(4).wait_for()
        assert page.locator(".avm-answer audio").count() == 5
        assert [page.locator(".avm-answer .avm-rank").nth(i).inner_text() for i in range(5)] == list("12345")

        plays = "async a => { await a.play(); await new Promise(r => setTimeout(r, 400)); a.pause(); return [a.duration, a.currentTime] }"
        duration, position = page.locator(".avm-answer audio").first.evaluate(plays)
        assert duration > 1 and 0 < position < duration
        page.locator(APP).screenshot(path=tmp_path / "explorer.png")
        assert [p for p in watched.problems if p.startswith(("script error", "outside request"))] == []


def upload(page, path: Path) -> None:
    "Choose a file with the upload button; it has no input element of its own, so we answer the file chooser."
    with page.expect_file_chooser() as chooser: page.locator("button.widget-upload").click()
    chooser.value.set_files(path)
