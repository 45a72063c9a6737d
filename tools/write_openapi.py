"""Write the description of the HTTP API that tests/test_serve.py compares with the service's own.

    python -m tools.write_openapi
"""
import json
from types import SimpleNamespace

from tools.notebooks import ROOT

PATH = ROOT / "tests" / "openapi.json"


def describe() -> dict:
    "What /openapi.json says, without what depends on the versions of FastAPI and avmatch."
    from avmatch.serve import create_app
    api = create_app(engine=SimpleNamespace(tracks={})).openapi()
    api.pop("openapi")
    api["info"].pop("version")
    for schema in api["components"]["schemas"].values():
        for field in schema["properties"].values():
            for key in ("format", "contentMediaType"): field.pop(key, None)  # how a file is said to be bytes
    return api


if __name__ == "__main__":
    PATH.write_text(json.dumps(describe(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {PATH.relative_to(ROOT)}")
