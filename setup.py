"""Install avmatch. Every setting is in settings.ini, which nbdev reads too."""
import shlex
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(HERE / "settings.ini", encoding="utf-8")
settings = parser["DEFAULT"]


class BuildWithNotebooks(build_py):
    """Put the numbered notebooks into the wheel: they are the pipeline that `avmatch run` executes."""

    def run(self):
        super().run()
        if self.editable_mode: return  # a checkout runs the notebooks where they are, in nbs/
        folder = Path(self.build_lib, "avmatch", "notebooks")
        shutil.rmtree(folder, ignore_errors=True)  # an earlier build may have left one that is now named otherwise
        folder.mkdir(parents=True)
        for path in (*sorted(HERE.glob("nbs/[0-9][0-9]_*.ipynb")), HERE / "nbs/matplotlibrc"):
            shutil.copy(path, folder)


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=settings["keywords"],
    author=settings["author"],
    author_email=settings["author_email"],
    url=settings["git_url"],
    license="Apache-2.0",
    python_requires=">=" + settings["min_python"],
    install_requires=shlex.split(settings["requirements"]),
    extras_require={name: shlex.split(settings[f"{name}_requirements"]) for name in ("clap", "clip", "parquet", "tensorboard", "dev")},
    packages=find_packages(include=["avmatch", "avmatch.*"]),
    package_data={"avmatch": ["ui/*", "data/*"]},  # the page's static files and small generated tables
    cmdclass={"build_py": BuildWithNotebooks},
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [f"{settings['lib_path']}={settings['lib_path']}._modidx:d"],  # lets nbdev link names to their pages
    },
    zip_safe=False,
)
