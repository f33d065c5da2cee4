"""The entry point: from an argv to an exit code, with no traceback for what went wrong on purpose."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import sys
from collections.abc import Sequence

import typer
from typer.main import get_command

from banger.cli.app import app
from banger.cli.failure import say_error, say_unexpected, say_usage
from banger.cli.session import Session
from banger.contracts.errors import BangerError

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# At its end the interpreter looks for garbage among all that was ever imported: 0.17 s of the processor, for
# what is freed with the process anyway. Who waits for a command's exit code has it without that.
atexit.register(gc.freeze)


def main(argv: Sequence[str] | None = None, session: Session | None = None) -> int:
    """Run one command line and return its exit code; docs/cli.md lists them."""
    session = session or Session()
    _open_what_is_closed()
    try:
        code = get_command(app).main(
            args=None if argv is None else list(argv), prog_name="banger", standalone_mode=False, obj=session
        )
        sys.stdout.flush()
    except BangerError as error:
        say_error(error)
        return session.failure_code if error.exit_code == FAILED else error.exit_code
    except typer.TyperException as error:
        say_usage(error)
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return session.failure_code
    except Exception as error:
        _say_unforeseen(error)
        return session.failure_code
    return int(code or 0)


def _say_unforeseen(error: Exception) -> None:
    """Say what a file system refused, which is no defect of ours; or that there is one."""
    if isinstance(error, PermissionError):
        resolution = "Run banger with sudo, or mend the owner and mode of what is yours."
        say_error(BangerError(f"this user may not open {error.filename}", resolution=resolution))
    elif isinstance(error, OSError) and error.errno in _NO_ROOM:
        _forget_stdout()
        brief = f"{error.filename or 'what there is to say'} cannot be written: {error.strerror}"
        say_error(BangerError(brief, resolution="Make room on that disk."))
    else:
        say_unexpected(error)


def _open_what_is_closed() -> None:
    """Give a process that was started without stdin, stdout or stderr (``>&-``) such as lead nowhere.

    Else Python has None in their places, and the next file or connection gets their numbers.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - as long as we live


def _forget_stdout() -> None:
    """Nobody takes what we say: keep the interpreter from complaining when it flushes at its end."""
    with contextlib.suppress(OSError, ValueError):  # io.UnsupportedOperation where there is no such file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
