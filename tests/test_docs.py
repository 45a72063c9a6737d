"""The docs site: complete in itself, no broken link, and pages that a browser shows without an error."""
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tools.build_docs import SITE, page_names
from tools.notebooks import GUIDES, NBS, ROOT


def is_stale() -> bool:
    "Whether something the site is made of is newer than the site."
    index = SITE / "index.html"
    sources = [*NBS.glob("*.*"), *GUIDES.glob("*.*"), ROOT / "_quarto.yml", ROOT / "tools/build_docs.py"]
    return not index.exists() or max(p.stat().st_mtime for p in sources) > index.stat().st_mtime


@pytest.fixture(scope="module")
def site() -> Path:
    "The built site."
    if is_stale(): subprocess.run([sys.executable, "-m", "tools.build_docs"], cwd=ROOT, check=True)
    return SITE


class Page(HTMLParser):
    "The links and anchors of a page."
    def __init__(self, path: Path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values[name] for name in ("href", "src") if values.get(name)]
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}


def test_each_notebook_has_a_page(site):
    expected = {Path(page).with_suffix(".html") for page in page_names().values()}
    assert expected <= {p.relative_to(site) for p in site.rglob("*.html")}


def test_sidebar_names_each_notebook():
    config = (ROOT / "_quarto.yml").read_text(encoding="utf-8")
    assert sorted(re.findall(r"href: (\S+\.ipynb)", config)) == sorted(page_names())


def test_links_lead_somewhere(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc: continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir(): target = target / "index.html"
            if not target.exists(): broken.append(f"{path.name}: {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                broken.append(f"{path.name}: {link} (no such place on the page)")
    assert not broken


def test_source_links_name_the_real_notebook(site):
    for page in site.rglob("*.html"):
        for name in re.findall(r"/blob/main/nbs/([\w./]+\.ipynb)", page.read_text(encoding="utf-8")):
            assert (NBS / name).exists(), f"{page.name} links to {name}"


@pytest.mark.browser
def test_pages_open_without_errors(site, serve_folder, watch):
    address, watched = serve_folder(site), watch()
    for path in sorted(site.rglob("*.html")):
        watched.page.goto(f"{address}/{path.relative_to(site).as_posix()}", wait_until="load")
        assert watched.page.locator("main").count() == 1, path.name
        watched.page.wait_for_load_state("networkidle")
    assert not watched.problems


@pytest.mark.browser
def test_search_finds_a_function(site, serve_folder, watch):
    watched = watch()
    watched.page.goto(serve_folder(site) + "/index.html")
    watched.page.locator("#quarto-search input").fill("load_config")
    watched.page.locator("#quarto-search a", has_text="load_config").first.wait_for(timeout=10_000)
    assert not watched.problems


@pytest.mark.browser
@pytest.mark.parametrize("page", ["index.html", "config.html"])
def test_fits_a_phone(site, serve_folder, watch, page):
    watched = watch(width=390, height=800)
    watched.page.goto(f"{serve_folder(site)}/{page}")
    assert watched.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not watched.problems
