import pytest

from flux_demo import Settings, Studio
from flux_demo.gallery import Gallery


@pytest.fixture
def backend(recording_backend):
    backend = recording_backend()
    backend.model_name = lambda mode: "flat"
    return backend


@pytest.fixture
def studio(backend, tmp_path):
    return Studio(Settings(backend="mini"), [backend], Gallery(tmp_path / "outputs"))
