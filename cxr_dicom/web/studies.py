"""The pages of studies: a list that can be searched, and all of one study."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

from starlette.responses import FileResponse, Response

from cxr_dicom.config.web import Right
from cxr_dicom.dicom import stored_values
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.records import ModelInfo, Outcome
from cxr_dicom.records.plane import Orientation
from cxr_dicom.results.report import described
from cxr_dicom.web.answers import NotAnsweredError, seen_other
from cxr_dicom.web.application import Asked, Page
from cxr_dicom.web.artist import Artist
from cxr_dicom.web.dicomweb.holdings import Held
from cxr_dicom.web.site import PAGE_SIZE, Listing, Search, ShownStudy, Site, StoredObject

_MAX_QUERY = 64  # letters of a UID
_MAX_NUMBER = 64  # characters; the standard has 16
_SECONDS = 8.0  # for a search that reads files
_TURN = ("transpose", "flip_rows", "flip_columns")  # of `Orientation`
_PICTURES = ("image/jpeg", "image/png", "image/webp")
TICKED = "model "  # how the field of a model begins that a person chose
_NOTHING = "Nothing is known of this here."


class Viewer(Protocol):
    """What opens objects in the browser."""

    def link(self, study: str, stored: StoredObject) -> str:
        """Return the address at which an object is open; empty for what is not shown."""

    def without_spacing(self, study: str) -> Collection[str]:
        """Return the SOP Instance UIDs of images whose Pixel Spacing is zero, which the viewer is not told."""


class Files(Protocol):
    """What lies there of the studies."""

    def with_accession_number(self, number: str, seconds: float) -> tuple[list[str], bool]:
        """Return the studies with an accession number, and whether all were looked at."""

    def instances(self, study: str, series: str = "", uid: str = "") -> list[Held]:
        """Return the instances of a study, a series, or one."""


class StudyPages:
    """The pages of one site.

    Parameters
    ----------
    viewer
        Opens objects; None: there is none here.
    files
        Find studies by what only their files say; None: nothing does.
    models
        Returns those that a study can be processed again with.
    artist
        Reads stored values; None: they cannot be windowed here.
    """

    def __init__(
        self,
        site: Site,
        viewer: Viewer | None = None,
        files: Files | None = None,
        models: Callable[[], Sequence[ModelInfo]] = tuple,
        artist: Artist | None = None,
    ) -> None:
        self._site = site
        self._viewer = viewer
        self._files = files
        self._models = models
        self._artist = artist

    def pages(self) -> Sequence[Page]:
        """Return the pages."""
        study, patients = "/studies/{key}", Right.LOOK_AT_PATIENTS
        return (
            Page(path="/studies", right=Right.LOOK, handler=self.list, title="Studies"),
            Page(path="/studies/by-accession-number", right=patients, handler=self.by_number, method="POST"),
            Page(path=study, right=Right.LOOK, handler=self.show),
            Page(path=f"{study}/pictures/{{image}}/{{number}}", right=patients, handler=self.picture),
            Page(path=f"{study}/values/{{image}}", right=patients, handler=self.values),
            Page(path=f"{study}/objects/{{uid}}", right=patients, handler=self.download),
        )

    def list(self, asked: Asked) -> Response:
        """Show one page of the list."""
        uid = asked.query.get("uid", "").strip()[:_MAX_QUERY]
        words = self._site.words()
        known = {word for group in words.values() for word in group}
        word = asked.query.get("word", "")
        search = Search(uid=uid, word=word if word in known else "", after=asked.query.get("after", "")[:128])
        listing = self._site.find(search)
        further = urlencode({"uid": uid, "word": search.word, "after": listing.next}) if listing.next else ""
        return self._listed(asked, listing, search, further=further)

    def by_number(self, asked: Asked) -> Response:
        """Search by accession number; it comes in a form, for browsers keep addresses, and is not stored."""
        number = asked.form.get("number", "").strip()
        if self._files is None or not 0 < len(number) <= _MAX_NUMBER:
            raise NotAnsweredError(400, f"Expected an accession number of 1 to {_MAX_NUMBER} characters.")
        found, is_whole = self._files.with_accession_number(number, _SECONDS)
        if len(found) == 1 and is_whole:
            return seen_other(f"/studies/{found[0]}")
        lines = [
            line for uid in found[:PAGE_SIZE] for line in self._site.find(Search(uid=uid)).lines if line.key == uid
        ]
        listing = Listing(lines=lines, total=len(found))
        return self._listed(asked, listing, Search(), is_whole=is_whole, is_by_number=True)

    def _listed(self, asked: Asked, listing: Listing, search: Search, **values: object) -> Response:
        values = {"further": "", "is_whole": True, "is_by_number": False, "has_files": self._files is not None} | values
        return asked.render("studies.html.jinja", listing=listing, search=search, words=self._site.words(), **values)

    def show(self, asked: Asked) -> Response:
        """Show one study; without the right to look at patients, what became of it only."""
        study = self._study(asked)
        images = []
        if asked.visitor.may(Right.LOOK_AT_PATIENTS):
            images = [
                described(row, line) | self._pictures(study, row["sop_instance_uid"] or "")
                for line, row in study.rows
                if row["outcome"] == Outcome.PROCESSED
            ]
        others = [{**row, "line": line} for line, row in study.rows if row["outcome"] != Outcome.PROCESSED]
        links = self._links(study) if asked.visitor.may(Right.LOOK_AT_PATIENTS) else {}
        return asked.render(
            "study.html.jinja",
            study=study,
            images=images,
            others=others,
            story=study.story,
            links=links,
            models=self._models() if study.story and asked.visitor.may(Right.OPERATE) else (),
            ticked=TICKED,
            without_spacing=self._viewer.without_spacing(study.key) if links and self._viewer else (),
        )

    def picture(self, asked: Asked) -> Response:
        """Return one picture of an image."""
        figures = self._study(asked).figures.get(asked.path("image"), ())
        number = asked.path("number")
        if not number.isdecimal() or len(number) > 4 or int(number) >= len(figures):
            raise NotAnsweredError(404, _NOTHING)
        figure = figures[int(number)]
        head, _, content = str(figure.get("layer") or figure["source"]).partition(",")
        kind = head.removeprefix("data:").partition(";")[0]
        if kind not in _PICTURES:  # a folder of somebody else may say that a picture is a page or a script
            raise NotAnsweredError(404, _NOTHING)
        return Response(base64.b64decode(content), media_type=kind)

    def values(self, asked: Asked) -> Response:
        """Return the stored values of an image as it hangs, in 16 bits each; a header says what they mean."""
        image, study = asked.path("image"), self._study(asked)
        hanging = _hanging(study.figures.get(image, ()))
        found = self._files.instances(study.key, uid=image) if hanging and self._files else []
        if not found or not self._artist:
            raise NotAnsweredError(404, _NOTHING)
        read = self._artist.ask(stored_values.read, found[0].path, Orientation(**hanging["turn"]))
        told = {name: value for name, value in read._asdict().items() if name != "words"}
        rows, columns = read.words.shape
        about = json.dumps({"rows": rows, "columns": columns, **told}, allow_nan=False)
        content = read.words.astype("<u2").tobytes()
        return Response(content, media_type="application/octet-stream", headers={"X-Values": about})

    def download(self, asked: Asked) -> Response:
        """Return one object."""
        uid = asked.path("uid")
        path = next((each.path for each in self._study(asked).objects if each.uid == uid), None)
        if path is None or not path.is_file():
            raise NotAnsweredError(404, _NOTHING)
        return FileResponse(path, media_type="application/dicom", filename=f"{uid}.dcm")

    def _pictures(self, study: ShownStudy, image: str) -> dict[str, Any]:
        """Return the pictures of an image, and where its values are had, with the marks of a picture of them."""
        hanging = _hanging(study.figures.get(image, ())) if self._artist and self._files else {}
        values = f"/studies/{study.key}/values/{image}" if hanging else ""
        return {"figures": _shown(study, image), "stored_values": values, "hanging": hanging}

    def _links(self, study: ShownStudy) -> Mapping[str, str]:
        """Return where each object is open in the viewer, by its UID."""
        if self._viewer is None:
            return {}
        found = {each.uid: self._viewer.link(study.key, each) for each in study.objects}
        return {uid: address for uid, address in found.items() if address}

    def _study(self, asked: Asked) -> ShownStudy:
        key = asked.path("key")
        study = self._site.study(key) if is_uid(key.removeprefix("line-")) else None
        if study is None:
            raise NotAnsweredError(404, _NOTHING)
        return study


def _hanging(figures: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return how the radiograph of an image hangs; nothing where that was not kept, or by somebody else."""
    found = figures[0].get("hanging") if figures else None
    turn = found.get("turn") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(turn, list) or len(turn) != len(_TURN):
        return {}
    width = found.get("width_mm")
    return {
        "turn": dict(zip(_TURN, map(bool, turn), strict=True)),
        "marks_right": found.get("marks_right") is True,
        "width_mm": width if isinstance(width, int | float) else None,
        "where": str(found.get("where") or ""),
    }


def _shown(study: ShownStudy, image: str) -> Sequence[Mapping[str, Any]]:
    """Name where each picture of an image is had, and whether it lies on the radiograph as a layer."""
    return [
        {
            **{name: value for name, value in figure.items() if name not in ("source", "layer")},
            "is_layer": bool(figure.get("layer")),
            "address": f"/studies/{study.key}/pictures/{image}/{number}",
        }
        for number, figure in enumerate(study.figures.get(image, ()))
    ]
