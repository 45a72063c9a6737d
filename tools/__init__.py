"""Tools for working on the notebooks; run them as `python -m tools.NAME` in the repository's root."""
