import pytest

from flux_demo.backends.machine import find_card, look, main_memory, torch_has_cuda


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cuda: Optional[str] = '13.0'", True),
        ("cuda: Optional[str] = None", False),
        ('cuda = "12.8"', True),
        ("cuda = None\nhip: Optional[str] = '6.4'", False),
        ("", False),
    ],
)
def test_the_cuda_build_is_read_from_torchs_version_file(tmp_path, line, expected):
    (tmp_path / "version.py").write_text(f"__version__ = '2.13.0'\ndebug = False\n{line}\n")
    assert torch_has_cuda(tmp_path) is expected


def test_no_torch_is_no_cuda(tmp_path):
    assert torch_has_cuda(tmp_path / "nowhere") is False


def test_it_agrees_with_torch_itself():
    import torch

    assert torch_has_cuda() is (torch.version.cuda is not None)
    assert (find_card() is not None) >= torch.cuda.is_available()


def test_the_main_memory_is_told_in_bytes():
    assert main_memory() == look().memory_bytes
    assert main_memory() == 0 or main_memory() > 2**28
