"""Building, with the tools faked: what is refused, and that a failure leaves nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from banger.contracts.errors import ConflictError, InvalidInputError, ToolFailedError
from banger.contracts.names import HostPaths
from banger.images import Catalogue, KernelManifest, build, build_image, store

KERNEL = KernelManifest.seal(
    version="6.12", suite="bookworm", architecture="amd64", created=datetime(2026, 1, 1, tzinfo=UTC), files={}
)


def nothing(*_arguments: Any, **_options: Any) -> None:
    return None


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return HostPaths(tmp_path / "state", tmp_path / "run")


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Stand in for every tool; the function returned replaces one of them."""

    def unpack(tree: Path, *_arguments: Any, **_options: Any) -> None:
        (tree / "root").mkdir(parents=True)

    def make_ext4(tree: Path, target: Path, **_options: Any) -> None:
        target.write_text(f"ext4 of {sorted(path.name for path in tree.iterdir())}")

    fakes: dict[str, Any] = {
        "bootstrap": unpack,
        "make_ext4": make_ext4,
        "current_kernel": lambda *_arguments: KERNEL,
        "find_tool": nothing,
        "RECIPES": {name: recipe._replace(finish=nothing) for name, recipe in build.RECIPES.items()},
    }
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def replace(**replacements: Any) -> None:
        for name, fake in replacements.items():
            monkeypatch.setattr(build, name, fake)

    replace(**fakes)
    return replace


def stored(paths: HostPaths) -> list[str]:
    return sorted(entry.name for entry in paths.images.iterdir() if entry.name != ".lock")


def test_a_build_is_published_under_its_name(paths: HostPaths, builder: Callable[..., None]) -> None:
    said: list[str] = []
    image = build_image(
        "debian", paths, suite="bookworm", include=("git",), as_name="ci", progress=said.append
    )
    assert Catalogue(paths).resolve("ci") == image
    assert image.packages[-1] == "git"
    assert image.work_seed is not None
    assert sorted(file.name for file in paths.image(image.id).iterdir()) == [
        "manifest.json",
        "rootfs.ext4",
        "work-seed.ext4",
    ]
    assert paths.rootfs(image.id).stat().st_mode & 0o777 == 0o444
    assert said[-1].startswith(f"Built image ci ({image.id})")


def test_a_rebuild_makes_a_new_id_and_the_name_follows(
    paths: HostPaths, builder: Callable[..., None]
) -> None:
    first, second = (build_image("micro", paths, suite="bookworm") for _ in range(2))
    assert first.id != second.id
    assert Catalogue(paths).resolve("micro") == second
    assert Catalogue(paths).resolve(first.id) == first


@pytest.mark.parametrize("tool", ["bootstrap", "make_ext4", "digest_file"])
@pytest.mark.parametrize("failure", [ToolFailedError("mirror is gone"), KeyboardInterrupt()])
def test_a_failure_in_mid_build_leaves_nothing(
    paths: HostPaths, builder: Callable[..., None], tool: str, failure: BaseException
) -> None:
    def half(target: Path, *_arguments: Any, **_options: Any) -> None:
        if tool == "bootstrap":
            (target / "half").mkdir(parents=True)
        raise failure

    builder(**{tool: half})
    with pytest.raises(type(failure)):
        build_image("micro", paths, suite="bookworm")
    assert stored(paths) == []


def test_what_a_killed_build_left_is_swept_by_the_next(
    paths: HostPaths, builder: Callable[..., None]
) -> None:
    for directory in (paths.images, paths.kernels):
        (directory / ".scratch-killed" / "tree").mkdir(parents=True)
    image = build_image("micro", paths, suite="bookworm")
    assert stored(paths) == [image.id]
    assert list(paths.kernels.iterdir()) == []


@pytest.mark.parametrize(
    "asked",
    [
        *(
            {"include": (word,)}
            for word in ("", "-oDpkg::Pre-Invoke::=x", "--evil", "a b", "a,b", "\u00fc", "A")
        ),
        *({"mirror": word} for word in ("", "--setup-hook=x", "not a url", "/etc/hosts", "-")),
        *({"suite": word} for word in ("../x", "-x", "a b", "Bookworm")),
    ],
)
def test_what_apt_would_take_for_something_else_is_refused(
    asked: dict[str, Any], paths: HostPaths, builder: Callable[..., None]
) -> None:
    with pytest.raises(InvalidInputError, match="is no "):
        build_image("micro", paths, **{"suite": "bookworm"} | asked)
    assert not paths.images.exists()


@pytest.mark.parametrize(
    "package", ["git", "g++", "libc6:amd64", "python3=3.11.2-1+b1", "git/bookworm-backports"]
)
def test_a_package_may_be_named_as_apt_takes_it(
    package: str, paths: HostPaths, builder: Callable[..., None]
) -> None:
    assert build_image("micro", paths, suite="bookworm-backports", include=[package]).packages[-1] == package


def test_one_build_at_a_time(paths: HostPaths) -> None:
    said: list[str] = []
    with (
        store.locked(paths, wait_s=0, progress=said.append),
        pytest.raises(ConflictError, match="another image build"),
        store.locked(paths, wait_s=0, progress=said.append),
    ):
        pytest.fail("two builders have the lock")
    assert said == ["Waiting for another image build"]


def test_what_cannot_be_built_is_refused_before_anything_is_made(
    paths: HostPaths, builder: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInputError, match="micro, debian"):
        build_image("fedora", paths)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="DNS label"):
        build_image("micro", paths, as_name="No Label")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InvalidInputError, match="Run it with sudo"):
        build_image("micro", paths)
    assert not paths.state.exists()


def test_a_missing_tool_is_named_before_anything_is_made(
    paths: HostPaths, builder: Callable[..., None]
) -> None:
    def missing(name: str) -> str:
        raise ToolFailedError(f"{name} is not installed")

    builder(find_tool=missing)
    with pytest.raises(ToolFailedError, match="mmdebstrap is not installed"):
        build_image("micro", paths)
    assert not paths.state.exists()
