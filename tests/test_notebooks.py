"""The notebooks themselves: in sync with the library, within their budgets, ready for papermill and for git."""
import ast
import re
from pathlib import Path

import pytest

from tools.nbstats import EXPORT_DIRECTIVES, MAGIC, directives, measure, parse, row
from tools.notebooks import NBS, ROOT, all_notebooks, outputs, read, size_problems, text, unclean_or_out_of_sync

NOTEBOOKS = all_notebooks()
NUMBERED = [p for p in NOTEBOOKS if re.match(r"\d\d_", p.name)]
LIBRARY = [p for p in NOTEBOOKS if measure(p)]  # those that export a module

# column of tools/nbstats.py -> the least and the most it may be, in each notebook
BUDGETS = {
    "exp_med": (0, 10), "exp_max": (0, 40),         # lines of an exported cell
    "fn_med": (0, 10), "fn_max": (0, 40),           # lines of a function
    "exp/nb": (8, 25),                              # exported cells
    "w/exp_loc": (3, float("inf")),                 # words of prose for a line of exported code
    "tests/fn": (2, float("inf")),                  # assertions for a public function
    "shown%": (90, 100), "doc%": (100, 100),        # public symbols seen in use; with a docstring
    "star": (0, 0), "title%": (100, 100), "unread": (0, 0),
}


def by_name(path: Path) -> str: return path.name


def code(path: Path) -> list[tuple[dict, str]]:
    "The code cells of a notebook, each with its source."
    return [(c, text(c["source"])) for c in read(path)["cells"] if c["cell_type"] == "code"]


def test_numbers_have_no_gaps():
    assert [p.name[:2] for p in NUMBERED] == [f"{i:02}" for i in range(10)]


def test_clean_and_in_sync():
    assert unclean_or_out_of_sync() == [], "run `make export`"


def test_quarto_config_is_the_top_level_one():
    assert (NBS / "_quarto.yml").read_bytes() == (ROOT / "_quarto.yml").read_bytes()


@pytest.mark.parametrize("path", LIBRARY, ids=by_name)
def test_budgets(path):
    stats = row(path.name, measure(path))
    assert {k: stats[k] for k, (least, most) in BUDGETS.items() if not least <= stats[k] <= most} == {}


@pytest.mark.parametrize("path", LIBRARY, ids=by_name)
def test_parameters_are_commented(path):
    counts = measure(path)
    assert counts.docments == counts.params


@pytest.mark.parametrize("path", LIBRARY, ids=by_name)
def test_functions_have_few_parameters(path):
    trees = filter(None, (parse(s) for c, s in code(path) if directives(c, s) & EXPORT_DIRECTIVES))
    functions = [n for t in trees for n in ast.walk(t) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = {f.name: len([*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs]) for f in functions}
    assert {name: n for name, n in sizes.items() if n > 8} == {}, "at most 7, and self: use a dataclass"


@pytest.mark.parametrize("path", LIBRARY, ids=by_name)
def test_dataclasses_are_shown(path):
    "nbdev's signature leaves out the comments of fields; `#| exports` shows the source, and with it the comments."
    for cell, source in code(path):
        if "\n@dataclass" in source and directives(cell, source) & EXPORT_DIRECTIVES:
            assert source.startswith("#| exports\n"), f"cell {cell['id']}: begin it with `#| exports`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_sizes(path):
    assert size_problems(path) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_kernel(path):
    assert read(path)["metadata"]["kernelspec"]["name"] == "python3"  # papermill looks it up


@pytest.mark.parametrize("path", NUMBERED, ids=by_name)
def test_one_parameters_cell(path):
    tagged = [source for cell, source in code(path) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert {t.id for n in ast.parse(tagged[0]).body for t in n.targets} == {"workspace", "config"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_imports_stand_alone(path):
    "The docs build runs each cell that imports anything, even deep inside, but none of the cells that it builds on."
    for cell, source in code(path):
        tree = parse(source)
        is_exported = directives(cell, source) & EXPORT_DIRECTIVES  # these run too, so functions may import
        imports = [n for n in (tree.body if is_exported else ast.walk(tree)) if isinstance(n, ast.Import | ast.ImportFrom)]
        assert not imports or imports == tree.body, f"cell {cell['id']} mixes imports and other code"


@pytest.mark.parametrize("path", NUMBERED, ids=by_name)
def test_imports_only_what_comes_before(path):
    stages = [p.stem[3:] for p in NUMBERED]
    for _, source in code(path):
        for name in re.findall(r"(?m)^\s*(?:from|import) avmatch\.(\w+)", source):
            assert name not in stages[stages.index(path.stem[3:]) + 1:], f"{path.name} imports {name}, a later stage"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_runs_under_papermill(path):
    "Exporting would rewrite the library, and a shell line or magic is not Python."
    for cell, source in code(path):
        assert "nbdev_export(" not in source and not MAGIC.search(source), f"cell {cell['id']}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_outputs_are_plain(path):
    "No error, no log, no path of somebody's machine."
    for output in outputs(read(path)):
        assert output["output_type"] != "error" and output.get("name") != "stderr"
        shown = text(output.get("text")) + "".join(text(d) for k, d in output.get("data", {}).items() if k.startswith("text/"))
        assert not re.search(r"(?<![\w/.])/(home|root|tmp|Users|work|private|var)/|[A-Z]:\\Users", shown), shown[:300]
