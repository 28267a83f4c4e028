"""Work in a process of its own: with limits on its time and memory, or killed at one of its steps."""

import os
import pickle
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A death that nothing in the child can catch or clean up after.
_KILLED = 9


def limited(work: Callable[[], Any], *, seconds: int = 20, megabytes: int = 500) -> Any:
    """What ``work`` returns or raises in a child that may take so much time, and memory beyond what is taken now."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _limited_child(work, writing, seconds, megabytes)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    status = os.waitpid(child, 0)[1]
    assert data, f"ended by {signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else status}"
    result, error = pickle.loads(data)
    if error is not None:
        raise error
    return result


def _limited_child(work: Callable[[], Any], pipe: int, seconds: int, megabytes: int) -> None:
    try:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + megabytes * 1_000_000,) * 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            outcome = (work(), None)
        except Exception as error:
            outcome = (None, error)
        try:
            data = pickle.dumps(outcome)
        except Exception:
            data = pickle.dumps((None, RuntimeError(repr(outcome))))
        with os.fdopen(pipe, "wb") as file:
            file.write(data)
    finally:
        os._exit(0)


def killed_at(step: int, work: Callable[[], Any], owner: Any, names: tuple[str, ...]) -> bool:
    """Run ``work`` in a child that dies at its ``step``-th call of one of these functions of ``owner``.

    Returns:
        Whether there were that many; if not, the work was finished.
    """
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, _KILLED), f"the child failed ({code})"
        return code == _KILLED
    done = 0

    def counting(original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done == step:
                os._exit(_KILLED)
            return original(*args, **kwargs)

        return call

    code = 1
    try:
        for name in names:
            setattr(owner, name, counting(getattr(owner, name)))
        work()
        code = 0
    finally:
        os._exit(code)
