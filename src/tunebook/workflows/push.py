"""Upload a released folder to the Hugging Face hub, or say what would be uploaded.

The token is the hub client's own matter: HF_TOKEN or its login. It is never written or shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunebook.book.checkpoints import MANIFEST
from tunebook.book.released import check_folder
from tunebook.errors import PushFailed, UsageError, first_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Say = Callable[[str], None]
_OF_THE_HUB = ".gitattributes"
_PUBLIC = "public, unless its owner's default is private; one that is there stays as it is"
_TOKEN = "set HF_TOKEN to a token that may write, or log in with `hf auth login`"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to push: `org/name`, and a branch that is made where it is not there."""

    repo: str
    private: bool = False
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What a push would do: the bytes of every file, and the calls of the hub's client in order."""

    repo: str
    visibility: str
    revision: str
    files: Mapping[str, int]
    calls: tuple[str, ...]


def find_target(repo: str, *, private: bool, revision: str | None) -> Target:
    """Read where to push to; UsageError for what is no `org/name`."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UsageError(f"--push {repo}: {first_line(error)}; say org/name") from None
    if repo.count("/") != 1:
        raise UsageError(f"--push {repo}: name the organization or user too, as org/{repo}")
    return Target(repo, private, revision)


def plan_push(folder: Path, target: Target) -> PushPlan:
    """Say what a push would do, without a word to the network.

    Raises ReleaseTampered where the folder is not what was released.
    """
    names = [*sorted(check_folder(folder).files), MANIFEST]
    branch = target.revision or "main"
    visible = "private=True" if target.private else "private=None"
    calls = [f"create_repo({target.repo!r}, {visible}, exist_ok=True)", "repo_info(...)"]
    if target.revision is not None:
        calls.append(f"create_branch({target.repo!r}, branch={branch!r}, exist_ok=True)")
    calls.append(f"upload_folder({len(names)} files of {folder.name} to {branch!r})")
    calls.append("list_repo_files(...)")
    return PushPlan(
        target.repo,
        "private" if target.private else _PUBLIC,
        branch,
        {name: (folder / name).stat().st_size for name in names},
        tuple(calls),
    )


def push(folder: Path, target: Target, message: str, say: Say) -> str:
    """Upload every file of a released folder in one commit, and give the commit's address.

    Raises ReleaseTampered before anything is sent where the folder is not what was released;
    PushFailed where the hub cannot be reached, refuses the token, or has the repository in public
    while `private` was asked for. The folder stays as it is.
    """
    plan = plan_push(folder, target)
    token = _token(folder)
    try:
        return _upload(folder, target, plan, message, say)
    except PushFailed:
        raise
    except Exception as error:  # the hub's client passes on whatever its own libraries raise
        # A server may repeat what it was sent.
        why = _why(error, target).replace(token, "...")
        raise PushFailed(f"{target.repo} was not pushed: {why}; {_kept(folder)}") from None


def _token(folder: Path) -> str:
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise PushFailed(f"nothing was pushed: HF_HUB_OFFLINE is set; unset it; {_kept(folder)}")
    token = get_token()
    if token is None:
        raise PushFailed(f"nothing was pushed: there is no token; {_TOKEN}; {_kept(folder)}")
    return token


def _kept(folder: Path) -> str:
    return f"{folder} is kept, and the same command pushes it"


def _upload(folder: Path, target: Target, plan: PushPlan, message: str, say: Say) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi()
    api.create_repo(target.repo, private=target.private or None, exist_ok=True)
    public = not api.repo_info(target.repo).private
    if target.private and public:
        raise PushFailed(
            f"{target.repo} is there already and public, and --private was asked for; make it "
            f"private on its page, or name another; {_kept(folder)}"
        )
    say(f"uploading {len(plan.files)} files to {target.repo} ({'public' if public else 'private'})")
    if target.revision is not None:
        api.create_branch(target.repo, branch=target.revision, exist_ok=True)
    done = api.upload_folder(
        repo_id=target.repo,
        folder_path=folder,
        revision=target.revision,
        commit_message=message,
        allow_patterns=list(plan.files),
    )
    _tell_of_others(api, target, plan, say)
    return str(done.commit_url)


def _tell_of_others(api: HfApi, target: Target, plan: PushPlan, say: Say) -> None:
    """Say which files of an earlier time lie beside those that were pushed."""
    try:
        there = api.list_repo_files(target.repo, revision=target.revision)
    except Exception as error:  # the files are there by now, whatever comes of this
        say(f"whether {target.repo} holds other files was not found out: {type(error).__name__}")
        return
    others = sorted(set(there) - plan.files.keys() - {_OF_THE_HUB})
    if others:
        more = ", …" if len(others) > 3 else ""
        say(
            f"{target.repo} also holds {', '.join(others[:3])}{more} of before, which are no part "
            "of this release; delete them there unless they are meant"
        )


def _why(error: Exception, target: Target) -> str:
    response: Any = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status == 401:
        return f"the hub does not take the token (401); {_TOKEN}"
    if status == 403:
        owner = target.repo.partition("/")[0]
        return f"the token may not write to {owner} (403); {_TOKEN}"
    said = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    if status is not None:
        return f"the hub answered {status} ({said})"
    return said if isinstance(error, ValueError) else f"{said}; check the network"
