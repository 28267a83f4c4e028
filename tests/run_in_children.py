"""Runs ``fivl`` in children that are forked after the heavy imports, and kills them when it is told to.

A line of its input is a JSON object: ``command``, ``processes`` and ``kill_after`` (lines that its result files
have, or null). It prints the children's exit codes. Starting Python and torch for each would take ten times as long.
"""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import torch

import fivl_hf.cli.evaluate
import fivl_hf.evaluation.answerers.endpoint
import fivl_hf.evaluation.answerers.local
import fivl_hf.evaluation.results
import fivl_hf.explain.knockout_runner
import fivl_hf.explain.runner
import fivl_hf.models
import fivl_hf.storage  # noqa: F401
from fivl_hf.cli.main import main


def run(command: list[str], processes: int, kill_after: int | None, output: Path) -> list[int]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    children = [child(command, rank, processes, port) for rank in range(processes)]
    if kill_after is not None:
        while written(output) < kill_after and not any(ended(pid) for pid in children):
            time.sleep(0.001)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]


def child(command: list[str], rank: int, processes: int, port: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    if processes > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ["LOCAL_WORLD_SIZE"] = str(processes)
        os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
    code = 1
    try:
        code = main(command)
    finally:
        sys.stdout.flush()
        os._exit(code)


def written(output: Path) -> int:
    return sum(lines(file) for kind in ("answers", "scores", "knockout") for file in output.glob(f"{kind}*.jsonl"))


def lines(file: Path) -> int:
    try:
        return file.read_bytes().count(b"\n")
    except FileNotFoundError:  # a process's part that was taken into the table at this moment
        return 0


def ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        folder = Path(job["command"][job["command"].index("--output") + 1])
        codes = run(job["command"], job["processes"], job["kill_after"], folder)
        print(json.dumps(codes), flush=True)
