"""Help answers for every command, and loads nothing heavy to do so."""

import json
import subprocess
import sys

import pytest

from cxr_dicom import __version__
from cxr_dicom.cli._reference import contexts

HEAVY = {"torch", "torchvision", "torchxrayvision", "highdicom", "pydantic", "numpy", "scipy", "rich", "jinja2"}
COMMANDS = [context.command_path.split()[1:] for context in contexts()]


def test_the_commands_are_found():
    assert {"run", "demo"} <= {words[0] for words in COMMANDS if words}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_answers_and_loads_nothing_heavy(words):
    code = (
        "import json, sys\n"
        "from cxr_dicom.cli import cli\n"
        f"try: cli.main({[*words, '--help']!r})\n"
        "finally: print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0
    assert finished.stdout.startswith("Usage:")
    assert not HEAVY & set(json.loads(finished.stderr))


def test_version():
    finished = subprocess.run([sys.executable, "-m", "cxr_dicom", "--version"], capture_output=True, text=True)
    assert (finished.returncode, finished.stdout.split()[-1]) == (0, __version__)


@pytest.mark.parametrize("arguments", [["no-such-command"], ["run"], ["run", "--no-such-option"]])
def test_wrong_usage_is_exit_code_2(arguments):
    finished = subprocess.run([sys.executable, "-m", "cxr_dicom", *arguments], capture_output=True, text=True)
    assert finished.returncode == 2
    assert "Error:" in finished.stderr
