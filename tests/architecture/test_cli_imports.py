"""The command line answers at once, since what is slow to load waits until a command needs it."""

from __future__ import annotations

import subprocess
import sys


def test_help_loads_nothing_slow():
    code = (
        "import sys; from banger.cli import main; main(['vm', '--help'])\n"
        "slow = {'celery', 'redis', 'rich', 'pydantic_settings', 'banger.farm'}\n"
        "print(*slow & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []


def test_reading_loads_no_celery():
    code = "import sys, banger.farm; print('celery' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_plan_of_a_batch_is_read_without_settings():
    code = "import sys, banger.batch.plan; print('banger.settings' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
