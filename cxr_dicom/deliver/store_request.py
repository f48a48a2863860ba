"""A store request (STOW-RS, PS3.18 10.5) in the form that a server likes."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import requests

from cxr_dicom.config.service import HttpAccess
from cxr_dicom.deliver.upload import FORMS, ONE_FILE, Part, Upload
from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.system.network import request
from cxr_dicom.system.retry import OUTAGE

_ACCEPTED = ("application/dicom+json", "application/dicom+xml", "*/*")  # answers; the first that a server likes


class StoreRequests:
    """Sends files to one server, and remembers the plainest form that was needed."""

    def __init__(self, access: HttpAccess) -> None:
        self._access = access
        self._form, self._accept = 0, 0  # of `FORMS` and `_ACCEPTED`
        self._is_understood = False  # whether the server took an object in this form: then 415 is about the object

    @property
    def may_hold_several(self) -> bool:
        """Whether the form is one for several files."""
        return self._form != ONE_FILE

    def post(self, opened: requests.Session, parts: Sequence[Part]) -> requests.Response:
        """Send files in one request; where the server does not like the form, or what it may answer, in a plainer one.

        Raises
        ------
        ConnectionFailedError
            If no answer came; `OUTAGE` only where nothing was sent.
        ImageError
            If a file cannot be read to its end.
        """
        form, accept = self._form, self._accept
        last_form = ONE_FILE if len(parts) == 1 else ONE_FILE - 1
        while True:
            with Upload(parts, FORMS[form]) as body:
                answer = self._answer(opened, body, _ACCEPTED[accept])
            status = answer.status_code
            if status == HTTPStatus.NOT_ACCEPTABLE and accept + 1 < len(_ACCEPTED):
                accept += 1
            elif status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE and form < last_form and not self._is_understood:
                form += 1
            else:
                break
        if status // 100 == 2:
            self._form, self._accept, self._is_understood = form, accept, True
        return answer

    def _answer(self, opened: requests.Session, body: Upload, accepted: str) -> requests.Response:
        headers = {"Accept": accepted, **body.headers}
        try:
            return request(opened, self._access, "POST", "studies", data=body, headers=headers)
        except ConnectionFailedError as error:
            if error.status == OUTAGE and body.is_begun:
                raise ConnectionFailedError("BROKEN_OFF", "the connection ended or stalled in a request") from error
            raise
