"""Each cause has its own sentence, wherever in the chain of errors it stands."""

import errno

import pytest

from flux_demo.engine.load import reading
from flux_demo.errors import GenerationFailed
from flux_demo.failures import FAILURES, GPU_MEMORY, MAIN_MEMORY, failure_in_run, failure_of
from flux_demo.settings import ASSETS

CASES = [
    (OSError("The paging file is too small for this operation to complete. (os error 1455)"), "paging file", MAIN_MEMORY),
    (RuntimeError("unable to mmap 23802932552 bytes from file: Cannot allocate memory (12)"), "main memory ran out", MAIN_MEMORY),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "main memory ran out", MAIN_MEMORY),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "main memory ran out", MAIN_MEMORY),
    (
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        "main memory ran out",
        MAIN_MEMORY,
    ),
    (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), "GPU's memory ran out", GPU_MEMORY),
    (RuntimeError("CUDA error: out of memory"), "GPU's memory ran out", GPU_MEMORY),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "GPU's memory ran out", GPU_MEMORY),
    (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "no code for this GPU", None),
    (RuntimeError("The NVIDIA driver on your system is too old (found version 11040)"), "driver is too old", None),
    (OSError(errno.EMFILE, "Too many open files"), "open more files", None),
    (FileNotFoundError(errno.ENOENT, "No such file or directory"), "is missing", None),
    (PermissionError(errno.EACCES, "Permission denied"), "cannot be read: permission", None),
    (OSError(errno.EIO, "Input/output error"), "disk reported an error", None),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), "reported an error", None),
]


def wrapped(error):
    """As libraries raise it: within an error that says nothing, which came while another was handled."""
    try:
        try:
            raise error
        except Exception as cause:
            raise OSError("Unable to load weights from checkpoint file") from cause
    except OSError as outer:
        try:
            raise ValueError("something else")  # noqa: B904  as libraries do
        except ValueError as last:
            assert last.__context__ is outer
            return last


@pytest.mark.parametrize(("error", "words", "ran_out"), CASES, ids=[words for _, words, _ in CASES])
def test_a_cause_is_found_by_itself_and_deep_in_the_chain(error, words, ran_out):
    for each in (error, wrapped(error)):
        failure = failure_of(each)
        assert words in failure.sentence and failure.ran_out == ran_out


@pytest.mark.parametrize(("error", "words", "ran_out"), CASES, ids=[words for _, words, _ in CASES])
def test_loading_says_the_cause_and_lets_running_out_through(error, words, ran_out):
    with pytest.raises(type(error) if ran_out else GenerationFailed) as caught, reading("transformer"):
        raise error
    assert ran_out or words in str(caught.value)


@pytest.mark.parametrize(("error", "words", "ran_out"), CASES, ids=[words for _, words, _ in CASES])
def test_in_a_run_only_memory_and_the_device_are_blamed(error, words, ran_out):
    """A closed terminal has the disk's errno, and a page's own folder may be gone."""
    assert bool(failure_in_run(error)) == (ran_out is not None or isinstance(error, RuntimeError))


def test_an_unknown_error_is_a_damaged_file_and_a_circle_ends():
    error = ValueError("header too large")
    error.__context__ = error
    assert failure_of(error) is None
    with pytest.raises(GenerationFailed, match="damaged"), reading("VAE"):
        raise ValueError("header too large")


def test_every_sentence_says_what_to_do():
    assert all(failure.ran_out or failure.sentence.rstrip(".").count(". ") == 1 for failure in FAILURES)


def test_the_page_of_troubleshooting_has_every_failure():
    page = (ASSETS.parent / "docs" / "troubleshooting.md").read_text("utf-8")
    for failure in FAILURES:
        assert f"| {failure.sentence.partition('. ')[0].removesuffix('.')}. |" in page, failure.sentence
