"""Run the notebooks as nbdev_test does and store their outputs, which the docs site shows.

    python -m tools.save_outputs                      # all
    python -m tools.save_outputs nbs/05_train.ipynb   # one

The outputs come from the demo config in a fresh temporary folder, so they are the same wherever this
runs: no personal paths, no progress bars, no times of earlier runs. Each notebook has a process of its own.
"""
import multiprocessing
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tools.notebooks import NBS, ROOT, all_notebooks, size_problems, skipped_cells

WIDGET = "application/vnd.jupyter.widget-view+json"  # empty without the kernel that drew it


def save_outputs(path: Path) -> float:
    "Run one notebook, store its outputs in it, and say how many seconds it took."
    from execnb.nbio import read_nb, write_nb
    from execnb.shell import CaptureShell
    from fastcore.xtras import working_directory
    start, skipped, notebook = time.time(), skipped_cells(path), read_nb(path)
    for cell in notebook.cells:
        if cell.cell_type == "code": cell.outputs = []
    shell = CaptureShell(path, mpl_format="png")  # the shell's own default doubles the resolution
    try:
        with working_directory(path.parent):
            shell.run_all(notebook, exc_stop=True, preproc=lambda cell: cell.cell_type != "code" or cell.id in skipped)
    except Exception: raise RuntimeError(shell.prettytb(fname=path.name)) from None  # plain text: it must cross to the parent process
    for cell in notebook.cells:
        if cell.cell_type == "code": cell.outputs = [without_paths(o) for o in cell.outputs if is_kept(o)]
    write_nb(notebook, path)
    return time.time() - start


def is_kept(output: dict) -> bool:
    "Whether an output is a result: not a log or progress bar (standard error), not a widget without its kernel."
    return output.get("name") != "stderr" and WIDGET not in output.get("data", {})


def without_paths(output: dict) -> dict:
    "The output with the paths of this machine shortened to what they are on any machine."
    places = (
        (rf"{re.escape(str(ROOT))}/", ""),
        (rf"{re.escape(tempfile.gettempdir())}/avmatch-demo-[^/\s'\"]+/", ""),        # the demo workspace: data/raw/...
        (rf"{re.escape(tempfile.gettempdir())}/[^/\s'\"]+", "temporary"),             # a folder that a cell made
        (re.escape(str(Path.home())) + r"(?=/)", "~"),
    )

    def shorten(text: str) -> str:
        for pattern, replacement in places: text = re.sub(pattern, replacement, text)
        return text

    def visit(value):
        if isinstance(value, str): return shorten(value)
        return [visit(v) for v in value] if isinstance(value, list) else value

    if "text" in output: output["text"] = visit(output["text"])
    for kind, data in output.get("data", {}).items():
        if kind.startswith("text/"): output["data"][kind] = visit(data)
    return output


def main() -> None:
    from nbdev.clean import nbdev_clean
    paths = [Path(p).resolve() for p in sys.argv[1:]] or all_notebooks()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        # the processes below inherit these: where the demo workspace lies, and how figures look
        os.environ |= {"TMPDIR": folder, "IN_TEST": "1", "MATPLOTLIBRC": str(NBS / "matplotlibrc"), "PYTHONPATH": str(ROOT)}
        for path in paths:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
                try: seconds = process.submit(save_outputs, path).result()
                except RuntimeError as e: sys.exit(str(e))
            nbdev_clean(str(path))
            problems += size_problems(path)
            print(f"{path.name}: {seconds:.1f} s, {path.stat().st_size / 1024:.0f} KB")
    if problems: sys.exit("\n".join(problems))


if __name__ == "__main__": main()
