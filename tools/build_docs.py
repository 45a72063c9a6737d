"""Build the docs site into _docs/, without quarto and without the network.

    python -m tools.build_docs

Where quarto is installed, `nbdev_docs` does it from the same `_quarto.yml`. Here nbdev processes the notebooks
exactly as it does for quarto, and smalldocs renders them. What smalldocs does otherwise than quarto is mended:
names of pages before it runs (`stage`), and afterwards whatever a page would load from elsewhere (`finish`).
"""
import html
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools.notebooks import NBS, ROOT, all_notebooks, text

STAGED, SITE = ROOT / "_proc_small", ROOT / "_docs"
MATHS = re.compile(r'<span class="math (inline|display)">\\[(\[](.*?)\\[)\]]</span>', re.DOTALL)
KATEX = re.compile(r"<(link|script)[^>]*/npm/katex[^>]*>(</script>)?")
FONTS = re.compile(r"@import\s*url\([^)]*\)\s*;?")  # such an address has semicolons of its own: match up to the bracket
LOADED = re.compile(r'<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]+)"')


def page_names() -> dict[str, str]:
    "Notebook -> name by which nbdev's links call its page: 00_ingest.ipynb -> ingest.ipynb."
    paths = [p.relative_to(NBS) for p in all_notebooks()]
    return {p.as_posix(): p.with_name(re.sub(r"^\d+[a-z]?_", "", p.name)).as_posix() for p in paths}


def site_url() -> str:
    "Address of the published site, with which nbdev begins its links."
    from nbdev.config import get_config
    settings = get_config(path=ROOT)
    return (settings.doc_host + settings.doc_baseurl).rstrip("/")


def relink(source: str, root: str = ".") -> str:
    "Text of a page, `root` being the way from it to the site's folder, whose links lead to the pages' names, and stay inside the site."
    for notebook, page in page_names().items(): source = re.sub(rf"(?<![\w]){re.escape(notebook)}", page, source)
    return source.replace(site_url() + "/", root + "/")


def stage(processed: Path) -> None:
    "Copy nbdev's processed notebooks under their pages' names, since smalldocs does not know `output-file`."
    shutil.rmtree(STAGED, ignore_errors=True)
    shutil.copytree(processed, STAGED, ignore=shutil.ignore_patterns("_docs"))
    for notebook, page in page_names().items():
        content = json.loads((STAGED / notebook).read_text(encoding="utf-8"))
        (STAGED / notebook).unlink()
        for cell in content["cells"]: stage_cell(cell, ".." if "/" in page else ".")
        (STAGED / page).write_text(json.dumps(content), encoding="utf-8")
    config = (STAGED / "_quarto.yml").read_text(encoding="utf-8")
    (STAGED / "_quarto.yml").write_text(relink(config), encoding="utf-8")


def stage_cell(cell: dict, root: str) -> None:
    "Mend the links of one cell, and of the signatures that nbdev wrote into its outputs."
    source = text(cell["source"])
    if cell["cell_type"] == "raw": source = re.sub(r"(?m)^output-file:.*\n?", "", source)
    cell["source"] = source if cell["cell_type"] == "code" else relink(source, root)
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "text/markdown" in data: data["text/markdown"] = relink(text(data["text/markdown"]), root)


def finish(site: Path) -> None:
    "Make every page complete in itself, and let `View source` lead to the notebook's real name."
    from latex2mathml.converter import convert

    def mathml(found: re.Match) -> str:
        return convert(html.unescape(found[2]), display="block" if found[1] == "display" else "inline")

    for path in site.rglob("*.css"):  # the themes import web fonts; the system's own do as well
        css = path.read_text(encoding="utf-8")
        path.write_text(FONTS.sub(lambda m: "" if "//" in m[0] else m[0], css), encoding="utf-8")
    for path in site.rglob("*.html"):
        page = KATEX.sub("", MATHS.sub(mathml, path.read_text(encoding="utf-8")))
        for notebook, name in page_names().items(): page = page.replace(f"/{NBS.name}/{name}", f"/{NBS.name}/{notebook}")
        path.write_text(page, encoding="utf-8")
        if away := [url for url in LOADED.findall(page) if not url.startswith(site_url())]:
            sys.exit(f"{path.name} would load {away[0]}: the site must work without the network")


def smalldocs(command: str, *options: str) -> None:
    "Run smalldocs on the staged notebooks; stop where it finds fault."
    program = Path(sys.executable).with_name("smalldocs")
    done = subprocess.run([program, command, STAGED, *options], capture_output=True, text=True)
    if done.returncode: sys.exit(f"smalldocs {command} failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    from nbdev.serve import proc_nbs
    start = time.time()
    processed = proc_nbs(NBS, n_workers=2, force=True)
    stage(processed)
    smalldocs("render", "--strict")
    smalldocs("check")
    finish(STAGED / SITE.name)
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.move(STAGED / SITE.name, SITE)
    print(f"{len(list(SITE.rglob('*.html')))} pages in {SITE.name}/, {time.time() - start:.0f} s")


if __name__ == "__main__": main()
