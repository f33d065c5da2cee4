"""The entry point: from an argv to an exit code, with no traceback for what went wrong on purpose."""

from __future__ import annotations

import atexit
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

# At its end the interpreter looks for garbage among all that was ever imported: 0.17 s of the processor, for
# what is freed with the process anyway. Who waits for a command's exit code has it without that.
atexit.register(gc.freeze)


def main(argv: Sequence[str] | None = None, session: Session | None = None) -> int:
    """Run one command line and return its exit code; docs/cli.md lists them."""
    session = session or Session()
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
        return FAILED
    except PermissionError as error:
        resolution = "Run banger with sudo, or mend the owner and mode of what is yours."
        say_error(BangerError(f"this user may not open {error.filename}", resolution=resolution))
        return session.failure_code
    except Exception as error:
        say_unexpected(error)
        return session.failure_code
    return int(code or 0)


def _forget_stdout() -> None:
    """Nobody reads us any more: keep the interpreter from complaining when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
