"""The table that the speed benchmarks share: ours beside the report's recipe and beside what the machine allows.

Ratios are ours divided by the other, in the same unit: 6 means six times as many where the unit is clips a second, and six times
as long where it is seconds. What was not measured is None, and a dash in the table.
"""
import argparse
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path


def machine() -> str:
    "The processor, how many cores of it may be used, and the versions that decide how fast it is."
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")] or [platform.processor() or platform.machine()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "onnxruntime", "openvino") if find_spec(name))
    return f"{names[0]}, {cores} cores; Python {platform.python_version()}, {packages}"


def row(name: str, ours: float, unit: str, *, recipe: float | None = None, bound: float | None = None) -> dict:
    "One figure, with its ratios to the other two."
    ratio = lambda other: None if not other else ours / other
    return {"name": name, "ours": ours, "recipe": recipe, "bound": bound, "unit": unit,
            "ratio_to_recipe": ratio(recipe), "ratio_to_bound": ratio(bound)}


def show(rows: Sequence[dict], title: str, args: argparse.Namespace) -> None:
    "Print the rows, as JSON or as a table below a title and the machine, and keep them if that was asked for."
    if args.save:
        args.save.write_text(json.dumps({"title": title, "machine": machine(), "rows": list(rows)}, indent=1) + "\n", encoding="utf-8")
    if args.json: return print(json.dumps(list(rows), indent=2))
    cell = lambda value: f"{'-' if value is None else format(value, '.4g'):>11}"
    wide, unit = (max(len(r[key]) for r in rows) for key in ("name", "unit"))
    print(f"{title}\n{machine()}\n\n{'':<{wide}}{'ours':>11}{'recipe':>11}{'bound':>11} {'unit':<{unit}}{'x recipe':>11}{'x bound':>11}")
    for r in rows:
        print(f"{r['name']:<{wide}}" + "".join(cell(r[k]) for k in ("ours", "recipe", "bound")) + f" {r['unit']:<{unit}}"
              + "".join(cell(r[k]) for k in ("ratio_to_recipe", "ratio_to_bound")))


def parser(doc: str) -> argparse.ArgumentParser:
    "The options that all of them have."
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print JSON: a list of rows")
    made.add_argument("--save", type=Path, metavar="FILE", help="keep the rows and the name of the machine in a JSON file, too")
    return made
