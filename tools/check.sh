#!/usr/bin/env bash
# All that CI checks, the cheap things first. Nothing here changes a file that git knows.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

step "notebooks clean, library in sync"
python -m tools.notebooks
step "lint"
ruff check .
step "docs site"
python -m tools.build_docs
step "nbdev_test"
nbdev_test --n_workers 2
step "pytest"  # last: its closing line ends the output
python -m pytest -q --numprocesses 2 --dist loadfile --durations=10
