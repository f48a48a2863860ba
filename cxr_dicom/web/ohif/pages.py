"""OHIF as pages of the application: its files, told where they lie, with a first page and settings of ours."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from html import escape
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from urllib.parse import urlencode

from starlette.responses import FileResponse, HTMLResponse, Response

from cxr_dicom.config.web import Right
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.records import ObjectKind
from cxr_dicom.web.answers import NotAnsweredError
from cxr_dicom.web.application import Asked, Page
from cxr_dicom.web.dicomweb.holdings import Holdings
from cxr_dicom.web.dicomweb.metadata import SPACINGS, leaves_out_spacing
from cxr_dicom.web.guard import VIEWER_ROOT
from cxr_dicom.web.site import StoredObject

_OPENED = (  # kinds that OHIF shows
    ObjectKind.SEGMENTATION,
    ObjectKind.MEASUREMENT_REPORT,
    ObjectKind.STRUCTURE_REPORT,
    ObjectKind.DETECTION_REPORT,
    ObjectKind.FINDINGS_REPORT,
    ObjectKind.PARAMETRIC_MAP,
    ObjectKind.SECONDARY_CAPTURE,
)
_TYPES = {
    ".css": "text/css",
    ".gif": "image/gif",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".woff2": "font/woff2",
}
_SETTINGS = "app-config.js"
_ROOTS = {  # what a build says of where its files lie, which is the root of a host
    ".js": re.compile(rb'(\b\w+\.p ?= ?")/(?="[;,])'),  # of webpack
    ".css": re.compile(rb"(\burl\([\"']?)/(?!/)"),
}
_MAX_INDEX_BYTES = 1 << 20
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>OHIF Viewer</title>
<link rel="icon" href="/static/icon.svg">
<script src="{root}{settings}"></script>
{loads}
</head>
<body>
<div id="react-portal"></div>
<div id="root"></div>
</body>
</html>
"""


class Ohif:
    """A build of OHIF that shows what is held.

    Raises
    ------
    CxrDicomError
        If ``build`` holds no OHIF.
    """

    def __init__(self, build: Path, holdings: Holdings) -> None:
        self._files = _files(build)
        self._page = _first_page(build, self._files)
        self._settings = resources.files(__package__).joinpath(_SETTINGS).read_text(encoding="utf-8")
        self._holdings = holdings

    def pages(self) -> Sequence[Page]:
        """Return the one page, whose path is any."""
        return (Page(path=VIEWER_ROOT + "{name:path}", right=Right.LOOK_AT_PATIENTS, handler=self._answer),)

    def link(self, study: str, stored: StoredObject) -> str:
        """Return the address at which an object is open; empty for what OHIF does not show."""
        is_named = is_uid(study) and is_uid(str(stored.series))
        if stored.path is None or not is_named or stored.kind not in _OPENED:
            return ""
        query = urlencode({"StudyInstanceUIDs": study, "initialSeriesInstanceUID": stored.series})
        return f"{VIEWER_ROOT}viewer?{query}"

    def without_spacing(self, study: str) -> Collection[str]:
        """Return the images of a study of which OHIF is not told the Pixel Spacing, because it is zero."""
        held = self._holdings.instances(study)
        return {each.uid for each in held if leaves_out_spacing(each.header(SPACINGS))}

    def _answer(self, asked: Asked) -> Response:
        name = asked.path("name")
        if "." not in name.rpartition("/")[2]:  # no file: a place within OHIF, which its first page opens
            return HTMLResponse(self._page)
        if name == _SETTINGS:
            return Response(self._settings, media_type=_TYPES[".js"])
        if name not in self._files:
            raise NotAnsweredError(404, "OHIF has no such file.")
        path = self._files[name]
        if path.suffix in _ROOTS:
            content = _ROOTS[path.suffix].sub(rb"\1%b" % VIEWER_ROOT.encode(), path.read_bytes())
            return Response(content, media_type=_TYPES[path.suffix])
        return FileResponse(path, media_type=_TYPES[path.suffix])


def _files(build: Path) -> Mapping[str, Path]:
    """Return the plain files of a build by their names; nothing else is ever opened."""
    found = (path for path in sorted(build.rglob("*")) if path.suffix in _TYPES and path.is_file())
    return {path.relative_to(build).as_posix(): path for path in found if not path.is_symlink()}


def _first_page(build: Path, files: Mapping[str, Path]) -> str:
    """Make a first page that loads what that of the build loads, without its inline scripts and foreign links."""
    index = _Index()
    if "index.html" in files and files["index.html"].stat().st_size <= _MAX_INDEX_BYTES:
        index.feed(files["index.html"].read_text(encoding="utf-8", errors="replace"))
    scripts = [name for name in index.scripts if name in files and name.startswith("app.bundle")]
    styles = [name for name in index.styles if name in files]
    if not scripts:
        raise CxrDicomError(f"{build}: expected a build of OHIF, whose index.html loads app.bundle.*.js")
    loads = [f'<link rel="stylesheet" href="{VIEWER_ROOT}{escape(name)}">' for name in styles]
    loads += [f'<script defer src="{VIEWER_ROOT}{escape(name)}"></script>' for name in scripts]
    return _PAGE.format(root=VIEWER_ROOT, settings=_SETTINGS, loads="\n".join(loads))


class _Index(HTMLParser):
    """What a page loads, by the name of the file."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.styles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "script" and "rel" not in given and given.get("src"):
            self.scripts.append(given["src"].rpartition("/")[2])
        if tag == "link" and given.get("rel") == "stylesheet":
            self.styles.append(given.get("href", "").rpartition("/")[2])
