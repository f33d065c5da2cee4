"""Hand the files that ``[[file_sync]]`` names to the worker of this host, for one start of a VM.

The user's own process reads them, as that user, so no privilege is there to be misused. They reach the worker
through a spool directory that the farm's owner may write and the worker may read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from banger.complaints import complaints
from banger.contracts.errors import InvalidInputError
from banger.contracts.file_sync import MAX_FILE_BYTES, MAX_FILES, Bundle, SyncedFile, SyncEntry
from banger.contracts.names import HostPaths
from banger.home_files import HomeError, read_home
from banger.spool import new_file

_KEEP = 0o755  # of a file's own permission bits: nobody else in the guest need write to it


def bundle_of(entries: Sequence[SyncEntry], home: Path) -> Bundle:
    """Read what the entries name; InvalidInputError naming the entry that cannot be copied, and why."""
    files: list[SyncedFile] = []
    for entry in entries:
        try:
            files += islice(_files_of(entry, home), MAX_FILES + 1 - len(files))
        except ValidationError as error:
            raise _refusal(entry, "; ".join(complaints(error))) from None
        except HomeError as error:
            raise _refusal(entry, str(error)) from None
        if len(files) > MAX_FILES:
            raise _refusal(entry, f"with it there are more than {MAX_FILES} files")
    try:
        return Bundle(files=tuple(files))
    except ValidationError as error:
        raise InvalidInputError(
            "the files of file_sync do not go together",
            details="; ".join(complaints(error)),
            resolution="`banger config show` tells which file the entries are in.",
        ) from None


def leave(bundle: Bundle, paths: HostPaths, job: str) -> None:
    """Put the bundle where the worker finds it for this job; InvalidInputError where this user may not.

    It goes with the job: the worker removes it when that has ended.
    """
    brief = "the files of file_sync cannot be handed to this host's worker"
    resolution = "Only the farm's owner, and root, may do that, on the host that the VM runs on."
    with new_file(paths.bundle(job), brief, resolution) as file:
        file.write(bundle.model_dump_json().encode())


def _files_of(entry: SyncEntry, home: Path) -> Iterator[SyncedFile]:
    for found in read_home(home, entry.host, MAX_FILE_BYTES):
        mode = found.mode & _KEEP if entry.mode is None else int(entry.mode, 8)
        path = str(PurePosixPath(entry.guest) / found.name)
        yield SyncedFile(path=path, mode=mode, content=found.content)


def _refusal(entry: SyncEntry, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"file_sync: {entry.host} cannot be copied to {entry.guest}",
        details=why,
        resolution="Mend the file or the entry; `banger config show` tells where the entry is.",
    )
