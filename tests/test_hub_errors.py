"""What Hugging Face's library and the system raise, in words: which of them is said to be the network's fault, and which is not."""

import errno
import json

import httpx
import pytest
from huggingface_hub.errors import FileMetadataError

from flux_demo import hub
from flux_demo.errors import DownloadFailed
from flux_demo.hub_errors import sentence_for, token_problem


@pytest.mark.parametrize(
    ("number", "file", "word"),
    [
        ("EACCES", "/home/me/.cache/huggingface", "may not write"),
        ("EROFS", "/home/me/.cache/huggingface", "may not write"),
        ("EACCES", None, "cannot be reached"),  # a connection that is forbidden
        ("ENOSPC", None, "disk is full"),
        ("EDQUOT", None, "disk is full"),
    ],
)
def test_what_the_system_refuses_is_told_apart(number, file, word):
    error = OSError(getattr(errno, number), "refused", file)
    sentence = sentence_for(error, "us/model")
    assert word in sentence and "/home/me" not in sentence


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (httpx.ConnectError("no route"), "cannot be reached"),
        (httpx.ReadTimeout("silence"), "cannot be reached"),
        (httpx.RemoteProtocolError("broken off"), "cannot be reached"),
        (httpx.ProxyError("refused"), "cannot be reached"),
        (httpx.TooManyRedirects("a network that asks to sign in first"), "cannot be reached"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "cannot be reached"),
        (FileMetadataError("no ETag"), "cannot be reached"),
        (httpx.LocalProtocolError("illegal header"), "unexpected error (LocalProtocolError)"),
        (UnicodeEncodeError("ascii", "\u2026", 0, 1, "ordinal not in range"), "unexpected error (UnicodeEncodeError)"),
        (OSError(errno.EIO, "Input/output error", "/home/me/blobs/x"), "unexpected error (OSError)"),
        (KeyError("/home/me"), "unexpected error (KeyError)"),
        (json.JSONDecodeError("Expecting value", "<html>", 0), "did not come from Hugging Face"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_only_a_failed_connection_is_called_a_network_that_does_not_reach(error, word):
    sentence = sentence_for(error, "us/model")
    assert word in sentence and ("cannot be reached" in sentence) is (word == "cannot be reached")
    assert "/home/me" not in sentence and sentence.rstrip(".").count(". ") == 1


@pytest.mark.parametrize("token", ["hf_ab\u2026", "\u201chf_abc\u201d", "hf_ab cd", "hf_ab\ncd", '"hf_abcd"', "hf_ab\u00e9"])
def test_characters_that_no_token_has_are_said_before_anything_is_sent(token, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", token)
    for ask in (hub.download_size, hub.hub_hashes):
        with pytest.raises(DownloadFailed, match="^HF_TOKEN is not a Hugging Face token: it contains characters") as refused:
            ask("us/model", ["*"], token)
        assert token not in str(refused.value)


def test_a_token_that_may_be_one_is_sent(monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_ab\ncd")  # which the library puts together again
    for token in (None, "hf_abc", "a.mirrors+own/token==", "hf_oauth_eyJhbGciOi.J9-x_y"):
        assert token_problem(token) is None
