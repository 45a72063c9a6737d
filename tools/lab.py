"""A notebook open in JupyterLab, for tests and pictures: a server of its own, no settings of the user's, nothing from the network."""
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

from tools.notebooks import ROOT

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
def jupyter_lab(folder: Path, *, theme: str = "JupyterLab Light"):
    "A JupyterLab of its own over a folder: no settings of the user's, no way in without the token; gives path -> address."
    for name, value in (SETTINGS | {"apputils-extension/themes": {"theme": theme}}).items():
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
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


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
    raise RuntimeError(f"{ready} was not shown; outputs: " + " | ".join(page.locator(".jp-OutputArea-output").all_inner_texts())[-2000:])
