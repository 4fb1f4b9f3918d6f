"""The commands that the README shows exist, with the options it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.cli.main import cli

ROOT = Path(__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: (command, rest of the line) wherever a line or a span of code begins with it.
COMMANDS = re.findall(
    r"(?:^|`)(?:[A-Z_]+=\S+ )?relevance ([a-z-]+(?: [a-z]+)?)([^#`\n]*)", README, re.MULTILINE
)


def test_the_readme_shows_commands() -> None:
    assert {"up", "doctor", "replay"} <= {words.split()[0] for words, _ in COMMANDS}


@pytest.mark.parametrize(("words", "options"), COMMANDS)
def test_a_command_of_the_readme_has_help_and_its_options(words: str, options: str) -> None:
    shown = CliRunner().invoke(cli, [*words.split(), "--help"])
    assert shown.exit_code == 0, shown.output
    for option in re.findall(r"--[a-z-]+", options):
        assert option in shown.output


def test_make_knows_the_targets_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z]+)\b", README))
    assert {"demo", "test"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
