"""Images from the command line: listed, shown, and not deleted under a VM's feet."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cli_farm import PlayedFarm, session
from farm_facts import VM, record

import banger.images
from banger.cli import main
from banger.cli.session import Session
from banger.contracts.errors import UnavailableError
from banger.images.manifest import FileDigest, ImageManifest, KernelManifest

DIGEST = FileDigest(bytes=64 * 2**20, sha256="0" * 64)


@pytest.fixture
def made(tmp_path: Path) -> Session:
    """A session on a host with one image, micro, and its kernel."""
    made = session(tmp_path)
    kernel = KernelManifest.seal(
        version="6.12.1", suite="bookworm", architecture="amd64", created=datetime.now(UTC), files={}
    )
    image = ImageManifest.seal(
        name="micro",
        suite="bookworm",
        packages=("busybox-static",),
        architecture="amd64",
        kernel=kernel.id,
        rootfs=DIGEST,
        work_seed=None,
        ssh="dropbear",
        created=datetime.now(UTC),
    )
    for path, manifest in (
        (made.settings.paths.image(image.id), image),
        (made.settings.paths.kernel(kernel.id), kernel),
    ):
        path.mkdir(parents=True)
        (path / "manifest.json").write_text(manifest.model_dump_json())
    return made


def _image(made: Session) -> str:
    return next(path.name for path in made.settings.paths.images.iterdir() if len(path.name) == 12)


def test_images_and_kernels_are_listed(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "list"], made) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:6] == ["micro", _image(made), "bookworm", "dropbear", "64MiB", "-"]
    assert main(["kernel", "list"], made) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1:4] == ["6.12.1", "bookworm", "micro"]


def test_an_image_is_shown_with_its_digests(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "show", "micro"], made) == 0
    assert f"rootfs.ext4: {DIGEST.bytes} bytes, sha256 {DIGEST.sha256}" in capsys.readouterr().out
    assert main(["image", "show", "nano"], made) == 2


def test_an_image_is_deleted_when_no_vm_uses_it(made: Session, capsys: pytest.CaptureFixture[str]) -> None:
    deleted = _image(made)
    assert main(["image", "delete", "micro"], made) == 0
    assert capsys.readouterr().out == f"micro: deleted {deleted}\n"
    assert not made.settings.paths.image(deleted).exists()


def test_an_image_in_use_stays_and_the_error_names_its_vms(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(made.farm, PlayedFarm)
    made.farm.vms = [record(image=_image(made))]
    assert main(["image", "delete", "micro"], made) == 2
    assert f"{_image(made)}: dev\n" in capsys.readouterr().err
    assert made.settings.paths.image(_image(made)).exists()


def test_a_good_image_is_deleted_also_when_another_is_unknown(
    made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    deleted = _image(made)
    assert main(["image", "delete", "nano", "micro", "micro"], made) == 2
    captured = capsys.readouterr()
    assert captured.out == f"micro: deleted {deleted}\n"
    assert captured.err.startswith("banger: there is no image 'nano'\n")


@pytest.mark.parametrize(("has_vm", "code"), [(True, 2), (False, 0)])
def test_without_the_farms_word_only_a_host_without_vms_deletes_images(
    has_vm: bool, code: int, made: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise UnavailableError("Redis cannot be reached")

    made.farm.list = fail  # type: ignore[assignment]
    if has_vm:
        made.settings.paths.vm(VM).mkdir(parents=True)
    assert main(["image", "delete", "micro"], made) == code
    assert ("cannot say which images" in capsys.readouterr().err) is has_vm


def test_a_build_says_what_it_does_and_what_came_of_it(
    made: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def build(name: str, paths: object, *, progress: Any, **options: Any) -> ImageManifest:
        asked.update(options, name=name)
        progress("Fetching")
        return banger.images.Catalogue(made.settings.paths).resolve("micro")

    monkeypatch.setattr(banger.images, "build_image", build)
    argv = ["image", "build", "debian", "--suite", "trixie", "--include", "git", "--include", "make"]
    assert main([*argv, "--name", "ci"], made) == 0
    assert asked == {
        "name": "debian",
        "suite": "trixie",
        "include": ["git", "make"],
        "as_name": "ci",
        "mirror": None,
    }
    captured = capsys.readouterr()
    assert (captured.err, captured.out) == ("Fetching\n", f"micro: built as {_image(made)}\n")
    assert main([*argv[:3], "--name", "x", "--json"], made) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "micro"
    assert main(["image", "build", "arch"], made) == 2
