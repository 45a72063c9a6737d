"""Seconds of each stage of the pipeline, from scratch, beside what its notebook costs before it does any work.

    python benchmarks/stages.py [--videos DIR] [--json] [-p stage.key=value ...]

The second column is the same stage run again on unchanged input (`--force`): the price of a kernel, of the imports and of
the notebook's own examples and tests. The rest is work on the clips.
"""
import argparse
import json
import tempfile

from avmatch.config import load_config, parse_changes
from avmatch.pipeline import run_pipeline
from avmatch.workspace import Workspace


def seconds(config, workspace: Workspace) -> dict[str, float]:
    "Run every stage and return how long each took (s)."
    run = run_pipeline(config, workspace, force=True, say=lambda line: None)
    return {name: record["seconds"] for name, record in run["stages"].items()}


def main() -> None:
    "Run the pipeline twice in a temporary workspace and print a table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", default="", help="folder of videos (default: generated samples)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-p", dest="changes", action="append", default=[], metavar="STAGE.KEY=VALUE")
    args = parser.parse_args()
    changes = parse_changes(args.changes)
    if args.videos: changes.setdefault("ingest", {}).update(source="folder", videos=args.videos)
    config = load_config(changes)
    with tempfile.TemporaryDirectory() as folder:
        first, again = (seconds(config, Workspace(folder + "/data")) for _ in range(2))
    rows = [{"name": name, "seconds": first[name], "again": again[name], "unit": "s"} for name in first]
    rows.append({"name": "all", "seconds": round(sum(first.values()), 2), "again": round(sum(again.values()), 2), "unit": "s"})
    if args.json: print(json.dumps(rows, indent=1))
    else: print("\n".join(f"{r['name']:16}{r['seconds']:8.1f} s {r['again']:8.1f} s again" for r in rows))


if __name__ == "__main__": main()
