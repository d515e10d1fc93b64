"""A router of Hugging Face's Inference Providers on loopback."""

from dataclasses import replace

import pytest
from huggingface_hub import constants
from huggingface_hub.inference._providers import _common

from stand_ins.hf_router import TOKEN, Router


@pytest.fixture
def router(monkeypatch):
    with Router() as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", server.origin)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", server.origin)
        monkeypatch.setattr(constants, "INFERENCE_PROXY_TEMPLATE", server.template)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        _common._fetch_inference_provider_mapping.cache_clear()
        yield server
        _common._fetch_inference_provider_mapping.cache_clear()


@pytest.fixture
def chosen(settings):
    return replace(settings, backend="providers", hf_token=TOKEN)
