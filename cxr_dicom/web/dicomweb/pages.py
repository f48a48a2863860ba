"""The resources of DICOMweb that can be had, as pages of the application."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import repeat

from pydicom.uid import ExplicitVRLittleEndian
from starlette.responses import Response, StreamingResponse

from cxr_dicom.config.web import Right
from cxr_dicom.dicom.structure import PIXEL_TAGS
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.web.answers import NotAnsweredError
from cxr_dicom.web.application import Asked, Handler, Page
from cxr_dicom.web.dicomweb import media, retrieval
from cxr_dicom.web.dicomweb.holdings import Held, Holdings
from cxr_dicom.web.dicomweb.media import Form
from cxr_dicom.web.dicomweb.metadata import Json, metadata
from cxr_dicom.web.dicomweb.search import Found, Query, Searches

ROOT = "/dicom-web"

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{uid}"
_NOTHING = "There is no such resource here."
_TAG = re.compile(r"[0-9A-Fa-f]{8}")


class DicomWeb:
    """The resources of what is held."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._searches = Searches(holdings)

    def pages(self) -> Sequence[Page]:
        """Return the resources."""
        resources: dict[str, Handler] = {
            "/studies": self._studies,
            "/series": self._series,
            "/instances": self._instances,
            _STUDY + "/series": self._series,
            _STUDY + "/instances": self._instances,
            _SERIES + "/instances": self._instances,
            _STUDY + "/metadata": self._metadata,
            _SERIES + "/metadata": self._metadata,
            _INSTANCE + "/metadata": self._metadata,
            _STUDY: self._whole,
            _SERIES: self._whole,
            _INSTANCE: self._whole,
            _INSTANCE + "/frames/{frames}": self._frames,
            _INSTANCE + "/bulkdata/{tag}": self._bulk,
        }
        right = Right.LOOK_AT_PATIENTS
        return [Page(path=ROOT + path, right=right, handler=_told(answer)) for path, answer in resources.items()]

    # --- searches --------------------------------------------------------------------------------

    def _studies(self, asked: Asked) -> Response:
        query = _query(asked)
        return _results(self._searches.studies(query, root_of(asked)), query)

    def _series(self, asked: Asked) -> Response:
        query = _query(asked)
        return _results(self._searches.series(_named(asked, "study"), query, root_of(asked)), query)

    def _instances(self, asked: Asked) -> Response:
        query, study, series = _query(asked), _named(asked, "study"), _named(asked, "series")
        return _results(self._searches.instances(study, series, query, root_of(asked)), query)

    # --- retrieval -------------------------------------------------------------------------------

    def _metadata(self, asked: Asked) -> Response:
        media.expect_json(accept_of(asked))
        found = self._found(asked)
        root = root_of(asked)
        first = _metadata_of(found[0], root)  # now, while the answer can still be a refusal
        return StreamingResponse(_listed(first, found[1:], root), media_type=media.JSON)

    def _whole(self, asked: Asked) -> Response:
        """Return whole instances, byte for byte as they are stored; deflated ones as they are wanted."""
        found, accept = self._found(asked), accept_of(asked)
        forms = [media.instance_form(each.header(("SOPClassUID",)).transfer_syntax, accept) for each in found]
        for form in forms:
            accepted = media.chosen(form, accept)
        files = map(retrieval.file_of, found, [form.syntax for form in forms])
        if len(found) == 1 and not accepted.is_multipart and not accepted.is_anything:
            return StreamingResponse(next(files), headers={"Content-Type": str(forms[0])})
        return media.multipart(media.DICOM, zip(forms, files, strict=True))

    def _frames(self, asked: Asked) -> Response:
        (held,) = self._found(asked)
        numbers = retrieval.numbers_of(asked.path("frames"))
        pixels = retrieval.Pixels.of(held)
        form = media.frame_form(pixels.header.transfer_syntax)
        accepted = media.chosen(form, accept_of(asked))
        frames = pixels.frames(numbers)
        if len(numbers) == 1 and not accepted.is_multipart and not accepted.is_anything:
            return StreamingResponse(next(frames), headers={"Content-Type": str(form)})
        return media.multipart(form.media_type, zip(repeat(form), frames))

    def _bulk(self, asked: Asked) -> Response:
        (held,) = self._found(asked)
        tag = int(asked.path("tag"), 16) if _TAG.fullmatch(asked.path("tag")) else 0
        if tag in PIXEL_TAGS:
            pixels = retrieval.Pixels.of(held)
            form = media.frame_form(pixels.header.transfer_syntax)
            media.chosen(form, accept_of(asked))
            return media.multipart(form.media_type, zip(repeat(form), pixels.whole()))
        form = Form(media_type=media.OCTETS, syntax=ExplicitVRLittleEndian)
        media.chosen(form, accept_of(asked))
        return media.multipart(form.media_type, [(form, [retrieval.value(held, tag)])])

    def _found(self, asked: Asked) -> list[Held]:
        """Return the instances that a path leads to."""
        uids = {name: _named(asked, name) for name in ("study", "series", "uid")}
        found = self._holdings.instances(**uids)
        if not found:
            raise NotAnsweredError(404, _NOTHING)
        return found


def _told(answer: Handler) -> Handler:
    """Let a refusal be text: programs read it."""

    def told(asked: Asked) -> Response:
        try:
            return answer(asked)
        except NotAnsweredError as refused:
            return Response(refused.text, refused.status, media_type="text/plain")
        except (ImageError, OSError):
            return Response("The file of this instance cannot be read.", 500, media_type="text/plain")

    return told


def _named(asked: Asked, name: str) -> str:
    """Return a UID of the path; empty where the path has none of this name."""
    uid = str(asked.request.path_params.get(name, ""))
    if name in asked.request.path_params and not is_uid(uid):
        raise NotAnsweredError(400, "Expected UIDs in the path.")
    return uid


def root_of(asked: Asked) -> str:
    """Return where the resources are."""
    return str(asked.request.base_url).rstrip("/") + ROOT  # the guard has seen that Host is ours


def accept_of(asked: Asked) -> str:
    """Return what a client accepts."""
    return asked.query.get("accept") or ",".join(asked.request.headers.getlist("accept"))


def _query(asked: Asked) -> Query:
    media.expect_json(accept_of(asked))
    return Query.of(asked.request.query_params.multi_items())


def _results(found: Found, query: Query) -> Response:
    """Answer a search; what it did not do, or left out, is in a Warning (PS3.18 8.3.4)."""
    warnings = []
    if query.is_fuzzy:
        warnings.append("The fuzzymatching parameter is not supported. Only literal matching has been performed.")
    if found.has_more:
        warnings.append("There are additional results that can be requested.")
    headers = {"Warning": ", ".join(f'299 cxr-dicom "{each}"' for each in warnings)} if warnings else {}
    if not found.results:
        return Response(status_code=204, headers=headers)
    return Response(json.dumps(found.results, allow_nan=False), media_type=media.JSON, headers=headers)


def _metadata_of(held: Held, root: str) -> Json:
    address = f"{root}/studies/{held.study}/series/{held.series}/instances/{held.uid}"
    return metadata(held.header(), address)


def _listed(first: Json, others: Sequence[Held], root: str) -> Iterator[str]:
    yield "[" + json.dumps(first, allow_nan=False)
    for held in others:
        yield "," + json.dumps(_metadata_of(held, root), allow_nan=False)
    yield "]"
