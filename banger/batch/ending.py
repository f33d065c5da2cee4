"""What is done with jobs that have ended, on the front: their files are fetched, merged, and written.

Files are fetched as jobs end, a few at a time, so that little is left to do at the batch's end. What cannot
be fetched is complained of, and changes no verdict.
"""

from __future__ import annotations

import itertools
import queue
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from banger.batch.files import ARTIFACT_BOUNDS, JUNIT_BOUNDS, job_directory, unpack_files
from banger.batch.files_left import FileName, Piece
from banger.batch.joblog import read_lines, shown_line
from banger.batch.merged import JobFiles, merge
from banger.batch.outputs import Outputs
from banger.batch.patience import patiently
from banger.batch.state import BatchInfo, JobState, Verdict
from banger.batch.summary import render_summary
from banger.batch.verdict import WRONG
from banger.contracts.errors import BangerError, NotFoundError, UnavailableError

T = TypeVar("T")

TAIL_LINES = 20
_TAIL_BYTES = 32 * 1024
_AT_ONCE = 3
_POLL_S = 0.02
_MAX_LOG_BYTES = 80 << 20  # a little more than a host writes
_MAX_TAR_BYTES = ARTIFACT_BOUNDS.bytes
_MAX_JUNIT_BYTES = 1 << 30  # of all jobs: what is merged is far less
_SILENT_TWICE = 2


class Files(Protocol):
    """Where files of jobs come from: ``BatchClient``."""

    def piece(self, job: JobState, batch: str, file: FileName, offset: int = 0) -> Piece:
        """Return a piece of a file of a job's last attempt, and the file's size."""


class _Collected:
    """What was fetched of a job."""

    def __init__(self, job: JobState) -> None:
        self.job = job
        self.said = threading.Event()  # the end of its log is there, or will not be
        self.tail: tuple[str, ...] = ()
        self.junit: tuple[Path, ...] = ()


class Ending:
    """Takes jobs as they end. A context: what it needs meanwhile is gone at its end."""

    def __init__(self, files: Files, batch: BatchInfo, outputs: Outputs) -> None:
        self._files = files
        self._batch = batch
        self._outputs = outputs
        self._collected: dict[tuple[int, int], _Collected] = {}
        self._due: queue.PriorityQueue[tuple[int, int, Callable[[], None]]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._silent: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._junit_bytes = 0
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._scratch = Path(tempfile.mkdtemp(prefix="banger-batch-"))
        for _ in range(_AT_ONCE):
            threading.Thread(target=self._work, daemon=True).start()

    def __enter__(self) -> Ending:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    # --- while it runs ---------------------------------------------------------------------------

    def take(self, job: JobState) -> None:
        """Fetch what is wanted of a job that has ended; once for each attempt that was its last."""
        key = (job.index, job.attempt)
        if key in self._collected:
            return
        collected = self._collected[key] = _Collected(job)
        if not job.attempts or job.attempts[-1].host is None:
            collected.said.set()
            return
        # What is seen first comes first: how the logs of those end that went wrong.
        wrong = job.verdict in WRONG
        if wrong or self._outputs.logs:
            self._order(0 if wrong else 2, lambda: self._fetch_log(collected))
        else:
            collected.said.set()
        if self._outputs.junit and job.files.get("junit"):
            self._order(1, lambda: self._fetch_junit(collected))
        if self._outputs.artifacts and job.files.get("artifacts"):
            self._order(2, lambda: self._fetch_artifacts(collected))

    def _order(self, urgency: int, fetch: Callable[[], None]) -> None:
        self._due.put((urgency, next(self._numbers), fetch))

    # --- at the end ------------------------------------------------------------------------------

    def tail(self, job: JobState, timeout_s: float) -> tuple[str, ...] | None:
        """Return the last lines of a job's log; None where they do not come in time."""
        collected = self._collected.get((job.index, job.attempt))
        if collected is None or not collected.said.wait(timeout_s):
            return None
        return collected.tail

    def left_after(self, timeout_s: float) -> int:
        """Wait until all files are fetched, for a while; return how many there still are to fetch then."""
        deadline = time.monotonic() + timeout_s
        while (left := self._due.unfinished_tasks) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return left

    def write(self, info: BatchInfo, jobs: Sequence[JobState]) -> tuple[list[str], list[str]]:
        """Write what is wanted, all files having been fetched; return problems and notes, a line each."""
        self._due.join()
        if self._outputs.summary:
            self._attempt("the summary", lambda path: path.write_text(render_summary(info, jobs)), "summary")
        if self._outputs.junit:
            self._attempt("the JUnit file", lambda path: self._merge(info, jobs, path), "junit")
        return self._problems, self._notes

    def _merge(self, info: BatchInfo, jobs: Sequence[JobState], path: Path) -> None:
        merged = merge(info, self._job_files(jobs), path)
        self._notes += [f"JUnit: {complaint}" for complaint in merged.complaints]

    def _job_files(self, jobs: Sequence[JobState]) -> Iterator[JobFiles]:
        for job in jobs:
            collected = self._collected.get((job.index, job.attempt))
            if collected is None:
                yield JobFiles(job)
            else:
                yield JobFiles(job, collected.junit, "\n".join(collected.tail))

    def _attempt(self, what: str, write: Callable[[Path], object], name: str) -> None:
        path: Path = getattr(self._outputs, name)
        try:
            write(path)
        except OSError as error:
            self._problems.append(f"{what} {path} could not be written: {error.strerror}")

    # --- in threads ------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            _, _, fetch = self._due.get()
            try:
                fetch()
            finally:
                self._due.task_done()

    def _fetch_log(self, collected: _Collected) -> None:
        job = collected.job
        try:
            if self._outputs.logs is None:
                collected.tail = self._carefully(job, "its log", lambda: self._end_of_log(job)) or ()
                return
            path = self._outputs.logs / f"{job_directory(job.index, self._batch.total)}.log"
            if self._carefully(job, "its log", lambda: self._copy(job, "output.log", path, _MAX_LOG_BYTES)):
                collected.tail = _last_lines(_end_of(path))
        finally:
            collected.said.set()

    def _end_of_log(self, job: JobState) -> tuple[str, ...]:
        piece = self._piece(job, "output.log", 0)
        size = piece.size or 0
        if size > len(piece.data):
            piece = self._piece(job, "output.log", max(0, size - _TAIL_BYTES))
        return _last_lines(piece.data[-_TAIL_BYTES:])

    def _fetch_junit(self, collected: _Collected) -> None:
        job = collected.job
        name = job_directory(job.index, self._batch.total)
        tar, into = self._scratch / f"{name}.tar", self._scratch / name
        with self._lock:
            room = self._junit_bytes < _MAX_JUNIT_BYTES
        if not room:
            self._note(job, f"its JUnit files are left out: those of others are {_MAX_JUNIT_BYTES >> 30} GiB")
            return

        def fetch() -> tuple[Path, ...]:
            self._copy(job, "junit.tar", tar, JUNIT_BOUNDS.bytes)
            unpacked = unpack_files(tar, into, JUNIT_BOUNDS)
            for note in unpacked.notes:
                self._note(job, f"JUnit: {note}")
            with self._lock:
                self._junit_bytes += sum((into / file).stat().st_size for file in unpacked.names)
            return tuple(into / file for file in unpacked.names)

        collected.junit = self._carefully(job, "its JUnit files", fetch) or ()
        tar.unlink(missing_ok=True)

    def _fetch_artifacts(self, collected: _Collected) -> None:
        job, directory = collected.job, self._outputs.artifacts
        assert directory is not None  # noqa: S101 - nobody asks otherwise
        into = directory / job_directory(job.index, self._batch.total)
        tar = directory / f".{into.name}.tar"

        def fetch() -> None:
            self._copy(job, "artifacts.tar", tar, _MAX_TAR_BYTES)
            for note in unpack_files(tar, into).notes:
                self._note(job, f"artifacts: {note}")

        self._carefully(job, "its artifacts", fetch)
        with suppress(OSError):
            tar.unlink(missing_ok=True)

    def _carefully(self, job: JobState, what: str, fetch: Callable[[], T]) -> T | None:
        host = job.attempts[-1].host or ""
        if self._silent[host] >= _SILENT_TWICE:
            self._problem(job, f"{what} could not be fetched: host {host} does not answer")
            return None
        try:
            return fetch()
        except NotFoundError:
            if job.verdict in (Verdict.PASSED, Verdict.FAILED):  # others may never have come to it
                self._problem(job, f"{what} could not be fetched: host {host} has it no more")
        except UnavailableError as error:
            self._silent[host] += 1
            self._problem(job, f"{what} could not be fetched: {error.brief}")
        except BangerError as error:
            self._problem(job, f"{what} could not be taken: {error.brief}")
        except OSError as error:
            self._problem(job, f"{what} could not be written: {error.strerror or error}")
        return None

    def _copy(self, job: JobState, file: FileName, path: Path, max_bytes: int) -> bool:
        """Write a file of a job to a path of ours, up to ``max_bytes``."""
        with path.open("wb") as out:
            while out.tell() < max_bytes:
                piece = self._piece(job, file, out.tell())
                if not piece.data:
                    break
                out.write(piece.data)
        return True

    def _piece(self, job: JobState, file: FileName, offset: int) -> Piece:
        piece = patiently(lambda: self._files.piece(job, self._batch.id, file, offset))
        if piece.size is None:
            raise NotFoundError(f"there is no {file} of job {job.index}")
        return piece

    def _problem(self, job: JobState, text: str) -> None:
        with self._lock:
            self._problems.append(f"job {job.index}: {text}")

    def _note(self, job: JobState, text: str) -> None:
        with self._lock:
            self._notes.append(f"job {job.index}: {text}")


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
        return file.read()


def _last_lines(data: bytes) -> tuple[str, ...]:
    return tuple(shown_line(line.text) for line in read_lines(data))[-TAIL_LINES:]
