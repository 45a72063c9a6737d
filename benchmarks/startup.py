"""What it costs to begin: imports, the command line, a notebook of the pipeline before it does any work, and a whole demo.

    python benchmarks/startup.py [--demo] [--rounds N] [--json]

Every figure is the median of some processes that end at once; the bound of the first two is a Python that does nothing. A stage is a
notebook run by papermill in a kernel of its own; the bound is an empty one, run by papermill without avmatch. What a stage adds to
that, its imports and examples, is told by benchmarks/stages.py. `--demo` also runs the whole pipeline on generated samples.
"""
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import table

from avmatch.pipeline import execute

COMMANDS = {"python -c pass": ["-c", "pass"], "import avmatch": ["-c", "import avmatch"], "avmatch --help": ["-m", "avmatch.cli", "--help"],
            "import avmatch.recommend": ["-c", "import avmatch.recommend"], "import avmatch.serve": ["-c", "import avmatch.serve"],
            "import torch": ["-c", "import torch"]}


def seconds_of(words: list[str]) -> float:
    "How long a process takes."
    began = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - began


def command_rows(n_rounds: int) -> list[dict]:
    "Imports and the command line, taken in turns."
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(n_rounds + 1):
        for name, words in COMMANDS.items(): took[name].append(seconds_of([sys.executable, *words]))
    medians = {name: statistics.median(seconds[1:]) for name, seconds in took.items()}
    bare = medians.pop("python -c pass")
    return [table.row(name, seconds, "s", bound=bare if name in ("import avmatch", "avmatch --help") else None) for name, seconds in medians.items()]


def write_notebook(path: Path, code: str) -> None:
    "A notebook with one cell, as papermill wants it."
    cell = nbformat.v4.new_code_cell(code, metadata={"tags": ["parameters"]})
    about = {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=about), path)


def notebook_rows(folder: Path, n_rounds: int) -> list[dict]:
    "An empty notebook as a stage runs it, beside papermill alone; and one that imports what most stages import."
    import papermill
    contents = {"empty": "", "numpy, torch": "import numpy, torch"}
    took: dict[str, list[float]] = {name: [] for name in ("alone", *contents)}
    for name, code in contents.items(): write_notebook(folder / f"{name}.ipynb", code)
    for _ in range(n_rounds + 1):
        for name in took:
            began = time.perf_counter()
            if name == "alone": papermill.execute_notebook(folder / "empty.ipynb", folder / "out.ipynb", {}, progress_bar=False)
            else: execute(folder / f"{name}.ipynb", folder / "reports/out.ipynb", {})
            took[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(seconds[1:]) for name, seconds in took.items()}
    return [table.row(f"a stage, {name} notebook", medians[name], "s", bound=medians["alone"]) for name in contents]


def demo_row(folder: Path) -> dict:
    "The pipeline on generated samples, as `make demo` runs it."
    words = [sys.executable, "-m", "avmatch.cli", "run", "--workspace", str(folder / "data")]
    return table.row("avmatch run, generated samples", seconds_of(words), "s")


def main() -> None:
    parser = table.parser(__doc__)
    parser.add_argument("--demo", action="store_true", help="also run the whole pipeline, some minutes")
    parser.add_argument("--rounds", type=int, default=5, help="processes for each figure")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(sys.stderr):
        folder = Path(name)
        rows = [*command_rows(args.rounds), *notebook_rows(folder, args.rounds), *([demo_row(folder)] if args.demo else [])]
    table.show(rows, "What it costs to begin", args)


if __name__ == "__main__": main()
