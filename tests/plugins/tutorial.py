"""The code of the tutorial, taken from its page."""

import re

from tests import ROOT

PAGE = (ROOT / "docs" / "how-to" / "your-own-model.md").read_text(encoding="utf-8")
FILES = {
    name: text for text, name in re.findall(r"^```(?:toml|python)\n(# (\S+)\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
}
COMMANDS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
MODEL = FILES["my-model/my_model.py"]
POINTS = {"cxr_dicom.models": {"my-model": "my_model"}}
