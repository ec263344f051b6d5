"""Supervise the processes that train one run on several devices, of this machine or of several.

Started by `workflows.launch` as `python -m tunebook.workflows.ranks RUN_FOLDER N`, on each host.
The ranks are trainers, started by `torch.distributed.run`; rank 0, on the first host, is the one
that has the run's lock and writes. When one of them dies or stands still, or a host is not heard of
any more, the others would wait for it: all are ended, and the run is left paused with a word that
names it. HOSTS in the environment has who the hosts are.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil

from tunebook.book.events import EventWriter, cut_torn_lines, next_attempt, read_events
from tunebook.book.liveness import ENDED, acquire_run, current_state, trainer_here
from tunebook.book.places import RunFolder
from tunebook.errors import RankOutOfMemory, TunebookError
from tunebook.workflows.hosts import HOSTS, Hosts, HostWatch, interface_to, read_hosts

STOPPED_SECONDS = 30.0
"""A rank that is stopped for so long, while others are not, is given up."""
_POLL_SECONDS = 0.25
# torchrun ends this long after its ranks at the most; else it waits for another host.
_END_SECONDS = 15.0


@dataclass
class _Ranks:
    """The processes of a run, as far as they have started, and what is known of their end."""

    size: int
    hosts: Hosts | None = None
    failed: Mapping[int, Any] | None = None
    bug: BaseException | None = None
    stopped_since: dict[int, float] = field(default_factory=dict)
    signals: list[int] = field(default_factory=list)
    """Those that came and were not passed on to a rank yet."""
    lived: bool = False
    """Whether a rank of this host was ever seen: before that torchrun waits for all hosts."""
    killed: float | None = None
    """When they were first ended from here."""

    @property
    def follows(self) -> bool:
        """Tell whether another host has rank 0, which writes."""
        return self.hosts is not None and self.hosts.number > 0

    def living(self) -> dict[int, psutil.Process]:
        """Find the ranks that run now."""
        found = {}
        for process in psutil.Process().children():
            try:
                rank = process.environ().get("RANK")
                if rank is not None and process.status() != psutil.STATUS_ZOMBIE:
                    found[int(rank)] = process
            except psutil.Error:
                continue
        self.lived = self.lived or bool(found)
        return found

    def kill(self) -> None:
        """End them at once, stopped ones too."""
        self.killed = self.killed or time.monotonic()
        for process in self.living().values():
            try:
                process.kill()
            except psutil.Error:
                continue

    def standing_still(self, seconds: float) -> int | None:
        """Find a rank that has been stopped for so long while another was not."""
        living = self.living()
        stopped = {r for r, p in living.items() if _status(p) == psutil.STATUS_STOPPED}
        now = time.monotonic()
        # All of them stopped is somebody's wish: a pause of the whole machine, say.
        if len(stopped) == len(living):
            stopped = set()
        self.stopped_since = {r: self.stopped_since.get(r, now) for r in stopped}
        return next((r for r, t in self.stopped_since.items() if now - t >= seconds), None)


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.Error:
        return ""


def main(folder: str, size: int, stopped_seconds: float = STOPPED_SECONDS) -> int:
    """Train the run in a folder on so many devices; gives the exit code that the run ended with."""
    path = Path(folder)
    run = RunFolder(path.parent.parent, path.name)
    hosts = read_hosts(os.environ[HOSTS]) if HOSTS in os.environ else None
    ranks = _Ranks(size, hosts)
    _die_with_launcher(ranks)
    send = _noting_signals(run, ranks)
    watch = None if hosts is None else HostWatch(hosts)
    starting = threading.Thread(target=_run_ranks, args=(folder, ranks), daemon=True)
    starting.start()
    word = None
    while starting.is_alive():
        starting.join(_POLL_SECONDS)
        send()
        still = ranks.standing_still(stopped_seconds)
        if still is not None and word is None:
            word = f"stood still for {stopped_seconds:g} s (stopped by a signal) and was ended"
            word = f"rank {still} of {size} {word}"
        if watch is not None and word is None:
            word = watch.silent()
        if word is not None:
            ranks.kill()
        if hosts is not None and starting.is_alive():
            _leave_without_ranks(run, ranks, word)
    if watch is not None:
        watch.close()
    if ranks.bug is not None:
        if hosts is not None and word is not None:
            _leave(run, ranks, word, 1)
        raise ranks.bug
    if ranks.failed is None:
        return 0
    return _end(run, ranks, word)


def _run_ranks(folder: str, ranks: _Ranks) -> None:
    _set_environment(ranks)
    # Seconds of import that the launcher shall not wait for.
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        with tempfile.TemporaryDirectory(prefix="tunebook-ranks-") as mine:
            where = _meeting(ranks.hosts, Path(mine))
            where += ["--nproc-per-node", str(ranks.size)]
            torchrun([*where, "-m", "tunebook.workflows.trainer", folder, "--many"])
    except ChildFailedError as error:
        ranks.failed = error.failures
    except BaseException as error:  # raised again where it ends the process
        ranks.bug = error


def _meeting(hosts: Hosts | None, mine: Path) -> list[str]:
    """Give torchrun's options for where its ranks meet; those of one host do in a folder.

    On ports it would listen for every machine, ask for no key, and unpickle what it is told.
    `mine` is a folder that no other account may enter.
    """
    from tunebook.step.team import MEET_IN

    if hosts is None:
        os.environ[MEET_IN] = str(mine / "ranks")
        found = ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file"]
        found += ["--rdzv-endpoint", str(mine / "torchrun"), "--rdzv-id", mine.name]
        return [*found, "--nnodes", "1", "--local-addr", "127.0.0.1"]
    os.environ.pop(MEET_IN, None)
    found = ["--nnodes", str(hosts.count), "--node-rank", str(hosts.number)]
    return [*found, "--master-addr", hosts.host, "--master-port", str(hosts.port)]


def _set_environment(ranks: _Ranks) -> None:
    """Set what the ranks begin with; what the user has set stays."""
    # One host: nothing is offered to others, and no host name needs to be known.
    interface: str | None = "lo0" if sys.platform == "darwin" else "lo"
    if ranks.hosts is not None:
        interface = interface_to(ranks.hosts.host)
    for name, value in {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // ranks.size)),
        **({} if interface is None else {"GLOO_SOCKET_IFNAME": interface}),
        # A store of torchrun's own, that dies with the ranks: with a shared one a run that was
        # killed could not be started again.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        # How long the others are given when one has died: they only wait for it.
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "3",
    }.items():
        os.environ.setdefault(name, value)


def _die_with_launcher(ranks: _Ranks) -> None:
    """End all as soon as standard input closes; each rank reads the same pipe for itself."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        ranks.kill()
        os._exit(137)

    threading.Thread(target=wait, daemon=True).start()


def _noting_signals(run: RunFolder, ranks: _Ranks) -> Callable[[], None]:
    """Take signals; gives a function that passes them on to rank 0 once it trains the run."""
    pending = ranks.signals

    def note(number: int, _frame: FrameType | None) -> None:
        pending.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, note)

    def send() -> None:
        living = ranks.living()
        first = living[min(living)] if living else None
        if not pending or first is None:
            return
        # Before that nobody would take it: rank 0 says by its heartbeat that it does.
        trainer = trainer_here(run)
        if first.pid == trainer or (ranks.follows and current_state(run) == "running"):
            first.send_signal(pending.pop(0))

    return send


def _leave_without_ranks(run: RunFolder, ranks: _Ranks, word: str | None) -> None:
    """End this process where it has no ranks and torchrun, in its thread, waits for other hosts."""
    if ranks.living() or not (word or ranks.signals):
        return
    if ranks.lived:
        if ranks.killed is None or time.monotonic() - ranks.killed < _END_SECONDS:
            return
    elif word is None:
        number = ranks.signals[0]
        word = f"stopped by {signal.Signals(number).name} while it waited for the other hosts"
        _leave(run, ranks, word, 130 if number == signal.SIGINT else 143)
    _leave(run, ranks, word or "", 1)


def _leave(run: RunFolder, ranks: _Ranks, word: str, code: int) -> NoReturn:
    """Say and write down why the run is paused, and end this process with torchrun in it."""
    if ranks.follows:
        print(f"this host has ended: {word}", file=sys.stderr)
    else:
        _write_down(run, ranks, "paused", f"{word}; {_again(run)}")
    sys.stderr.flush()
    os._exit(code)


def _end(run: RunFolder, ranks: _Ranks, word: str | None) -> int:
    """Say how the ranks ended, and write it down where rank 0 could not."""
    # In the order in which they ended; those after the first were ended on its account.
    rank, failure = next(iter((ranks.failed or {}).items()))
    code = int(failure.exitcode)
    if ranks.follows:  # the first host writes down how the run ended
        print(f"the ranks of this host have ended: {word or _how(code)}", file=sys.stderr)
        return 1
    if word is None and rank == 0 and code > 0:
        return code  # the trainer has said why
    no_memory = code == RankOutOfMemory.exit_code
    state = "paused" if word or code < 0 or no_memory else "failed"
    reason = word or f"rank {rank} of {ranks.size} {_how(code)}"
    reason += f"; {_again(run)}"
    if isinstance(failure.message, dict) and word is None:  # what the rank has said itself
        said = str(failure.message["message"]).partition(": ")[2]
        reason = said if no_memory else f"rank {rank} of {ranks.size}: {said}"
    _write_down(run, ranks, state, reason)
    return 1


def _again(run: RunFolder) -> str:
    return f"`tunebook resume {run.name}` goes on from the newest checkpoint"


def _write_down(run: RunFolder, ranks: _Ranks, state: str, reason: str) -> None:
    """Print how the run ended, and write it into its events where rank 0 has not."""
    print(f"{state}: {reason}", file=sys.stderr)
    try:
        with acquire_run(run):
            cut_torn_lines(run)
            last = read_events(run).last_state
            # Without ranks this attempt has no events yet: what is there is of an earlier one.
            began = ranks.lived or ranks.failed is not None
            if last == "running" or not (began or last in ENDED):
                attempt = max(next_attempt(run) - int(began), 1)
                with EventWriter(run, attempt) as events:
                    events.write("state", {"state": state, "reason": reason})
    except (TunebookError, OSError) as error:
        print(f"the last state could not be written: {error}", file=sys.stderr)


def _how(code: int) -> str:
    if code >= 0:
        return f"broke off with exit code {code} (its last words are in train.log)"
    name = signal.Signals(-code).name
    more = ": out of memory, if nobody did it" if -code == signal.SIGKILL else ""
    return f"was killed ({name}{more})"


if __name__ == "__main__":
    try:
        code = main(sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:]))
    except TunebookError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    sys.exit(code)
