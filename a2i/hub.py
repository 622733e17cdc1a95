"""The Hugging Face Hub: whether it can be reached, and what it says of a model before a library asks for its files.

Libraries try for half a minute where there is no network, for each model anew, and say what is wrong in a page. Here the Hub is
asked once in a process; where it can't be reached the process is offline from then on, as by `HF_HUB_OFFLINE=1`: models that
are in the Hub's cache on this machine still load.
"""

import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from a2i.errors import first_line, without_account

WAIT = "HF_HUB_ETAG_TIMEOUT"  # the Hub's own variable for the seconds within which it has to answer
REACHED = 5.0  # these seconds where that is not set
# One of these is in the cache of any model that is there.
MARKS = ("captioner.json", "model_index.json", "config.json", "tokenizer_config.json", "tokenizer.json", "vocab.json")
NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)  # of a repository
LOG_IN = "log in (hf auth login, or HF_TOKEN=…)"

Given = TypeVar("Given")


class HubError(OSError):
    """Why a model can't be had from the Hub, and what to do, in one line; the model's name is not in it."""


@dataclass(frozen=True)
class Repository:
    """What the Hub says of a model.

    Attributes:
        licence: of the weights, as the model card's head has it; None where it has none.
        files: paths in it.
        private: whether only those see it whom its owner lets.
    """

    licence: str | None
    files: frozenset[str]
    private: bool = False


_lock = threading.Lock()
_reached: list[str | None] = []  # why the Hub can't be reached, once that is known
_known: dict[tuple[str, str | None], Repository] = {}


def endpoint() -> str:
    """The address of the Hub, to be told: `HF_ENDPOINT` without a password in it, else its own."""
    from huggingface_hub import constants

    return without_account(constants.ENDPOINT)


def is_offline() -> bool:
    """Whether the Hub may not be asked: `HF_HUB_OFFLINE=1`, or it was found that it can't be reached."""
    from huggingface_hub import is_offline_mode

    return is_offline_mode()


def went_offline() -> bool:
    """Whether this process is offline because the Hub can't be reached, and not because `HF_HUB_OFFLINE=1` was given."""
    return bool(_reached) and _reached[0] is not None


def unreachable() -> str | None:
    """Why the Hub can't be reached; None where it can. It is asked once in a process.

    Any answer will do but that of a server that is out of order (HTTP status 500 and above).
    """
    with _lock:
        if not _reached:
            _reached.append(_unreachable())
        return _reached[0]


def look_up(source: str | Path, revision: str | None = None, file: str | None = None) -> Repository | None:
    """What the Hub says of a model that is about to be loaded, so that what is wrong is known before anything is downloaded.

    Where the Hub can't be reached that is said once, and the process is offline from then on.

    Args:
        source: Hub id, or a local path, of which the Hub is not asked.
        revision: branch, tag or commit.
        file: that a model of this kind has, such as `model_index.json`; None where that is not known.

    Returns:
        None for a local path, and where the Hub can't be asked but the model is in its cache.

    Raises:
        HubError: the model can't be had: there is none of that name, it is private or gated, it is something else, or the
            Hub can't be asked and the model is not in its cache.
    """
    name = str(source)
    if not _is_hub_id(name):
        return None
    found = _known.get((name, revision)) or _look_up(name, revision, file)
    if found is None:  # in the cache: what it is its loader finds out
        return None
    _known[name, revision] = found
    if file is not None and file not in found.files:
        raise HubError(f"the Hub has something else under that name: there is no {file} in {_listed(found.files)}")
    return found


def why(error: BaseException) -> str:
    """What an error of a library says, in one line: the Hub's own reason where that is what it comes of."""
    from huggingface_hub.errors import HfHubHTTPError

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, HubError):
            return str(seen)
        if isinstance(seen, HfHubHTTPError):
            return _refused(seen)
        seen = seen.__cause__
    if isinstance(error, failures()[1]):
        return f"the connection to the Hub broke ({_plainly(error)}); the same again goes on with what has arrived"
    return first_line(error)


def failures() -> tuple[type[Exception], type[Exception]]:
    """What libraries raise where a model's files don't arrive: `OSError`, and the HTTP client's own error, which is none."""
    from huggingface_hub.errors import HfHubHTTPError

    bases: tuple[Any, ...] = HfHubHTTPError.__bases__
    return OSError, next(kind for kind in bases if not issubclass(kind, OSError))


def cached(source: str, revision: str | None = None, file: str | None = None) -> Path | None:
    """The folder of a model in the Hub's cache on this machine; it may lack files, after a download that broke off.

    Args:
        source: Hub id.
        revision: branch, tag or commit.
        file: that the model has, where that is known: a LoRA has nothing else.
    """
    from huggingface_hub import try_to_load_from_cache

    marks = MARKS if file is None else (file, *MARKS)
    found = (try_to_load_from_cache(source, mark, revision=revision) for mark in marks)
    return next((Path(path).parent for path in found if isinstance(path, str)), None)


def asked(name: str, revision: str | None = None, file: str | None = None) -> Repository:
    """What the Hub itself says of a model, whatever is on this machine under that name.

    Raises:
        HubError: it can't be had, or the Hub can't be asked.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()

    def ask() -> Any:
        found = api.model_info(name, revision=revision, timeout=_seconds())
        if found.gated and cached(name, revision, file) is None:
            api.auth_check(name)  # of a gated model everybody may know that it is there
        return found

    try:
        info = _within(_seconds(), ask)
    except HfHubHTTPError as error:
        raise HubError(_refused(error, revision)) from error
    except Exception as error:  # whatever else a network does to an answer
        raise HubError(f"the Hub gave no answer that can be read ({first_line(error)}); try again later") from error
    licence = info.card_data.get("license") if info.card_data else None
    named = info.card_data.get("license_name") if info.card_data else None
    told = named if licence == "other" and named else licence
    return Repository(
        " ".join(told.split()) if isinstance(told, str) else None,
        frozenset(each.rfilename for each in info.siblings or ()),
        bool(info.private),
    )


def _is_hub_id(name: str) -> bool:
    return bool(NAME.fullmatch(name)) and not os.path.exists(os.path.expanduser(name))


def _look_up(name: str, revision: str | None, file: str | None) -> Repository | None:
    if not is_offline() and (reason := unreachable()) is not None:
        _go_offline(reason)
    if is_offline():
        if cached(name, revision, file) is None:
            raise HubError(f"it is not in the Hub's cache on this machine, and {_why_offline()}")
        return None
    try:
        return asked(name, revision, file)
    except HubError:
        if cached(name, revision, file) is None:
            raise
        return None


def _refused(error: Any, revision: str | None = None) -> str:
    """What the Hub's refusal means, and what to do.

    Args:
        error: `HfHubHTTPError`.
        revision: that was asked for.
    """
    from huggingface_hub import errors

    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        page = f"{endpoint()}/{error.repo_id}" if error.repo_id else "its page on the Hub"
        return f"its owner has to give access: ask for it at {page}, then {LOG_IN}"
    if isinstance(error, errors.DisabledRepoError):
        return "the Hub has disabled it; choose another model"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {revision or 'of that name'}; expected a branch, tag or commit that it has"
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"it lacks {str(error.response.request.url).rpartition('/')[2]}, which is needed"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the Hub has none of that name, or a private one: check the name, or {LOG_IN}"
    if status == 401:
        return f"the Hub does not know who asks: {LOG_IN} with a token that is valid"
    if status == 403:
        return "the Hub does not allow this with the token that it was given; expected one with the right to it"
    if status == 429:
        waits = error.response.headers.get("Retry-After", "")
        when = f"in {waits} s" if waits.isdigit() else "later"
        return f"the Hub takes no more requests from here for now (HTTP status 429); try again {when}, or {LOG_IN}"
    if status >= 500:
        return f"the Hub answers with HTTP status {status}; try again later"
    return f"the Hub answers with HTTP status {status}" + (
        f": {first_line(said)}" if (said := error.server_message) else ""
    )


def _listed(files: frozenset[str]) -> str:
    shown = sorted(files)[:4]
    return (", ".join(shown) + (", …" if len(files) > len(shown) else "")) or "it, which is empty"


def _why_offline() -> str:
    if went_offline():
        return "the Hub can't be reached"
    return "HF_HUB_OFFLINE=1 keeps it from being downloaded"


def _go_offline(reason: str) -> None:
    """Have this process, and those that it starts, ask the Hub for nothing more."""
    from huggingface_hub import constants

    print(f"{reason}: what is on this machine will do", file=sys.stderr)
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True


def _unreachable() -> str | None:
    from huggingface_hub import constants, get_session

    def ask() -> int:
        return get_session().head(constants.ENDPOINT, timeout=_seconds(), follow_redirects=False).status_code

    try:
        status = _within(_seconds(), ask)
    except Exception as error:  # name resolution, proxies, certificates: each has errors of its own
        return f"the Hub can't be reached at {endpoint()} ({_plainly(error)})"
    return f"the Hub is out of order at {endpoint()} (HTTP status {status})" if status >= 500 else None


def _plainly(error: BaseException) -> str:
    """An error's line without the number that the system has for it."""
    return re.sub(r"^\[Errno -?\d+\] ", "", first_line(error))


def _seconds() -> float:
    from huggingface_hub import constants

    return float(constants.HF_HUB_ETAG_TIMEOUT) if os.environ.get(WAIT) else REACHED


def _within(seconds: float, call: Callable[[], Given]) -> Given:
    """What a call gives.

    Raises:
        TimeoutError: it did not end in time: looking a name up knows no timeout.
    """
    found: list[Given] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"no answer within {seconds:g} s; {WAIT}=30 waits longer")
    return found[0]
