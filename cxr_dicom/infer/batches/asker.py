"""The networks as a worker sees them."""

from __future__ import annotations

import itertools
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cxr_dicom.errors import ModelError, PlaceError, SettingsError, WeightsError
from cxr_dicom.infer.batches.line import BrokenLineError, Form, Line, ask_for
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

    from cxr_dicom.config import Settings
    from cxr_dicom.infer.batches import Compute

TRIES = 3  # of one image, in new processes
ERRORS = {error.__name__: error for error in (ModelError, PlaceError, SettingsError, WeightsError)}


class Asker:
    """Asks for answers; several threads may. It goes to a worker at the worker's start.

    Each thread has a line of its own while it waits, so no more images wait than workers are at work on.

    Parameters
    ----------
    inboxes
        Of the processes with the networks: the images of a worker go to each in turn.
    """

    def __init__(self, inboxes: Sequence[socket.socket]) -> None:
        self._inboxes = tuple(inboxes)
        self._turn = itertools.count(os.getpid())
        self._idle: deque[_Question] = deque()

    def __reduce__(self) -> tuple[Any, ...]:
        return Asker, (self._inboxes,)

    @property
    def device(self) -> str:
        """What the networks run on."""
        question = self._line()
        self._idle.append(question)
        return question.device

    def near(self, settings: Settings) -> Settings:
        """Return the settings of a worker: on its side nothing is computed."""
        return settings.model_copy(update={"models": settings.models.model_copy(update={"device": "cpu"})})

    def take(self, compute: Compute, info: ModelInfo, channels: int) -> Compute:
        """Let go of a network, and return how it is asked.

        Raises
        ------
        CxrDicomError
            If the process cannot load it, or has other weights.
        """

        def ask(pixels: torch.Tensor) -> Any:
            return self._ask(info, pixels)

        question = self._line()
        self._idle.append(question)
        if question.weights.get(info.name) != info.weights_sha256:
            raise WeightsError(f"{info.name}: the weights changed while they were loaded; start again")
        return ask

    def _ask(self, info: ModelInfo, pixels: torch.Tensor) -> Any:
        deaths = 0
        while deaths < TRIES:
            question = self._line()
            try:
                answer = question.ask(info.name, pixels, is_alone=deaths > 0)
            except BrokenLineError:
                deaths += question.was_at_work
                continue
            self._idle.append(question)
            if isinstance(answer, str):
                raise ModelError(f"{info.name}: the network failed on {question.device}: {answer}")
            return answer
        raise ModelError(f"{info.name}: the process of the networks died {TRIES} times while it computed this image")

    def _line(self) -> _Question:
        """Take a line that nobody uses, or make one; wait for a process that is being started."""
        while True:
            try:
                return self._idle.pop()
            except IndexError:
                pass
            inbox = self._inboxes[next(self._turn) % len(self._inboxes)]
            try:
                line = ask_for(inbox)
            except BrokenLineError:
                raise PlaceError("the process of the networks was ended") from None
            try:
                heard = line.hear()
            except BrokenLineError:  # it died meanwhile
                continue
            if kind := heard.get("error"):
                raise ERRORS.get(kind, ModelError)(heard["text"])
            return _Question(line, heard)


class _Question:
    """A line with room for one question."""

    def __init__(self, line: Line, heard: dict[str, Any]) -> None:
        self.device: str = heard["device"]
        self.weights: dict[str, str | None] = heard["weights"]
        self._line = line
        self._forms = {name: Form.heard(told) for name, told in heard["networks"].items()}
        line.make_room(max((form.size for form in self._forms.values()), default=0))
        self.was_at_work = False

    def ask(self, name: str, pixels: torch.Tensor, *, is_alone: bool) -> Any:
        form = self._forms[name]
        if tuple(pixels.shape) != form.question:
            return f"expected an input of {form.question}, got {tuple(pixels.shape)}"
        question, answers = self._line.arrays(form)
        self._line.is_at_work = False
        question.copy_(pixels)
        try:
            self._line.tell({"network": name, "is_alone": is_alone})
            heard = self._line.hear()
        except BrokenLineError:
            self.was_at_work = self._line.is_at_work
            raise
        if "error" in heard:
            return str(heard["error"])
        found = tuple(answer.clone() for answer in answers)
        return found if form.is_tuple else found[0]
