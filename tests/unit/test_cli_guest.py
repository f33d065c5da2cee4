"""Commands in guests: the exit code is the guest's, the words are kept, the bytes too."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from cli_farm import PlayedFarm, PlayedSubmission, event, session
from farm_facts import VM, record

from banger import shell, ssh
from banger.cli import main, vm_logs
from banger.cli.session import Session
from banger.cli.vm_copy import Place, parse_place
from banger.contracts.errors import ConflictError, StageFailedError, UnavailableError
from banger.contracts.states import State
from banger.output import Output
from banger.submission import Outcome

ANSWERED = "debug1: client_input_channel_req: channel 0 rtype exit-status reply 0\n"
WORDS = ["sh", "-c", "exit 42", "", "--", "a  b", "'", "$HOME"]


@pytest.fixture
def made(tmp_path: Path) -> Session:
    return session(tmp_path, record(name="dev", state=State.RUNNING))


@pytest.fixture
def farm(made: Session) -> PlayedFarm:
    assert isinstance(made.farm, PlayedFarm)
    return made.farm


class Ssh:
    """What stands in for ssh: remembers its command line, writes its log, and ends as it is told."""

    def __init__(self, code: int, log: str = ANSWERED) -> None:
        self._code, self._log = code, log
        self.argv: tuple[str, ...] = ()
        self.deadline_s: float | None = None

    def __call__(self, argv: tuple[str, ...], *, deadline_s: float | None = None) -> int:
        self.argv, self.deadline_s = argv, deadline_s
        if self._code is None:
            raise TimeoutError
        Path(argv[argv.index("-E") + 1]).write_text(self._log)
        return self._code


def _attach(monkeypatch: pytest.MonkeyPatch, fake: Ssh) -> Ssh:
    monkeypatch.setattr(shell, "attached", fake)
    monkeypatch.setattr(ssh, "find_tool", lambda name: f"/usr/bin/{name}")
    return fake


def test_exec_ends_as_the_command_did_and_keeps_its_words(
    made: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = _attach(monkeypatch, Ssh(42))
    assert main(["vm", "exec", "dev", "--timeout", "1m", "--", *WORDS], made) == 42
    assert shlex.split(fake.argv[-1].removesuffix("; exit $?")) == WORDS
    assert fake.deadline_s == 60


@pytest.mark.parametrize(("log", "code"), [(ANSWERED, 255), ("Connection refused", 125)])
def test_exec_tells_a_guests_255_from_sshs_own(
    log: str, code: int, made: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _attach(monkeypatch, Ssh(255, log))
    assert main(["vm", "exec", "dev", "--", "true"], made) == code
    assert ("the connection to the guest failed" in capsys.readouterr().err) is (code == 125)


def test_exec_that_takes_too_long_is_cut_off_with_125(
    made: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hang(argv: object, *, deadline_s: float) -> int:
        raise TimeoutError

    monkeypatch.setattr(shell, "attached", hang)
    monkeypatch.setattr(ssh, "find_tool", lambda name: f"/usr/bin/{name}")
    assert main(["vm", "exec", "dev", "--timeout", "2s", "--", "sleep", "9"], made) == 125
    assert "within 2 s" in capsys.readouterr().err


def test_a_guest_of_another_host_is_not_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = session(tmp_path, record(name="far", state=State.RUNNING, host="elsewhere"))
    for verb in (["exec", "far", "--", "true"], ["ssh", "far"], ["logs", "far"], ["cp", "a", "far:b"]):
        assert main(["vm", *verb], made) == 2
        assert "is on host elsewhere, and this is here" in capsys.readouterr().err


@pytest.mark.parametrize(("tty", "flag"), [(True, "-tt"), (False, "-T")])
def test_ssh_becomes_ssh_with_a_terminal_where_there_is_one(
    tty: bool, flag: str, made: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[Any] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: tty, raising=False)
    monkeypatch.setattr(shell, "become", became.append)
    monkeypatch.setattr(ssh, "find_tool", lambda name: f"/usr/bin/{name}")
    main(["vm", "ssh", "dev"], made)
    assert flag in became[0]
    assert became[0][-1] == "root@172.16.0.5"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("dev:/etc/hosts", Place("dev", "/etc/hosts")),
        ("dev:", Place("dev", ".")),
        ("dev:a:b", Place("dev", "a:b")),
        ("./like:this", None),
        ("/tmp/like:this", None),
        ("plain", None),
        (":x", None),
    ],
)
def test_a_side_of_a_copy_is_a_vms_or_ours(text: str, place: Place | None) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("sides", [("a", "b"), ("dev:a", "dev:b")])
def test_a_copy_needs_exactly_one_vm(sides: tuple[str, str], made: Session) -> None:
    assert main(["vm", "cp", *sides], made) == 2


def test_run_keeps_words_and_bytes_and_ends_as_the_command_did(
    made: Session, farm: PlayedFarm, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    printed = [Output("stdout", b"\xff\x00out"), Output("stderr", b"\xfeerr"), Output("stdout", b"\r\n")]
    farm.submission = PlayedSubmission([*printed], Outcome("gone", 42))
    assert main(["run", "--timeout", "5m", "--", *WORDS], made) == 42
    assert capfdbinary.readouterr() == (b"\xff\x00out\r\n", b"\xfeerr")
    _, asked, argv, timeout_s, keep = farm.asked[0]
    assert (argv, timeout_s, keep) == (WORDS, 300, False)
    assert asked.ephemeral
    assert asked.name.startswith("run-")
    assert asked.ttl_s == made.settings.run_ttl_s


@pytest.mark.parametrize(
    "argv",
    [
        ["run", "--timeout", "0", "--", "true"],
        ["vm", "exec", "dev", "--timeout", "0s", "--", "true"],
        ["vm", "cp", "--timeout", "0", "a", "dev:b"],
    ],
)
def test_no_time_at_all_is_refused(
    argv: list[str], made: Session, farm: PlayedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv, made) == 2
    assert "is not above 0" in capsys.readouterr().err
    assert farm.asked == []


def test_run_can_keep_its_vm_under_a_name(
    made: Session, farm: PlayedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    farm.submission = PlayedSubmission(end=Outcome("running", 0))
    assert main(["run", "--keep", "--name", "probe", "--", "true"], made) == 0
    _, asked, _, _, keep = farm.asked[0]
    assert (asked.name, asked.ephemeral, asked.ttl_s, keep) == ("probe", False, None, True)
    assert "VM probe stays" in capsys.readouterr().err


def test_run_may_ask_for_its_vmm_and_for_limits(made: Session, farm: PlayedFarm) -> None:
    farm.submission = PlayedSubmission(end=Outcome("gone", 0))
    words = ["--vmm", "firecracker", "--disk-rate", "50MiB", "--disk-ops", "1000", "--net-rate", "1GiB"]
    assert main(["run", *words, "--", "true"], made) == 0
    asked = farm.asked[0][1]
    assert (asked.vmm, asked.disk_rate_mib_s, asked.disk_ops_s) == ("firecracker", 50, 1000)
    assert asked.net_rate_mib_s == 1024
    assert main(["run", "--vmm", "qemu", "--net-rate", "5MiB", "--", "true"], made) == 2


def test_run_with_json_leaves_stdout_to_the_result(
    made: Session, farm: PlayedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    farm.submission = PlayedSubmission([Output("stdout", b"hello\n")], Outcome("gone", 3))
    assert main(["run", "--json", "-q", "--name", "x", "--", "true"], made) == 3
    captured = capsys.readouterr()
    assert captured.err == "hello\n"
    result = json.loads(captured.out)
    assert (result["id"], result["name"], result["exit_code"], result["state"]) == (VM, "x", 3, "gone")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StageFailedError("launch failed"), 125),
        (ConflictError("taken"), 2),
        (UnavailableError("nobody serves the queue"), 3),
    ],
)
def test_run_never_shows_a_failure_of_ours_as_the_commands(
    error: Exception, code: int, made: Session, farm: PlayedFarm
) -> None:
    farm.submission = PlayedSubmission(end=error)  # type: ignore[arg-type]
    assert main(["run", "--", "true"], made) == code


def test_the_serial_log_is_printed_older_half_first(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made.settings.paths.serial_log(VM)
    path.parent.mkdir(parents=True)
    path.with_name("serial.log.1").write_text("one\n")
    path.write_text("two\nthree\n")
    assert main(["vm", "logs", "dev"], made) == 0
    assert capsys.readouterr().out == "one\ntwo\nthree\n"
    assert main(["vm", "logs", "dev", "-n", "2"], made) == 0
    assert capsys.readouterr().out == "two\nthree\n"


def test_a_vm_that_never_ran_has_no_log_and_says_so(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vm", "logs", "dev"], made) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("banger: dev has no console log")


def test_following_the_log_ends_when_the_vm_is_gone(
    made: Session, farm: PlayedFarm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made.settings.paths.serial_log(VM)
    path.parent.mkdir(parents=True)
    path.write_text("booting\n")

    def pass_time(_seconds: float) -> None:
        path.write_text("turned\n")  # shorter than what was read: the log was turned over
        farm.vms = []

    monkeypatch.setattr(vm_logs.time, "sleep", pass_time)
    monkeypatch.setattr(vm_logs, "_ASK_EVERY", 1)
    assert main(["vm", "logs", "-f", "dev"], made) == 0
    assert capsys.readouterr().out == "booting\nturned\n"


def test_events_of_stages_are_shown_while_a_command_runs(
    made: Session, farm: PlayedFarm, capsys: pytest.CaptureFixture[str]
) -> None:
    farm.submission = PlayedSubmission(
        [event("finished", "launch", queue="banger.root.here", ms=5.0)], Outcome("gone", 0)
    )
    assert main(["run", "--", "true"], made) == 0
    assert capsys.readouterr().err.split() == ["launch", "banger.root.here", "5ms", "ok"]
