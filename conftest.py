"""Collect the notebooks for pytest: every cell with an assertion is a test.

A notebook's cells run in order in one shell, under the rules by which nbdev_test leaves cells out. A test runs
its cell and all cells before it that have not run yet; once one has failed, the later tests of the notebook say so.
"""
import ast

import pytest

from tools.nbstats import count_assertions, parse
from tools.notebooks import GUIDES, NBS, skipped_cells


def pytest_collect_file(parent, file_path):
    if file_path.suffix == ".ipynb" and file_path.parent in (NBS, GUIDES): return Notebook.from_parent(parent, path=file_path)


class CellFailed(Exception):
    "A cell's traceback, as nbdev prints it."


class Notebook(pytest.File):
    "The tests of one notebook, and the shell that they share."
    shell = failed = None

    def collect(self):
        from execnb.nbio import read_nb
        skipped, heading = skipped_cells(self.path), "top"
        self.waiting = [c for c in read_nb(self.path).cells if c.cell_type == "code" and c.id not in skipped]
        last = self.waiting[-1].id if self.waiting else None  # always a test, so that every cell runs
        for cell in read_nb(self.path).cells:
            if cell.cell_type == "markdown" and cell.source.startswith("#"): heading = slug(cell.source)
            elif cell.cell_type == "code" and (cell.id == last or has_assertion(cell.source)):
                item = Cell.from_parent(self, name=f"{heading}:{cell.id}")
                item.cell_id = cell.id
                if cell.id in skipped: item.add_marker(pytest.mark.skip(reason="eval: false, or a flag of nbdev_test"))
                yield item

    def run_up_to(self, cell_id: str) -> None:
        "Run the waiting cells up to this one."
        from execnb.shell import CaptureShell
        if self.failed: pytest.fail(f"an earlier cell failed: {self.failed}", pytrace=False)
        if self.shell is None: self.shell = CaptureShell(self.path)
        while self.waiting:
            cell = self.waiting.pop(0)
            self.shell.cell(cell)
            if self.shell.exc:
                self.failed = cell.id
                raise CellFailed(self.shell.prettytb(fname=self.path.name))
            if cell.id == cell_id: break
        if not self.waiting: self.shell = None  # the last cell: let go of its variables


class Cell(pytest.Item):
    "One cell with an assertion."
    def runtest(self):
        with pytest.MonkeyPatch.context() as patch:  # as in nbdev_test
            patch.chdir(self.path.parent)
            patch.setenv("IN_TEST", "1")
            self.parent.run_up_to(self.cell_id)

    def repr_failure(self, excinfo):
        return str(excinfo.value) if isinstance(excinfo.value, CellFailed) else super().repr_failure(excinfo)

    def reportinfo(self): return self.path, None, f"{self.path.name}::{self.name}"


def slug(markdown: str) -> str:
    "The heading of a cell as it stands in a test's name."
    return markdown.splitlines()[0].strip("# ").lower().replace(" ", "-")


def has_assertion(source: str) -> bool:
    "Whether the cell checks something itself, outside of the functions it defines."
    tree = parse(source)
    checks = (n for n in tree.body if not isinstance(n, ast.FunctionDef | ast.ClassDef)) if tree else ()
    return any(count_assertions(node) for node in checks)


def pytest_collection_modifyitems(config, items):
    "Leave out what this machine cannot run, and the network unless it is asked for."
    for item in items:
        if item.get_closest_marker("network") and "network" not in config.option.markexpr:
            item.add_marker(pytest.mark.skip(reason="needs the internet; run it with `-m network`"))
        if item.get_closest_marker("gpu") and not has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs an accelerator"))


def has_gpu() -> bool:
    "Whether PyTorch sees an accelerator."
    import torch
    return torch.cuda.is_available()
