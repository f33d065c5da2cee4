"""The guest's /etc/fstab after the merge, for the lines we know and for any text at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from banger.contracts.fstab import merge
from banger.contracts.requests import Mount

RUN = "tmpfs /run tmpfs defaults,nodev,nosuid,mode=0755 0 0\n"
TMP = "tmpfs /tmp tmpfs defaults,nodev,nosuid,mode=1777 0 0\n"
WORK = Mount(source="/dev/vdb", target="/root", fstype="ext4", options="defaults,nofail", passno=2)

_words = st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=12)
_targets = st.sampled_from(["/", "/home", "/home/", "/var", "/var/log", "/run", "/tmp", "/root", "/data"])
_mount_lines = st.tuples(_words, _targets, _words).map(" ".join)
_texts = st.lists(st.one_of(_mount_lines, _words, st.just(""), st.just("# a comment")), max_size=12).map(
    "\n".join
)
_mounts = st.lists(
    st.builds(
        Mount,
        source=st.sampled_from(["/dev/vdb", "LABEL=work"]),
        target=st.sampled_from(["/root", "/data", "/srv"]),
        fstype=st.just("ext4"),
        options=st.just("defaults"),
    ),
    max_size=3,
)


def test_an_absent_fstab_becomes_the_two_tmpfs_lines_to_the_letter() -> None:
    assert merge("", []) == RUN + TMP


def test_home_and_var_go_and_everything_else_stays_in_place() -> None:
    current = "# ours\nUUID=1 / ext4 defaults 0 1\nUUID=2 /home ext4 x 0 2\nUUID=3 /var/ ext4 x\n\nodd\n"
    assert merge(current, []) == "# ours\nUUID=1 / ext4 defaults 0 1\n\nodd\n" + RUN + TMP


def test_what_lies_below_var_and_commented_mounts_stay() -> None:
    current = "a /var/log ext4 x 0 0\n#b /home ext4 x 0 0\n"
    assert merge(current, []).startswith(current)


def test_a_contributed_mount_replaces_the_line_of_its_target() -> None:
    merged = merge("old /root xfs x 0 0\nold /run tmpfs x 0 0\n", [WORK])
    assert merged == RUN + TMP + "/dev/vdb /root ext4 defaults,nofail 0 2\n"


def test_a_text_without_a_last_newline_gets_one() -> None:
    assert merge("UUID=1 / ext4 x 0 1", []) == "UUID=1 / ext4 x 0 1\n" + RUN + TMP


@given(_texts, _mounts)
def test_merging_twice_is_merging_once(current: str, mounts: list[Mount]) -> None:
    once = merge(current, mounts)
    assert merge(once, mounts) == once


@given(_texts, _mounts)
def test_each_target_of_ours_is_there_once_and_dropped_ones_never(current: str, mounts: list[Mount]) -> None:
    targets = [line.split()[1].rstrip("/") for line in _lines_with_a_target(merge(current, mounts))]
    for target in {"/run", "/tmp", *(mount.target for mount in mounts)}:
        assert targets.count(target) == 1
    assert not {"/home", "/var"} & set(targets)


@given(_texts, _mounts)
def test_all_other_lines_are_kept_in_order(current: str, mounts: list[Mount]) -> None:
    gone = {"/home", "/var", "/run", "/tmp", *(mount.target for mount in mounts)}
    kept = [
        line
        for line in current.removesuffix("\n").split("\n")
        if not (line in _lines_with_a_target(current) and line.split()[1].rstrip("/") in gone)
    ]
    if current:
        assert merge(current, mounts).split("\n")[: len(kept)] == kept


def _lines_with_a_target(text: str) -> list[str]:
    return [
        line for line in text.split("\n") if len(line.split()) >= 2 and not line.split()[0].startswith("#")
    ]
