"""Pages that change nothing: which models there are, what is set, and whether it works."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.responses import Response

from cxr_dicom.config import ENVIRONMENT_PREFIX, Settings, operating_points
from cxr_dicom.config.web import Right
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.infer import catalogue, model_infos, running
from cxr_dicom.results import card as cards
from cxr_dicom.web.answers import NotAnsweredError
from cxr_dicom.web.application import Asked, Page

_UNSHOWN = ("token_command",)  # may hold a secret among its words


class Answer(Protocol):
    """What `service.checks` says of one setting."""

    @property
    def key(self) -> str:
        """The setting."""

    @property
    def level(self) -> str:
        """How bad it is."""

    @property
    def text(self) -> str:
        """What was found."""


class SettingsPages:
    """The pages of one set of settings.

    Parameters
    ----------
    check
        Tries all of it.
    """

    def __init__(self, settings: Settings, check: Callable[[], Iterable[Answer]]) -> None:
        self._settings = settings
        self._check = check
        self._is_checking = threading.Lock()

    def pages(self) -> Sequence[Page]:
        """Return the pages."""
        return (
            Page(path="/models", right=Right.LOOK, handler=self.models, title="Models"),
            Page(path="/models/{name}", right=Right.LOOK, handler=self.card),
            Page(path="/settings", right=Right.OPERATE, handler=self.show, title="Settings"),
            Page(path="/settings/check", right=Right.OPERATE, handler=self.check, method="POST"),
        )

    def models(self, asked: Asked) -> Response:
        """Show every model that can be named, those that run here first."""
        names = running(self._settings)
        rows = [catalogue.described(info, self._settings) for info in model_infos(self._settings).values()]
        rows.sort(key=lambda row: (row["name"] not in names, row["name"]))
        return asked.render("models.html.jinja", models=rows, running=names, **self._site())

    def card(self, asked: Asked) -> Response:
        """Show what is known of one model, at this site too."""
        name = asked.path("name")
        if name not in model_infos(self._settings):
            raise NotAnsweredError(404, "There is no such model.")
        try:
            made, problem = cards.card(name, self._settings, self._settings.web.evaluation), ""
        except CxrDicomError as error:
            problem = str(error)
            made = self._card_alone(name)
        return asked.render("model.html.jinja", **cards.shown(made, problem))

    def show(self, asked: Asked) -> Response:
        """Show what is set."""
        return asked.render("settings.html.jinja", tables=list(tables(self._settings)), answers=None)

    def check(self, asked: Asked) -> Response:
        """Try all that is set, as the command does."""
        if not self._is_checking.acquire(blocking=False):
            raise NotAnsweredError(409, "It is being checked already; that takes up to a minute.")
        try:
            answers = list(self._check())
        finally:
            self._is_checking.release()
        return asked.render("settings.html.jinja", tables=list(tables(self._settings)), answers=answers)

    def _card_alone(self, name: str) -> cards.Card:
        """Make a card where the evaluation is not about this model, or cannot be read."""
        try:
            return cards.card(name, self._settings)
        except CxrDicomError as error:
            raise NotAnsweredError(409, str(error)) from error

    def _site(self) -> dict[str, Any]:
        """Return what this site found out about its models."""
        models = self._settings.models
        if models.operating_points is None:
            return {"site": None, "site_problem": ""}
        try:
            site = operating_points.read(models.operating_points, models.operating_points_sha256)
            return {"site": site, "site_problem": ""}
        except CxrDicomError as error:
            return {"site": None, "site_problem": str(error)}


def tables(settings: Settings) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yield each table with its keys, values as people read them, and where each came from."""
    for name, table in settings:
        if isinstance(table, BaseModel):
            yield name, list(_lines(name, table))
        else:
            yield name, [(each.name, _text(each.model_dump(mode="json", exclude_unset=True)), "file") for each in table]


def _lines(name: str, table: BaseModel) -> Iterator[tuple[str, str, str]]:
    for key, value in table:
        variable = f"{ENVIRONMENT_PREFIX}{name}__{key}".upper()
        fields = type(table).model_fields
        if variable in map(str.upper, os.environ):
            origin = variable
        elif value == fields[key].get_default(call_default_factory=True):
            origin = "default"
        else:
            origin = "file"
        dumped = table.model_dump(mode="json", include={key})[key]
        yield key, _text(dumped), origin


def _text(value: Any) -> str:
    if isinstance(value, dict):
        parts = (f"{key}: {'not shown' if key in _UNSHOWN and each else _text(each)}" for key, each in value.items())
        return "; ".join(parts) or "none"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return "none" if value is None or value == "" else str(value).lower() if isinstance(value, bool) else str(value)
