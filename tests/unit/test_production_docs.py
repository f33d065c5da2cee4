"""docs/production.md holds the commands that the lab runs, and no others."""

from __future__ import annotations

import re

from lab import recipe, steps

RUN_BY_THE_LAB = {
    *("Packages", "The code", "Images from another host", "The farm", "See that it is well"),
    *("A first VM", "Upgrade", "Uninstall"),
}
NOT_RUN = {
    "Images from a mirror": "the lab's host reaches no mirror",
    "Reboot the host": "the lab reboots it so, and waits for another boot",
}


def test_every_command_of_the_document_is_run_or_known_not_to_be():
    with_commands = {heading for heading, blocks in steps.sections().items() if blocks}
    assert with_commands == RUN_BY_THE_LAB | set(NOT_RUN)


def test_the_lab_takes_its_steps_from_the_document():
    text = "".join(path.read_text() for path in (recipe.ROOT / "tests/lab").glob("*.py"))
    for heading in RUN_BY_THE_LAB:
        assert f'"{heading}"' in text or f"'{heading}'" in text, heading


def test_both_documents_ask_for_the_same_packages():
    (line,) = re.findall(r"apt-get install (?:--\S+ )*(.*)", steps.blocks("Packages")[0].replace("\\\n", " "))
    assert set(line.split()) == set(recipe.installed_packages())


def test_a_block_is_what_a_shell_would_read():
    upgrade = steps.blocks("Upgrade")
    assert upgrade[0].splitlines()[0] == "/opt/banger/bin/pip install ./banger-*.whl"
