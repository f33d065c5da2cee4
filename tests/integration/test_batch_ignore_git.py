"""Whether .bangerignore means what .gitignore means, asked of git itself."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banger.batch.packing import pack

pytestmark = pytest.mark.integration

NAMES = st.sampled_from(["a", "b", "a.log", "build"])
PATTERNS = st.lists(
    st.sampled_from(
        ["a", "/a", "a/", "!a", "!a/", "*", "*.log", "!*.log", "/build/*", "!/build/a", "a/b", "**/b", "a/**",
         "b/**/a", "# a", "", "\\!a", "[ab]", "?", "/*", "!/b/", "a/**/b", "!**/a.log"]
    ),
    max_size=4,
)  # fmt: skip


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@settings(max_examples=25)
@given(
    PATTERNS, PATTERNS, st.sets(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=6)
)
def test_patterns_mean_what_they_mean_to_git(
    tmp_path_factory: pytest.TempPathFactory, top: list[str], deeper: list[str], files: set[str]
):
    directory = tmp_path_factory.mktemp("git")
    for file in sorted(files):
        if not any(other.startswith(f"{file}/") for other in files):
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            (directory / file).touch()
    (directory / ".bangerignore").write_text("\n".join(top))
    if (directory / "a").is_dir():
        (directory / "a/.bangerignore").write_text("\n".join(deeper))
    git = ("git", "-C", str(directory), "-c", "core.quotePath=off")
    subprocess.run((*git, "init", "-q"), check=True, capture_output=True)
    listed = subprocess.run(
        (*git, "ls-files", "-o", "--exclude-per-directory=.bangerignore"),
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    packed = io.BytesIO()
    pack(["."], directory, packed)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        files_in = [member.name for member in archive if member.isreg()]
    assert sorted(files_in) == sorted(listed)
