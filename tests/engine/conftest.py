"""A tiny FLUX with random weights, in diffusers' layout, and the stock pipelines made of the same parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.engine.tiny import build


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``transformer``, ``transformer_canny``, ``transformer_depth`` and everything they share; float32."""
    return build(tmp_path_factory.mktemp("tiny"), torch.float32)


@pytest.fixture(scope="session")
def tiny_bfloat16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("tiny_bfloat16"), torch.bfloat16)
