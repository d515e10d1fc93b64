"""What Hugging Face's library raises while files are listed or fetched, in words: often one error wrapped in another."""

from __future__ import annotations

import errno
import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from flux_demo import folders
from flux_demo.environment import hub_address, hub_offline_variable, hub_token_variable, through_proxy
from flux_demo.errors import UNVERIFIED, Cancelled, DownloadFailed, causes

HUB = "https://huggingface.co"
TOKEN_PAGE = f"{HUB}/settings/tokens"
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
TRANSPORT = {
    "TimeoutException",
    "NetworkError",
    "ProxyError",
    "RemoteProtocolError",
    "TooManyRedirects",
    "InvalidURL",
}  # of httpx and httpx2
BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750


@contextmanager
def translated_errors(name: str, token: str | None) -> Iterator[None]:
    """Turn whatever the library raises into DownloadFailed, which is also raised, before anything is sent, for what cannot be a token."""
    if problem := token_problem(token):
        raise DownloadFailed(problem)
    try:
        yield
    except (DownloadFailed, Cancelled):
        raise
    except Exception as error:  # HTTP, network, disk and validation errors
        raise DownloadFailed(sentence_for(error, name)) from error


def way_to_hub() -> str:
    """How the Hub is reached, as a clause that names the variables which decide it; empty where none does."""
    address = hub_address()
    return (" at the address in HF_ENDPOINT" if address else "") + through_proxy(address or HUB)


def offline() -> str:
    """What is said where Hugging Face's library is told to stay off the network."""
    return f"{hub_offline_variable()} is set, so Hugging Face's library does not use the network. Unset it and start again."


def token_problem(token: str | None, prefix: str = "") -> str | None:
    """Why the token cannot be one, in two sentences; None if it can. Without one, Hugging Face's library sends its own."""
    from huggingface_hub import get_token

    sent = token or get_token()
    if not sent or (BEARER_TOKEN.fullmatch(sent) and sent.startswith(prefix)):
        return None
    why = (
        f"those begin with {prefix}"
        if BEARER_TOKEN.fullmatch(sent)
        else "it contains characters that no token has, such as a space or a quote"
    )
    return f"{hub_token_variable() or 'The token'} is not a Hugging Face token: {why}. Copy it again from {TOKEN_PAGE}."


def is_garbled(error: BaseException) -> bool:
    """Whether an answer arrived whole and cannot be unpacked. The library's transport is httpx or httpx2, by its version."""
    return type(error).__module__.startswith("httpx") and type(error).__name__ == "DecodingError"


def _is_network_failure(error: BaseException) -> bool:
    """Whether the connection failed. What the system refuses for a file names it."""
    if isinstance(error, OSError):
        return error.filename is None
    return any(base.__module__.startswith("httpx") and base.__name__ in TRANSPORT for base in type(error).__mro__)


def sentence_for(error: BaseException, name: str) -> str:
    """What happened to the files of a model, and what to do."""
    from huggingface_hub import errors

    chain = list(causes(error))

    def is_in_chain(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    page = f"https://huggingface.co/{name}"
    response = next((link.response for link in chain if isinstance(link, errors.HfHubHTTPError) and link.response is not None), None)
    status = None if response is None else response.status_code
    token_was_sent = response is not None and "authorization" in response.request.headers
    of_the_system = [link for link in chain if isinstance(link, OSError) and link.errno]
    if is_in_chain(errors.GatedRepoError):
        return (
            f"{name} is available only to accounts that have accepted its licence. "
            f"Accept it on {page}, set HF_TOKEN to a token of that account, and try again."
        )
    if is_in_chain(errors.OfflineModeIsEnabled):
        return offline()
    if is_in_chain(errors.HFValidationError):
        return f"{name!r} is neither a model on Hugging Face nor a folder. Check the name in the settings."
    if status == 401 and token_was_sent:
        return f"Hugging Face rejected the token: it is wrong, or has expired. Make a new one on {TOKEN_PAGE}, and set HF_TOKEN to it."
    if status == 401 or is_in_chain(errors.RepositoryNotFoundError):
        return (
            f"Hugging Face does not show {name} to you. "
            f"Check the name; if it is right, accept its licence on {page} and set HF_TOKEN to your token."
        )
    if status == 403 and token_was_sent and not is_in_chain(errors.DisabledRepoError):
        return (
            f"The token lacks the permission to read {name}. "
            f"Give it access to public gated repositories on {TOKEN_PAGE}, or set HF_TOKEN to a token that may read everything."
        )
    if any(link.errno in folders.FULL for link in of_the_system):
        return (
            f"The disk is full, and {name} is not complete yet. "
            "Free some space, or set HF_HOME or HF_HUB_CACHE to a larger disk, and fetch again: it continues where it stopped."
        )
    if any(link.errno in NOT_WRITABLE and link.filename for link in of_the_system):  # a connection that is forbidden has no file's name
        return (
            "This user may not write to the folder of Hugging Face's downloads. "
            "Set HF_HOME or HF_HUB_CACHE to a folder that can be written to, or change its owner, and fetch again."
        )
    if is_in_chain(ssl.SSLCertVerificationError):
        return UNVERIFIED
    if any(map(is_garbled, chain)):
        return f"Hugging Face's answer for {name} cannot be read: it is not compressed as it says. Try again later, or without a proxy in between."
    if status is not None:
        return f"Hugging Face answered with error {status} for {name}. Try again later: it continues where it stopped."
    way = way_to_hub()
    if is_in_chain(json.JSONDecodeError):
        return f"The answer for {name}{way} did not come from Hugging Face. Check whether the network asks you to sign in first, and try again."
    if not any(map(_is_network_failure, chain)):
        return f"Fetching {name} ended in an unexpected error ({type(error).__name__}). Try again: it continues where it stopped."
    checked = "the variable and the network" if way else "the network"
    return f"Hugging Face cannot be reached{way} for {name}. Check {checked}, and try again: it continues where it stopped."
