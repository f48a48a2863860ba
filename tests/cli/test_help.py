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


def test_a_command_that_ends_does_not_look_for_garbage():
    code = (
        "import atexit, gc, sys\n"
        "from cxr_dicom.cli import main\n"
        "atexit.register(lambda: print(gc.get_freeze_count()))\n"
        "sys.argv = ['cxr-dicom', '--version']\n"
        "main()\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert int(finished.stdout.split()[-1]) > 1000


def test_version():
    finished = subprocess.run([sys.executable, "-m", "cxr_dicom", "--version"], capture_output=True, text=True)
    assert (finished.returncode, finished.stdout.split()[-1]) == (0, __version__)


def test_no_terminal_obeys_the_name_of_a_file(tmp_path):
    path = tmp_path / "a\x1b[2J\x9b.csv"
    path.write_text("id\n1\n")
    command = [sys.executable, "-m", "cxr_dicom", "run", path, "-o", tmp_path / "out"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert r"a\x1b[2J\x9b.csv: expected" in finished.stderr
    assert finished.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize("arguments", [["no-such-command"], ["run"], ["run", "--no-such-option"]])
def test_wrong_usage_is_exit_code_2(arguments):
    finished = subprocess.run([sys.executable, "-m", "cxr_dicom", *arguments], capture_output=True, text=True)
    assert finished.returncode == 2
    assert "Error:" in finished.stderr
