"""What the tools and tests agree on about the notebooks: which cells run, what is clean, what is too large.

    python -m tools.notebooks     # are the notebooks clean, and is the library what they export?
"""
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
GUIDES = NBS / "guides"  # tell, and export nothing
MAX_FIGURES, MAX_FIGURE_KB, MAX_NOTEBOOK_KB = 4, 60, 250


def all_notebooks() -> list[Path]:
    "The chapters, then the guides, each sorted by name."
    return [*sorted(NBS.glob("*.ipynb")), *sorted(GUIDES.glob("*.ipynb"))]


def read(path: Path) -> dict:
    "A notebook as it is in its file."
    return json.loads(Path(path).read_text(encoding="utf-8"))


def text(lines: str | list[str] | None) -> str:
    "A cell's source or an output's data as one string; the format allows a list of lines."
    return lines if isinstance(lines, str) else "".join(lines or [])


def skipped_cells(path: Path) -> set[str]:
    "Ids of the cells that nbdev_test leaves out, by nbdev's own reading of their directives."
    from nbdev.config import get_config
    from nbdev.process import NBProcessor
    flags = set(get_config(path=ROOT).tst_flags.split())
    skipped = set()
    for cell in NBProcessor(path, process=True).nb.cells:
        directives = getattr(cell, "directives_", None) or {}
        is_off = directives.get("eval:", [""])[0].lower() == "false"
        if is_off or flags & directives.keys() or "nbdev_export(" in cell.source: skipped.add(cell.id)
    return skipped


def outputs(notebook: dict) -> Iterator[dict]:
    "Every stored output, in order."
    for cell in notebook["cells"]: yield from cell.get("outputs", [])


def size_problems(path: Path) -> list[str]:
    "Which size budgets a notebook breaks, each as a sentence; see CONTRIBUTING.md."
    figures = [len(text(data)) / 1024 for o in outputs(read(path)) for kind, data in o.get("data", {}).items() if kind.startswith("image/")]
    size = path.stat().st_size / 1024
    problems = [f"figure {i} has {kb:.0f} KB, at most {MAX_FIGURE_KB} are allowed" for i, kb in enumerate(figures, 1) if kb > MAX_FIGURE_KB]
    if len(figures) > MAX_FIGURES: problems.append(f"{len(figures)} figures, at most {MAX_FIGURES} are allowed")
    if size > MAX_NOTEBOOK_KB: problems.append(f"{size:.0f} KB, at most {MAX_NOTEBOOK_KB} are allowed")
    return [f"{path.name}: {p}" for p in problems]


def unclean_or_out_of_sync() -> list[str]:
    "Files that `make export` would change. It runs in a copy, so that looking changes nothing."
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copy(ROOT / "settings.ini", copy)
        shutil.copytree(NBS, copy / "nbs", ignore=shutil.ignore_patterns(".*", "_*"))
        (copy / "avmatch").mkdir()  # empty: what is not exported now does not belong into the library
        for command in ("nbdev_clean", "nbdev_export"):
            done = subprocess.run([Path(sys.executable).with_name(command)], cwd=copy, capture_output=True, text=True)
            if done.returncode: return [f"{command} failed: {done.stderr.strip()}"]
        changed = []
        for pattern in ("nbs/**/*.ipynb", "avmatch/**/*.py"):
            files = {p.relative_to(r) for r in (ROOT, copy) for p in r.glob(pattern) if ".ipynb_checkpoints" not in p.parts}
            changed += sorted(str(f) for f in files if _bytes(ROOT / f) != _bytes(copy / f))
        return changed


def _bytes(path: Path) -> bytes | None:
    "A file's content, or nothing where it is not there."
    return path.read_bytes() if path.exists() else None


if __name__ == "__main__":
    if changed := unclean_or_out_of_sync():
        sys.exit("not clean, or not what the notebooks export; run `make export`:\n  " + "\n  ".join(changed))
    print("notebooks are clean, the library is what they export")
