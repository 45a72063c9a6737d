"""Requests made up from the OpenAPI document: whatever fits it, or nearly does, is answered as the document says."""
import json

import pytest
from hypothesis import HealthCheck, given, settings
from serving import FakeEngine, make_app

from tools.write_openapi import PATH

schemathesis = pytest.importorskip("schemathesis")
CHECKS = {"not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"}
OPERATIONS = [(path, method) for path, methods in json.loads(PATH.read_text(encoding="utf-8"))["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return schemathesis.openapi.from_asgi("/openapi.json", make_app(FakeEngine(tmp_path_factory.mktemp("sounds"))))


@pytest.mark.parametrize("path, method", OPERATIONS)
def test_every_answer_is_as_the_document_says(api, path, method):
    wanted = [check for check in schemathesis.checks.CHECKS.get_all() if check.__name__ in CHECKS]
    assert len(wanted) == len(CHECKS)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=api[path][method].as_strategy())
    def ask(case):
        response = case.call()
        if (path, response.status_code) != ("/ready", 503): case.validate_response(response, checks=wanted)
    ask()
