"""The tools for working on the notebooks, on small notebooks made here."""
import json
import tempfile

import pytest

from tools import save_outputs as saving
from tools.build_docs import relink
from tools.notebooks import ROOT, size_problems


def notebook(path, *sources, outputs=()):
    "Write a notebook of code cells; the first one gets the outputs."
    cells = [{"cell_type": "code", "id": f"cell{i}", "metadata": {}, "source": s.splitlines(True), "execution_count": None,
              "outputs": [] if i else list(outputs)} for i, s in enumerate(sources)]
    content = {"cells": cells, "metadata": {"kernelspec": {"name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_outputs_are_saved_without_logs_and_paths(tmp_path):
    path = notebook(tmp_path / "small.ipynb", "import sys, tempfile",
                    "print(tempfile.gettempdir() + '/avmatch-demo-1-0/data/raw'); print('log', file=sys.stderr)",
                    "#| eval: false\n1 / 0", "6 * 7")
    saving.save_outputs(path)
    saved = [c["outputs"] for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    assert [len(outputs) for outputs in saved] == [0, 1, 0, 1]
    assert saved[1][0]["text"] == ["data/raw\n"]
    assert saved[3][0]["data"]["text/plain"] == ["42"]


def test_a_failing_notebook_is_left_alone(tmp_path):
    path = notebook(tmp_path / "broken.ipynb", "1 / 0", outputs=[{"output_type": "stream", "name": "stdout", "text": ["as before"]}])
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="ZeroDivisionError in broken.ipynb"): saving.save_outputs(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("shown, expected", [
    (f"{ROOT}/nbs/config.ipynb", "nbs/config.ipynb"),
    (f"'{tempfile.gettempdir()}/tmpabc123/a.mp4'", "'temporary/a.mp4'"),
    ("a / b, data/raw/videos", "a / b, data/raw/videos"),
])
def test_paths_are_shortened(shown, expected):
    for kind in ("text/plain", "text/html"):
        assert saving.without_paths({"data": {kind: [shown, shown]}}) == {"data": {kind: [expected, expected]}}


def test_large_figures_are_named(tmp_path):
    figure = {"output_type": "display_data", "metadata": {}, "data": {"image/png": "x" * 70 * 1024}}
    assert size_problems(notebook(tmp_path / "fine.ipynb", "1", outputs=[])) == []
    assert size_problems(notebook(tmp_path / "large.ipynb", "1", outputs=[figure])) == [
        "large.ipynb: figure 1 has 70 KB, at most 60 are allowed"]
    assert "5 figures" in " ".join(size_problems(notebook(tmp_path / "many.ipynb", "1", outputs=[figure] * 5)))


def test_links_follow_the_pages():
    assert relink("[x](00_ingest.ipynb#run), [y](config.ipynb)") == "[x](ingest.ipynb#run), [y](config.ipynb)"
    assert relink("https://avmatch.github.io/avmatch/config.html#load_config") == "./config.html#load_config"
    assert relink("https://avmatch.github.io/avmatch/config.html", root="..") == "../config.html"  # from a page in guides/
