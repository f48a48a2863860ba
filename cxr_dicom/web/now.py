"""What an operator sees and does: the Now page, which follows the ledger, and actions on studies and destinations."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from cxr_dicom.config import Settings
from cxr_dicom.config.web import Right
from cxr_dicom.infer.catalogue import runnable
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.records import StudyState
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.ledger.actions import ActionRefusedError, Actions, Person, UnknownStudyError
from cxr_dicom.store.ledger.overview import MAX_COUNTED
from cxr_dicom.store.ledger.places import Place
from cxr_dicom.web.answers import NotAnsweredError, seen_other
from cxr_dicom.web.application import Asked, Page
from cxr_dicom.web.studies import TICKED

_LOOK_SECONDS = 1.0  # between two looks at the change counter
_BEAT_SECONDS = 15.0  # after which ages are told anew though nothing changed
_STREAM_SECONDS = 600.0  # the browser comes again by itself
_MAX_STREAMS = 32


class NowPages:
    """The pages of one service.

    Parameters
    ----------
    problems
        Says which parts of the service do not work.
    stopping
        Set when the service ends, so that no stream holds it up.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        problems: Callable[[], Mapping[str, str]],
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._problems = problems
        self._stopping = stopping
        self._changes = ledger.overview.changes()
        self._streams = 0

    def close(self) -> None:
        """Give the connection back."""
        self._changes.close()

    def pages(self) -> Sequence[Page]:
        """Return the pages."""
        look, operate = Right.LOOK, Right.OPERATE
        study, destination = "/studies/{key}", "/destinations/{name}"
        acts: Iterable[tuple[str, Callable[[Asked], Response]]] = (
            (f"{study}/retry", self.retry),
            (f"{study}/resend", self.resend),
            (f"{study}/reprocess", self.reprocess),
            (f"{study}/complete", self.complete),
            (f"{study}/forget", self.forget),
            ("/retry", self.retry_all),
            (f"{destination}/retry", self.retry_all),
            (f"{destination}/withdraw", self.withdraw),
            (f"{destination}/pause", self.pause),
            (f"{destination}/resume", self.resume),
        )
        return (
            Page(path="/", right=look, handler=self.show),
            Page(path="/now", right=look, handler=self.show, title="Now"),
            Page(path="/now/part", right=look, handler=self.part),
            Page(path="/now/changes", right=look, stream=self.changes),
            *(Page(path=path, right=operate, handler=handler, method="POST") for path, handler in acts),
        )

    # --- looking ---------------------------------------------------------------------------------

    def show(self, asked: Asked) -> Response:
        """Show the page."""
        return asked.render("now.html.jinja", **self.values())

    def part(self, asked: Asked) -> Response:
        """Show what of the page changes."""
        return asked.render("now_part.html.jinja", **self.values())

    async def changes(self, asked: Asked) -> Response:
        """Tell when something changed, as server-sent events."""
        if self._streams >= _MAX_STREAMS:
            raise NotAnsweredError(503, "Too many pages are open.")
        self._streams += 1  # now, for others ask before this one begins
        return _Counted(self._events(), self._ended)

    async def _events(self) -> AsyncIterator[str]:
        until, told_at, told = time.monotonic() + _STREAM_SECONDS, 0.0, -1
        while time.monotonic() < until and not self._stopping.is_set():
            number = self._changes.number()
            if number != told or time.monotonic() - told_at > _BEAT_SECONDS:
                told, told_at = number, time.monotonic()
                yield f"event: change\ndata: {number}\n\n"
            await asyncio.sleep(_LOOK_SECONDS)

    def _ended(self) -> None:
        self._streams -= 1

    def values(self) -> dict[str, Any]:
        """Return what the page says."""
        overview, now = self._ledger.overview, time.time()
        midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
        disk = shutil.disk_usage(self._ledger.folder)
        return {
            "now": now,
            "problems": self._problems(),
            "states": {str(state): count for state, count in self._ledger.stories.counts().items()},
            "oldest": overview.oldest(StudyState.COMPLETE),
            "running": overview.latest([StudyState.RUNNING]),
            "given_up": overview.latest([StudyState.DEAD, StudyState.HELD]),
            "destinations": self._destinations(),
            "archives": self._settings.poller.archives,
            "outages": {each.name: each for each in self._ledger.places.out() if each.kind is Place.ARCHIVE},
            "listener": self._settings.listener,
            "disk": disk,
            "min_free": self._settings.spool.min_free_mb << 20,
            "today": overview.today(midnight),
            "max_counted": MAX_COUNTED,
        }

    def _destinations(self) -> list[dict[str, Any]]:
        overview, stories = self._ledger.overview, self._ledger.stories
        named = {each.name: each.kind for each in self._settings.destinations}
        waiting = {each.destination: each for each in stories.waiting()}
        outages = {each.name: each for each in self._ledger.places.out() if each.kind is Place.DESTINATION}
        refused, paused = overview.refused(), overview.paused()
        return [
            {
                "name": name,
                "kind": named.get(name),
                "waiting": waiting.get(name),
                "outage": outages.get(name),
                "refused": refused.get(name, 0),
                "paused": paused.get(name),
            }
            for name in dict.fromkeys((*named, *waiting, *refused, *paused))
        ]

    # --- acting ----------------------------------------------------------------------------------

    def retry(self, asked: Asked) -> Response:
        """Try a study again."""
        return self._act(asked, lambda actions: actions.retry(_study(asked)), f"/studies/{_study(asked)}")

    def resend(self, asked: Asked) -> Response:
        """Send the objects of a study once more."""
        return self._act(asked, lambda actions: actions.resend(_study(asked)), f"/studies/{_study(asked)}")

    def reprocess(self, asked: Asked) -> Response:
        """Process a study again, with the models that are ticked, or those of the settings."""
        ticked = [name.removeprefix(TICKED) for name in asked.form if name.startswith(TICKED)]
        names = [info.name for info in runnable(self._settings) if info.name in ticked]
        if len(names) < len(ticked):
            raise NotAnsweredError(409, "A model that was chosen is not here any more. Load the page again.")
        return self._act(asked, lambda actions: actions.reprocess(_study(asked), names), f"/studies/{_study(asked)}")

    def complete(self, asked: Asked) -> Response:
        """Close a study."""
        return self._act(asked, lambda actions: actions.complete(_study(asked)), f"/studies/{_study(asked)}")

    def forget(self, asked: Asked) -> Response:
        """Delete a study."""
        return self._act(asked, lambda actions: actions.forget(_study(asked)), "/studies")

    def retry_all(self, asked: Asked) -> Response:
        """Try all that waits or was given up, or what one destination refused."""
        destination = self._destination(asked) if "name" in asked.request.path_params else None
        return self._act(asked, lambda actions: actions.retry_all(destination=destination), "/now")

    def withdraw(self, asked: Asked) -> Response:
        """Give up what waits for a destination."""
        return self._act(asked, lambda actions: actions.withdraw(self._destination(asked)), "/now")

    def pause(self, asked: Asked) -> Response:
        """Send nothing to a destination for now."""
        return self._act(asked, lambda actions: actions.pause(self._destination(asked)), "/now")

    def resume(self, asked: Asked) -> Response:
        """Send to a destination again."""
        return self._act(asked, lambda actions: actions.resume(self._destination(asked)), "/now")

    def _act(self, asked: Asked, act: Callable[[Actions], object], then: str) -> Response:
        try:
            act(Actions(self._ledger, Person(name=asked.visitor.name, via="page")))
        except UnknownStudyError as error:
            raise NotAnsweredError(404, str(error)) from error
        except ActionRefusedError as error:
            raise NotAnsweredError(409, str(error)) from error
        return seen_other(quote(then))

    def _destination(self, asked: Asked) -> str:
        name = asked.path("name")
        if all(each["name"] != name for each in self._destinations()):
            raise NotAnsweredError(404, "There is no such destination.")
        return name


class _Counted(StreamingResponse):
    """Server-sent events that tell when they ended, however they did."""

    def __init__(self, events: AsyncIterator[str], ended: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def _study(asked: Asked) -> str:
    if not is_uid(asked.path("key")):
        raise NotAnsweredError(404, "There is no such study.")
    return asked.path("key")
