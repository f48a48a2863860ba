"""The application: which pages there are, what right each needs, and what all of them share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl

import anyio
from jinja2 import Environment
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cxr_dicom import __version__
from cxr_dicom.config.web import Right, WebSettings
from cxr_dicom.results import pages
from cxr_dicom.results.report import COLOUR_MAP
from cxr_dicom.system import telemetry
from cxr_dicom.web.answers import NotAnsweredError, refusal
from cxr_dicom.web.guard import SAFE_METHODS, Guard, cookie_name
from cxr_dicom.web.visitors import Visitor, Visitors

_AT_ONCE = 4  # pages that are made at the same time: the listener of the same process comes first
_MAX_FIELDS = 50
_STRANGER = "Open the link that the terminal printed when this was started; it lets you in."
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request that may be answered, and what its answer is made of."""

    request: Request
    visitor: Visitor
    form: Mapping[str, str]  # empty unless one was sent
    render: Callable[..., Response]

    @property
    def query(self) -> Mapping[str, str]:
        """What stands behind the question mark."""
        return self.request.query_params

    def path(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])


Handler = Callable[[Asked], Response]
AsyncHandler = Callable[[Asked], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A path, who may ask for it, and what answers."""

    path: str
    right: Right
    handler: Handler | None = None  # works in a thread
    stream: AsyncHandler | None = None  # reads the body, or goes on answering, itself
    method: str = "GET"
    is_upload: bool = False  # the body is a file, not a form
    title: str = ""  # of its entry in the navigation; empty: none


@dataclass(frozen=True, kw_only=True)
class Web:
    """Pages and those who visit them."""

    name: str
    settings: WebSettings
    visitors: Visitors
    pages: Sequence[Page]
    port: int
    limiter: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(_AT_ONCE))

    def application(self) -> ASGIApp:
        """Return what a server runs."""
        routes = [Route(page.path, partial(self._answer, page), methods=[page.method]) for page in self.pages]
        routes += [
            Route("/enter", self._entrance, methods=["GET"]),
            Route("/enter", self._enter, methods=["POST"]),
            Route("/leave", self._leave, methods=["POST"]),
            Route("/static/{name}", _static, methods=["GET"]),
        ]
        handlers = {HTTPException: _not_found, NotAnsweredError: _refused}
        application = Starlette(routes=routes, exception_handlers=handlers)
        uploads = [page.path for page in self.pages if page.is_upload]
        return Guard(application, self.settings, self.visitors, self.port, uploads)

    async def _answer(self, page: Page, request: Request) -> Response:
        visitor: Visitor | None = request.scope["visitor"]
        if visitor is None:
            return refusal(NotAnsweredError(401, _STRANGER))
        if not visitor.may(page.right):
            return refusal(NotAnsweredError(403, f"You may not do this: it needs the right {page.right}."))
        try:
            form = await self._form(page, request, visitor)
            asked = Asked(request=request, visitor=visitor, form=form, render=partial(self._render, request, visitor))
            if page.stream:
                return await page.stream(asked)
            assert page.handler  # noqa: S101 - one of both
            return await anyio.to_thread.run_sync(page.handler, asked, limiter=self.limiter)
        except NotAnsweredError as refused:
            return refusal(refused)
        except Exception as error:  # a page never ends the service, and tells a stranger nothing
            telemetry.failure("page", error)
            return refusal(NotAnsweredError(500, "This page cannot be shown now; the log of the service says why."))

    async def _form(self, page: Page, request: Request, visitor: Visitor) -> Mapping[str, str]:
        """Read the form, and check that a page of ours made it."""
        if request.method in SAFE_METHODS:
            return {}
        token = request.headers.get("x-form-token", "")
        form = {} if page.is_upload else await _fields(request)
        if not self.visitors.is_own_form(visitor, token or form.get("form_token", "")):
            raise NotAnsweredError(
                403, "This form was not made by a page of ours for you, or is too old. Load the page again."
            )
        return form

    def _render(self, request: Request, visitor: Visitor, name: str, status: int = 200, **values: Any) -> Response:
        page = (
            environment()
            .get_template(name)
            .render(
                site_name=self.name,
                visitor=visitor,
                may=lambda right: visitor.may(Right(right)),
                form_token=self.visitors.form_token(visitor),
                navigation=[each for each in self.pages if each.title and visitor.may(each.right)],
                here=request.url.path,
                package_version=__version__,
                zone=_zone(),
                **values,
            )
        )
        return HTMLResponse(page, status)

    async def _entrance(self, request: Request) -> Response:
        return HTMLResponse(environment().get_template("enter.html.jinja").render(site_name=self.name))

    async def _enter(self, request: Request) -> Response:
        form = await _fields(request)
        session = self.visitors.enter(form.get("token", "").strip())
        if session is None:
            return refusal(NotAnsweredError(401, f"This is not the token of these pages. {_STRANGER}"))
        answer = Response(status_code=303, headers={"Location": "/"})
        answer.set_cookie(cookie_name(self.port), session, httponly=True, samesite="strict", path="/")
        return answer

    async def _leave(self, request: Request) -> Response:
        """End the session; no more is at stake, so this form needs no token."""
        self.visitors.leave(request.scope["session"])
        return Response(status_code=303, headers={"Location": "/enter"})


@cache
def environment() -> Environment:
    """Return what makes these pages of their templates."""
    made = pages.environment("cxr_dicom.web")
    made.filters |= {"moment": moment, "ago": ago}
    return made


def moment(seconds: float) -> str:
    """Write a time of this place."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def ago(seconds: float) -> str:
    """Write how long something lasted, or is past."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s" if seconds >= 10 else f"{max(0.0, seconds):.1f} s"


def _zone() -> str:
    now = datetime.now().astimezone()
    return f"{now:%Z}, UTC{now:%z}"


async def _fields(request: Request) -> dict[str, str]:
    """Read the fields of a form; the guard bounds its bytes and its time."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", ""):
        raise NotAnsweredError(415, "Expected the fields of a form.")
    try:
        text = (await request.body()).decode("utf-8")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except ValueError:
        raise NotAnsweredError(400, "The fields of this form cannot be read.") from None


async def _static(request: Request) -> Response:
    name = str(request.path_params["name"])
    content = _files().get(name)
    if content is None:
        raise NotAnsweredError(404, "There is nothing here.")
    return Response(content, media_type=_TYPES[name.rpartition(".")[2]])


@cache
def _files() -> Mapping[str, str]:
    """Return what the pages load: the style of all pages of this package, that of the report, and their own."""
    static = resources.files("cxr_dicom.web").joinpath("static")
    own = {each.name: each.read_text(encoding="utf-8") for each in static.iterdir()}
    image = pages.template("image.css").render(colour_map=COLOUR_MAP)
    return {**own, "page.css": "\n".join((pages.source("page.css"), image, own.get("web.css", "")))}


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return refusal(NotAnsweredError(status, "There is nothing here." if status == 404 else "This cannot be done here."))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotAnsweredError)  # noqa: S101 - registered for it only
    return refusal(error)
