"""Follow a job that makes a VM: its stages, its output, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from banger.cli.interrupt import cancelling
from banger.cli.progress import StageView
from banger.contracts.errors import CancelledError

if TYPE_CHECKING:
    from banger.output import Output
    from banger.submission import Outcome, Submission


def follow(
    submission: Submission, view: StageView, on_output: Callable[[Output], None] | None = None
) -> Outcome:
    """Show a job to its end and return how it ended; the first Ctrl-C cancels it.

    CancelledError once a cancelled job has been undone, KeyboardInterrupt after a second Ctrl-C, and the
    errors of ``Submission.wait``.
    """
    try:
        with view, cancelling(submission, view.note):
            return submission.wait(view.event, on_output)
    except CancelledError:
        raise CancelledError("cancelled; nothing is left of the VM") from None
