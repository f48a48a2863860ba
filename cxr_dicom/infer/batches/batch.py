"""One batch: gathered, computed, answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch

from cxr_dicom.infer.batches.device import Device, Stream
from cxr_dicom.infer.batches.network import Network
from cxr_dicom.infer.batches.turns import Question
from cxr_dicom.system import telemetry

_Part: TypeAlias = "tuple[Sequence[Question], tuple[torch.Tensor, ...] | str]"


class Batch:
    """Images for one network. It always has the same shape; places without an image are black."""

    def __init__(self, network: Network, device: Device, copying: Stream) -> None:
        self.questions: list[Question] = []
        self._network = network
        self._device = device
        self._copying = copying
        shape = (network.most, *network.form.question)
        self._here = device.host_memory(shape)
        with device.on(copying):
            self._there = torch.zeros(shape, device=device.name)

    @property
    def has_room(self) -> bool:
        """Whether one more image finds a place."""
        return len(self.questions) < len(self._here)

    def add(self, question: Question) -> None:
        """Put an image into the next place, and send it on its way to the device."""
        place = len(self.questions)
        self.questions.append(question)
        self._here[place].copy_(question.pixels)
        with self._device.on(self._copying):
            self._there[place].copy_(self._here[place], non_blocking=True)

    def compute(self) -> list[_Part]:
        """Compute all; an image at which the network fails has a text in place of its answer."""
        self._mark(at_work=True)
        self._device.wait(self._copying)
        with self._device.on(self._device.computing):
            found = list(self._parts(self._there, self.questions))
        self._mark(at_work=False)
        return found

    def answer(self, parts: Sequence[_Part]) -> None:
        """Give everybody the own answer."""
        for questions, found in parts:
            if isinstance(found, str):
                for question in questions:
                    question.fail(found)
                continue
            here = [self._device.fetched(each[: len(questions)], self._copying) for each in found]
            for number, question in enumerate(questions):
                question.answer([each[number] for each in here])

    def _mark(self, *, at_work: bool) -> None:
        """Say in the workers' memory whose images are to blame should this process die now."""
        for question in self.questions:
            question.line.is_at_work = at_work

    def _parts(self, pixels: torch.Tensor, questions: Sequence[Question]) -> Iterator[_Part]:
        """Compute, and halve where that fails: for want of memory, or for one image that is the others' neighbour."""
        if not questions:
            return
        found = self._tried(pixels)
        if not isinstance(found, str) or len(pixels) == 1:
            yield questions, found
            return
        half = -(-len(pixels) // 2)
        yield from self._parts(pixels[:half], questions[:half])
        yield from self._parts(pixels[half:], questions[half:])

    def _tried(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...] | str:
        try:
            found = self._network(pixels)
            self._device.wait(self._device.computing)
            return found
        except torch.OutOfMemoryError:
            self._network.most = max(1, len(pixels) // 2)
            text = "out of memory"
        except RuntimeError as error:
            text = str(error).splitlines()[0]
        except Exception as error:
            text = telemetry.safe_description(error)
        self._device.after_failure()
        return text
