"""What a user can set, call or click is documented: these tests fail where the docs have no word of it."""
import argparse
import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from avmatch.config import Config
from tools.notebooks import NBS, ROOT, read, text

FIELDS = [(f.name, s.name) for f in dataclasses.fields(Config) if dataclasses.is_dataclass(f.default_factory)
          for s in dataclasses.fields(f.default_factory)]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def source_of(name: str, kind: str = "") -> str:
    "All cells of a notebook as text, or those of one kind."
    cells = read(NBS / f"{name}.ipynb")["cells"]
    return "\n".join(text(c["source"]) for c in cells if kind in ("", c["cell_type"]))


def headings(name: str) -> str:
    "The headings of a notebook, a line each."
    return "\n".join(re.findall(r"(?m)^#+ .*$", source_of(name, "markdown")))


def commands() -> list[str]:
    "The commands that the command line knows."
    from avmatch.cli import make_parser
    return [name for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction) for name in a.choices]


def routes() -> set[str]:
    "The paths that the service answers, without those FastAPI adds."
    from avmatch.serve import create_app
    return {r.path for r in create_app(engine=SimpleNamespace(tracks={})).routes} - {"/openapi.json"}


def test_config_fields_are_found():
    assert len(FIELDS) > 20


@pytest.mark.parametrize("stage, field", FIELDS)
def test_each_setting_says_what_it_is(stage, field):
    "Each field is a line of the config's page, with its meaning in a comment."
    assert re.search(rf"(?m)^    {field}\s*:.*#\s*\w+", source_of("config")), f"{stage}.{field}"


def test_each_command_has_a_heading():
    assert [c for c in commands() if f"avmatch {c}" not in headings("cli")] == []


def test_each_route_is_described():
    prose = source_of("09_serve", "markdown")
    assert [r for r in routes() if r.split("{")[0] not in prose] == []


def test_readme_names_each_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in NBS.glob("[0-9][0-9]_*.ipynb") if f"nbs/{p.name}" not in readme] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    source = re.sub(r"(?s)```.*?```", "", (ROOT / page).read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)[^)]*\)", source) + re.findall(r'(?:src|href)="([^"]+)"', source)
    local = [link.split("#")[0] for link in links if not re.match(r"\w+:|#", link)]
    assert [link for link in local if not Path(ROOT, link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = re.findall(r"`make (\w+)|^make (\w+)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert [t for pair in named for t in pair if t and not re.search(rf"(?m)^{t}:", makefile)] == []
