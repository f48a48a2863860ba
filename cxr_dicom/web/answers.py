"""Answers that are no pages of their own: refusals, and the way to a page after a form was sent."""

from __future__ import annotations

import html

from starlette.responses import HTMLResponse, Response

from cxr_dicom.errors import CxrDicomError

BUSY = 503  # it may be asked for again

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{status}: cxr-dicom</title>
<link rel="stylesheet" href="/static/page.css">
</head>
<body>
<main>
<h1>{status}</h1>
<p>{text}</p>
<p><a href="/">To the first page</a></p>
</main>
</body>
</html>
"""


class NotAnsweredError(CxrDicomError):
    """A request is not answered as it wants; the text says what was expected, and holds nothing that came with it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def refusal(refused: NotAnsweredError) -> Response:
    """Make the answer of a refusal; the connection ends, for what is left of the request is not read."""
    page = _PAGE.format(status=refused.status, text=html.escape(refused.text))
    return HTMLResponse(page, refused.status, headers={"Connection": "close"})


def seen_other(path: str) -> Response:
    """Lead to a page after a form was sent, so that loading it again sends nothing."""
    return Response(status_code=303, headers={"Location": path})
