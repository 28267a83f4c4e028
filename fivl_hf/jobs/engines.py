"""Engines that run the shard function: here, in worker processes, or on a Ray cluster. All give the same rows."""

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fivl_hf.jobs.outcomes import Worker
from fivl_hf.jobs.shards import Job, ShardReport, run_job

__all__ = ["LocalEngine", "RayEngine", "WorkerFactory"]

# Makes the worker of a process, by its number, which chooses the GPU.
WorkerFactory = Callable[[int], Worker]


@dataclass(frozen=True)
class LocalEngine:
    """Worker processes on this machine; with one worker, everything happens in this process."""

    workers: int = 1

    def run(self, jobs: Iterable[Job], factory: WorkerFactory, folder: Path) -> Iterator[ShardReport]:
        """Reports of the jobs as they are done.

        Raises:
            OSError: a shard could not be written, or a worker process died.
            Exception: whatever making the tools, or reading the jobs, raised.
        """
        if self.workers == 1:
            tools = factory(0)
            yield from (run_job(job, tools, folder) for job in jobs)
            return
        # Workers share the cores already: threads of each one's matrix products would fight over them.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        # Forked, a worker would inherit locks that other threads hold, and CUDA would refuse to start in it.
        context = multiprocessing.get_context("spawn")
        numbers = context.Value("i", 0)
        with ProcessPoolExecutor(
            self.workers, mp_context=context, initializer=_start_worker, initargs=(numbers, factory)
        ) as pool:
            try:
                yield from self._spread(pool, iter(jobs), folder)
            except BrokenProcessPool as error:
                raise ChildProcessError(
                    "a worker process died (out of memory?); finished shards are kept, run it again to resume, "
                    "perhaps with fewer --workers"
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _spread(self, pool: ProcessPoolExecutor, jobs: Iterator[Job], folder: Path) -> Iterator[ShardReport]:
        """Keep every worker busy with one more job waiting, but no more, so that memory stays small."""
        pending: set[Future[ShardReport]] = set()
        for job in jobs:
            pending.add(pool.submit(_work, job, folder))
            full = len(pending) >= 2 * self.workers
            done, pending = wait(pending, timeout=None if full else 0, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
        yield from (future.result() for future in as_completed(pending))


@dataclass
class _Process:
    """State of a worker process: its number, and its worker once that is made."""

    number: int
    factory: WorkerFactory
    worker: Worker | None = None


_process: _Process


def _start_worker(numbers: Any, factory: WorkerFactory) -> None:
    """Watch the parent and take a number: the first thing that a worker process does."""
    global _process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with numbers.get_lock():
        _process = _Process(numbers.value, factory)
        numbers.value += 1


def _end_with_parent() -> None:
    # A killed parent cannot tell its workers to end.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(job: Job, folder: Path) -> ShardReport:
    # Made with the first job, not before: what goes wrong then reaches the user as it is.
    _process.worker = _process.worker or _process.factory(_process.number)
    return run_job(job, _process.worker, folder)


@dataclass(frozen=True)
class RayEngine:
    """Ray Data: actors that hold the models, on one machine or a cluster.

    Images named in an input file and the work folder must be at the same paths on every machine. Jobs go to Ray's
    object store (which spills to disk) before the first actor starts.

    Attributes:
        workers: actors.
        address: of a cluster; a local one is started if None.
        gpus_per_worker: GPUs (or a share of one) that each actor gets.
    """

    workers: int = 1
    address: str | None = None
    gpus_per_worker: float = 0.0

    def run(self, jobs: Iterable[Job], factory: WorkerFactory, folder: Path) -> Iterator[ShardReport]:
        """Reports of the jobs as they are done. Raises OSError if a shard could not be written."""
        try:
            import ray
        except ImportError as error:
            raise ImportError("--engine ray needs `pip install fivl-hf[ray]`") from error
        import pyarrow as pa

        ours = not ray.is_initialized()
        if ours:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        try:
            blocks: list[Any] = [
                ray.put(pa.table({"job": pa.array([_packed(job)], pa.large_binary())})) for job in jobs
            ]
            if not blocks:
                return
            cores = float(ray.cluster_resources().get("CPU", 1))
            # Ray's own tasks need a core, too: actors that take all of them would wait for ever.
            share = min(1.0, max(cores - 1, 0.5) / self.workers)
            ray.data.DataContext.get_current().enable_progress_bars = False
            logging.getLogger("ray.data").setLevel(logging.WARNING)
            reports = ray.data.from_arrow_refs(blocks).map_batches(
                _ShardActor,
                fn_constructor_args=(factory, str(Path(folder).resolve())),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=self.workers),
                num_cpus=share,
                num_gpus=self.gpus_per_worker or None,
            )
            for row in reports.iter_rows():
                yield _unpacked(row["report"])
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, OSError | ValueError) else RuntimeError(str(error)[-2000:])) from error
        finally:
            if ours:
                ray.shutdown()


class _ShardActor:
    """One Ray actor: makes its tools once, then runs jobs."""

    def __init__(self, factory: WorkerFactory, folder: str) -> None:
        # Ray shows an actor only the GPUs that it may use, so each is the first one's worker.
        self._tools, self._folder = factory(0), Path(folder)

    def __call__(self, batch: Any) -> Any:
        import pyarrow as pa

        reports = [run_job(_unpacked(job.as_py()), self._tools, self._folder) for job in batch.column("job")]
        return pa.table({"report": pa.array([_packed(report) for report in reports], pa.large_binary())})


def _packed(value: Any) -> bytes:
    from ray import cloudpickle

    return cloudpickle.dumps(value)


def _unpacked(data: bytes) -> Any:
    from ray import cloudpickle

    return cloudpickle.loads(data)
