"""The front door, without a service behind it."""

import pytest
from fastapi.testclient import TestClient

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, at its import


def test_an_error_that_nobody_expected_is_answered_in_json():
    """Here it is Serve's own, because this is no replica."""
    from flux_demo.serve_door import api

    answer = TestClient(api, raise_server_exceptions=False).post("/v1/infer", json={"prompt": "x"})
    assert answer.status_code == 500 and answer.json()["detail"].count(". ") == 1
