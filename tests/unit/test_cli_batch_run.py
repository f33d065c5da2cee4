"""`banger batch run` and `attach`: what is submitted, said, written, and what they end with."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import tarfile
from pathlib import Path

import pytest
from played_batches import BATCH, attempt, job, passed
from played_run import away, run_of, run_session

from banger.batch import ending, patience
from banger.batch.state import Tests
from banger.cli import main
from banger.cli.batch import output
from banger.cli.session import Session
from banger.contracts.errors import CapacityError, UnavailableError

TWO = ("batch", "run", "--image", "micro", "--count", "2")
LOG = b"2026-11-28T16:31:05.123Z O collected\n2026-11-28T16:31:06.000Z E it \x1b[2Jbroke\n"


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)


def running(index: int):
    return job(index, state="running", verdict=None, exit_code=None, reason=None, ended_at=None)


def broken(index: int):
    return job(index, verdict="infra_error", exit_code=None, stage="launch", reason="no memory")


def run(session: Session, *words: str) -> int:
    return main([*TWO, *words, "--", "make", "test"], session)


def tar_of(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


# --- what is asked for ---------------------------------------------------------------------------


def test_flags_alone_make_a_plan_relative_to_where_one_is(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    session = run_session(tmp_path, passed(0), passed(1))
    code = run(
        session, "--collect", "out/**", "--collect-junit", "*.xml", "--secret", "T=env:CI", "-e", "A=b"
    )
    assert code == 0
    ((plan, directory),) = run_of(session).submitted
    assert (plan.image, plan.count, plan.run, directory) == ("micro", 2, ("make test",), tmp_path)
    assert (plan.artifacts, plan.junit, plan.env) == (("out/**",), ("*.xml",), {"A": "b"})
    assert plan.secrets["T"].env == "CI"


def test_flags_go_before_what_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("name: tests\nimage: debian\ncount: 7\nrun: ['true']\n")
    session = run_session(tmp_path, passed(0))
    assert main(["batch", "run", str(file), "--count", "1"], session) == 0
    ((plan, directory),) = run_of(session).submitted
    assert (plan.image, plan.count, plan.run, directory) == ("debian", 1, ("true",), tmp_path)


def test_flags_say_what_runs_the_vms_and_their_limits(tmp_path: Path) -> None:
    session = run_session(tmp_path, passed(0), passed(1))
    limits = ("--vmm", "firecracker", "--disk-rate", "50MiB", "--disk-ops", "1000", "--net-rate", "1GiB")
    assert run(session, *limits) == 0
    ((plan, _),) = run_of(session).submitted
    assert (plan.vm.vmm, plan.vm.disk_rate_mib_s, plan.vm.disk_ops_s) == ("firecracker", 50, 1000)
    assert plan.vm.net_rate_mib_s == 1024


def test_a_plans_paths_may_be_relative_to_another_directory(tmp_path: Path, capsys) -> None:
    (tmp_path / "ci").mkdir()
    file = tmp_path / "ci" / "plan.yaml"
    file.write_text("name: tests\nimage: debian\nupload: [ci]\nrun: ['true']\n")
    session = run_session(tmp_path, passed(0))
    assert main(["batch", "run", str(file), "--directory", str(tmp_path)], session) == 0
    assert run_of(session).submitted[0][1] == tmp_path
    assert main(["batch", "run", str(file), "--directory", str(tmp_path / "none")], session) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_dry_run_prints_the_jobs_and_submits_nothing(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path)
    assert main([*TWO, "--dry-run", "--", "true"], session) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["JOB", "WHAT", "IMAGE", "VCPUS", "MEMORY", "NAT"]
    assert [row.split()[0] for row in rows] == ["0", "1"]
    assert main([*TWO, "--dry-run", "--json", "--", "true"], session) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["env"]["BANGER_INDEX"] for one in told["jobs"]] == ["0", "1"]
    assert not run_of(session).submitted


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "a batch needs an image"),
        (("--image", "micro"), "a batch needs a command"),
        (("plan.yaml",), "the plan plan.yaml cannot be read"),
        (
            ("--image", "micro", "--vmm", "qemu", "--net-rate", "5MiB", "--", "true"),
            "QEMU does not limit a guest's network",
        ),
        (("--image", "micro", "--detach", "--junit", "x.xml", "--", "true"), "--detach leaves"),
        (("--image", "micro", "--follow", "9", "--", "true"), "the plan has no job '9'"),
        (("--image", "micro", "--junit", "/dev/null/x.xml", "--", "true"), "cannot be written"),
        (("--image", "micro", "--junit", "/tmp", "--", "true"), "/tmp is a directory"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_begins(
    tmp_path: Path, capsys, words: tuple[str, ...], complaint: str
) -> None:
    session = run_session(tmp_path)
    assert main(["batch", "run", *words], session) == 2
    assert complaint in capsys.readouterr().err
    assert not run_of(session).submitted


def test_a_farm_that_refuses_the_batch_has_the_last_word(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path)
    run_of(session).refusal = CapacityError("no host has room for one of its jobs")
    assert run(session) == 2
    assert "no host has room" in capsys.readouterr().err


def test_detached_there_is_the_id_alone(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path)
    assert run(session, "--detach") == 0
    assert capsys.readouterr().out == f"{BATCH}\n"


# --- how it ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ((passed(0), passed(1)), 0),
        ((passed(0), job(1)), 1),
        ((passed(0), job(1, verdict="timed_out", exit_code=None)), 1),
        ((broken(0), job(1)), 1),
        ((broken(0), passed(1)), 3),
        ((job(0, verdict="cancelled", exit_code=None), passed(1)), 130),
    ],
)
def test_the_exit_code_is_the_verdict(tmp_path: Path, ends, code: int) -> None:
    session = run_session(tmp_path, running(0), running(1), *ends)
    run_of(session).host.files = {(index, 1, "output.log"): LOG for index in (0, 1)}
    assert run(session) == code


def test_elsewhere_than_on_a_terminal_changes_are_lines_without_control_codes(tmp_path: Path, capsys) -> None:
    again = job(1, state="waiting", verdict=None, attempts=(attempt(verdict="infra_error", stage="launch"),))
    session = run_session(tmp_path, running(0), passed(0), running(1), again, running(1), job(1))
    run_of(session).host.files[1, 1, "output.log"] = LOG
    assert run(session) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    lines = [line.partition("  ")[2] for line in said.err.splitlines() if "  job " in line]
    assert lines == [
        "job 0: begun on here",
        "job 0: passed, 10.0s  [1/2]",
        "job 1: begun on here",
        "job 1: infrastructure error: launch; it is tried again",
        "job 1: begun on here",
        "job 1: failed: exit code 2 (run 1: make test), 10.0s  [2/2]",
    ]


def test_quiet_tells_of_what_did_not_pass_alone(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path, running(0), passed(0), running(1), job(1))
    run_of(session).host.files[1, 1, "output.log"] = LOG
    assert run(session, "--quiet") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "job 1: failed: exit code 2" in line


def test_a_job_that_failed_is_told_with_its_last_words_and_what_to_type(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path, passed(0), job(1, vm_kept=True))
    run_of(session).host.files[1, 1, "output.log"] = LOG
    assert run(session) == 1
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == lines[-1] == f"batch micro {BATCH}: 1 of 2 failed, in 1m0s"
    assert lines[:-2] == [
        "",
        "job 1: failed: exit code 2 (run 1: make test)",
        "  on here, after 10.0s",
        "  | collected",
        "  | it broke",
        f"  banger batch logs {BATCH} 1",
        f"  banger batch debug {BATCH} 1   # a shell in its VM, which is kept",
    ]


def test_of_many_that_failed_the_first_are_told(tmp_path: Path, capsys) -> None:
    jobs = [job(index) for index in range(30)]
    session = run_session(tmp_path)
    run_of(session).begin([job(index, state="running", verdict=None) for index in range(30)])
    run_of(session).script = list(jobs)
    run_of(session).host.files = {(index, 1, "output.log"): LOG for index in range(30)}
    assert main(["batch", "attach", BATCH], session) == 1
    out = capsys.readouterr().out
    assert out.count("\njob ") == 10
    assert f"… and 20 more: banger batch status {BATCH} --failed" in out


def test_json_is_one_document_and_all_else_goes_to_stderr(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path, passed(0), job(1))
    run_of(session).host.files[1, 1, "output.log"] = LOG
    assert run(session, "--json") == 1
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["batch"]["id"], told["exit_code"]) == (BATCH, 1)
    assert [one["verdict"] for one in told["jobs"]] == ["passed", "failed"]
    assert "1 of 2 failed" in said.err


# --- what is written -----------------------------------------------------------------------------


def test_files_of_jobs_are_fetched_and_written(tmp_path: Path, capsys) -> None:
    junit = b'<testsuite name="s"><testcase name="a" classname="c"/></testsuite>'
    session = run_session(
        tmp_path, passed(0, files={"artifacts": 1, "junit": 1}), job(1, files={"artifacts": 1})
    )
    run_of(session).host.files = {
        (0, 1, "artifacts.tar"): tar_of(out__r=b"zero"),
        (1, 1, "artifacts.tar"): tar_of(out__r=b"one" * 2000),
        (0, 1, "junit.tar"): tar_of(j=junit),
        (0, 1, "output.log"): LOG,
        (1, 1, "output.log"): LOG * 100,
    }
    out = tmp_path / "out"
    places = {"junit": "all.xml", "summary": "s/sum.md", "artifacts": "art", "logs": "logs"}
    words = [word for name, place in places.items() for word in (f"--{name}", str(out / place))]
    assert run(session, *words) == 1
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == {
        *("all.xml", "s/sum.md", "logs/job-000.log", "logs/job-001.log"),
        *("art/job-000/out/r", "art/job-001/out/r"),
    }
    assert (out / "art/job-001/out/r").read_bytes() == b"one" * 2000
    assert (out / "logs/job-001.log").read_bytes() == LOG * 100
    merged = (out / "all.xml").read_text()
    assert 'tests="2" failures="1"' in merged
    assert "it broke" in merged
    assert "1 of 2 failed" in (out / "s/sum.md").read_text()
    assert "could not" not in capsys.readouterr().err


def test_a_guests_tar_that_leads_out_is_noted_and_writes_nothing_outside(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path, passed(0, files={"artifacts": 1}), passed(1))
    run_of(session).host.files[0, 1, "artifacts.tar"] = tar_of(**{"..__evil": b"x", "fine": b"y"})
    run(session, "--artifacts", str(tmp_path / "art"))
    assert not [*tmp_path.rglob("evil")]
    assert "job 0: artifacts: not all of it could be unpacked" in capsys.readouterr().err


def test_what_could_not_be_fetched_makes_a_batch_that_passed_end_with_3(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path, passed(0, files={"artifacts": 1}), passed(1))
    assert run(session, "--artifacts", str(tmp_path / "art")) == 3
    assert "job 0: its artifacts could not be fetched: host here has it no more" in capsys.readouterr().err


def test_a_host_that_is_silent_is_asked_twice_and_not_for_each_job(tmp_path: Path, capsys) -> None:
    def silent() -> None:
        raise UnavailableError("host here does not answer")

    session = run_session(tmp_path)
    batches = run_of(session)
    batches.begin([job(index, state="running", verdict=None) for index in range(20)])
    batches.script = [passed(index, files={"artifacts": 1}) for index in range(20)]
    batches.host.before_answer = silent
    assert main(["batch", "attach", BATCH, "--artifacts", str(tmp_path / "art")], session) == 3
    assert len(batches.host.asked) < 6
    assert capsys.readouterr().err.count("could not be fetched") == 20


def test_nothing_of_ours_is_left_in_the_temporary_directory(tmp_path: Path, monkeypatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(ending.tempfile, "mkdtemp", lambda prefix: _made(scratch / prefix))
    session = run_session(tmp_path, passed(0, files={"junit": 1}), passed(1))
    run_of(session).host.files[0, 1, "junit.tar"] = tar_of(j=b"<testsuite/>")
    run(session, "--junit", str(tmp_path / "out.xml"))
    assert not [*scratch.iterdir()]


def _made(path: Path) -> str:
    path.mkdir()
    return str(path)


# --- CI systems ----------------------------------------------------------------------------------


def test_github_has_annotations_a_fence_around_what_guests_said_and_a_summary(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    session = run_session(tmp_path, passed(0), job(1))
    run_of(session).host.files[1, 1, "output.log"] = b"2026-11-28T16:31:05.123Z O ::error::mine\n"
    assert run(session) == 1
    lines = capsys.readouterr().out.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("::stop-commands::"))
    token = lines[begin].rpartition("::")[2]
    assert lines[begin + 1 : begin + 3] == ["  | ::error::mine", f"::{token}::"]
    assert any(line.startswith("::error title=micro%3A job 1::") for line in lines)
    assert "1 of 2 failed" in (tmp_path / "step.md").read_text()


def test_github_has_the_steps_outputs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "outputs"))
    (tmp_path / "outputs").write_text("before=1\n")
    assert run(run_session(tmp_path, passed(0), job(1))) == 1
    before, *outputs = (tmp_path / "outputs").read_text().splitlines()
    assert before == "before=1"
    assert dict(line.split("=") for line in outputs) == {
        "batch": BATCH,
        "verdict": "failed",
        "total": "2",
        "passed": "1",
        "failed": "1",
        "timed_out": "0",
        "infra_error": "0",
        "cancelled": "0",
    }


def test_outputs_that_cannot_be_written_are_told_and_change_no_verdict(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path))
    assert run(run_session(tmp_path, passed(0), passed(1))) == 0
    assert "the step's outputs could not be written" in capsys.readouterr().err


def test_gitlab_has_a_section_for_each_job_that_failed(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("GITLAB_CI", "true")
    session = run_session(tmp_path, passed(0), job(1))
    run_of(session).host.files[1, 1, "output.log"] = LOG
    assert run(session) == 1
    lines = capsys.readouterr().out.split("\n")
    begin = next(n for n, line in enumerate(lines) if line.startswith("\x1b[0Ksection_start:"))
    assert f"banger_{BATCH}_1" in lines[begin]
    assert [line.rstrip("\x1b[0m") for line in lines[begin + 1 : begin + 3]] == ["collected", "it broke"]
    assert lines[begin + 3].startswith("\x1b[0Ksection_end:")
    assert lines[begin + 4] == f"  banger batch logs {BATCH} 1"


def test_a_tests_name_is_no_command_to_github(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    named = Tests(tests=1, failures=1, failed=("##[stop-commands]x",))
    session = run_session(tmp_path, passed(0), job(1, tests=named))
    run_of(session).host.files[1, 1, "output.log"] = LOG
    assert run(session) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "  failed tests: ## [stop-commands]x" in lines
    assert not any("##[" in line for line in lines if not line.startswith("::"))


def test_who_reads_no_more_is_told_that_the_batch_goes_on(tmp_path: Path, capsys) -> None:
    def unread() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    session = run_session(tmp_path, running(0), unread)
    assert run(session) == 3
    assert f"the batch goes on: `banger batch attach {BATCH}`" in capsys.readouterr().err
    assert not run_of(session).orders


# --- what may come in between --------------------------------------------------------------------


def test_redis_may_be_away_for_a_moment(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(patience, "_PAUSE_S", 0.0)
    session = run_session(tmp_path, running(0), away(), away(), None, passed(0), passed(1))
    assert run(session) == 0
    said = capsys.readouterr().err
    assert said.index("Redis is away; the batch goes on") < said.index("Redis is back") < said.index("[1/2]")


def test_a_redis_that_stays_away_is_an_error_that_says_how_to_come_back(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(patience, "_PAUSE_S", 0.0)
    monkeypatch.setattr(patience, "AWAY_S", 0.0)
    session = run_session(tmp_path, away(), away(), away())
    assert run(session) == 3
    assert f"`banger batch attach {BATCH}` shows it" in capsys.readouterr().err


def interrupt(number: int = signal.SIGINT):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_cancels_the_batch_and_its_end_is_waited_for(
    tmp_path: Path, capsys, number: int
) -> None:
    session = run_session(tmp_path)
    batches = run_of(session)

    def until_ordered() -> None:
        while not batches.orders:
            pass

    batches.script = [running(0), interrupt(number), until_ordered, job(0, verdict="cancelled"), None]
    assert run(session) == 130
    assert [order["do"] for order in batches.orders] == ["cancel"]
    said = capsys.readouterr()
    assert "cancelling; what is at work is being removed" in said.err
    assert "2 cancelled" in said.out


def test_the_second_leaves_and_says_how_to_come_back(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path, running(0), interrupt(), None, interrupt(), None)
    assert run(session) == 130
    said = capsys.readouterr().err
    assert "leaving; the workers go on removing what is at work" in said
    assert f"`banger batch attach {BATCH}`" in said


def test_a_signal_that_comes_before_the_batch_cancels_it_once_it_is_there(tmp_path: Path) -> None:
    session = run_session(tmp_path)
    batches = run_of(session)
    batches.before_accepted = interrupt()

    def until_ordered() -> None:
        while not batches.orders:
            pass

    batches.script = [until_ordered]
    assert run(session) == 130
    assert [order["do"] for order in batches.orders] == ["cancel"]


# --- attach --------------------------------------------------------------------------------------


def test_attached_to_what_runs_one_is_told_how_far_it_is_and_the_rest(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path)
    run_of(session).begin([passed(0), running(1)])
    run_of(session).script = [passed(1)]
    assert main(["batch", "attach", BATCH], session) == 0
    said = capsys.readouterr()
    assert [line.partition("  ")[2] for line in said.err.splitlines()[1:]] == [
        "1 passed, 1 at work",
        "job 1: passed, 10.0s  [2/2]",
    ]
    assert said.out == f"batch tests {BATCH}: 2 of 2 passed, in 1m0s\n"


def test_attached_to_what_has_ended_there_is_the_verdict_with_its_files(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path)
    run_of(session).begin([passed(0, files={"artifacts": 1})])
    run_of(session).host.files[0, 1, "artifacts.tar"] = tar_of(r=b"x")
    run_of(session).end()
    assert main(["batch", "attach", "tests", "--artifacts", str(tmp_path / "art")], session) == 0
    assert capsys.readouterr().out == f"batch tests {BATCH}: 1 of 1 passed, in 1m0s\n"
    assert (tmp_path / "art/job-000/r").read_bytes() == b"x"


def test_ctrl_c_leaves_what_one_was_attached_to_running(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path)
    run_of(session).begin([running(0)])
    run_of(session).script = [interrupt(), None]
    assert main(["batch", "attach", BATCH], session) == 130
    assert f"`banger batch cancel {BATCH}` stops it" in capsys.readouterr().err
    assert not run_of(session).orders


def test_a_job_that_is_followed_is_printed_as_it_prints(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path, running(1), None, job(1), passed(0))
    run_of(session).host.files[1, 1, "output.log"] = LOG
    assert run(session, "--follow", "1") == 1
    out = capsys.readouterr().out
    assert out.startswith("collected\nit broke\nbatch micro")


def test_a_job_that_is_tried_again_is_printed_to_the_end_of_each_attempt(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(output, "_LOOK_S", 0.0)
    again = running(1).model_copy(update={"attempts": (attempt(verdict="infra_error"), attempt(2))})
    ended = job(1, attempts=again.attempts)
    session = run_session(tmp_path, running(1), None)
    files = run_of(session).host.files
    files[1, 1, "output.log"] = LOG
    more = LOG.replace(b"collected", b"its last words")
    run_of(session).script += [
        lambda: files.update({(1, 1, "output.log"): LOG + more, (1, 2, "output.log"): LOG}),
        again,
        *(None, ended, passed(0)),
    ]
    assert run(session, "--follow", "1") == 1
    said = capsys.readouterr()
    assert said.out.startswith(
        "collected\nit broke\nits last words\nit broke\ncollected\nit broke\nbatch micro"
    )
    assert "banger: attempt 2 begins\n" in said.err


def test_an_attempt_whose_host_is_gone_does_not_hide_the_next_one(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(output, "_LOOK_S", 0.0)
    again = running(1).model_copy(update={"attempts": (attempt(verdict="infra_error"), attempt(2))})
    session = run_session(tmp_path, running(1), None)
    host = run_of(session).host
    host.files = {(1, 1, "output.log"): LOG, (1, 2, "output.log"): LOG}

    def vanish() -> None:
        def answer() -> None:
            if host.asked[-1][2] == 1:
                raise UnavailableError("host here does not answer")

        host.before_answer = answer

    run_of(session).script += [vanish, again, None, job(1, attempts=again.attempts), passed(0)]
    assert run(session, "--follow", "1") == 1
    said = capsys.readouterr()
    assert said.out.startswith("collected\nit broke\ncollected\nit broke\nbatch micro")
    assert "banger: the end of attempt 1 is missing: host here does not answer\n" in said.err


def test_a_job_of_a_batch_that_has_ended_can_be_followed_too(tmp_path: Path, capsys) -> None:
    session = run_session(tmp_path)
    run_of(session).begin([passed(0)])
    run_of(session).host.files[0, 1, "output.log"] = LOG
    run_of(session).end()
    assert main(["batch", "attach", BATCH, "--follow", "0"], session) == 0
    assert capsys.readouterr().out.startswith("collected\nit broke\nbatch tests")
