"""The live view of a run on a terminal: one panel that says where it is and where the time goes."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cxr_dicom.cli._words import counts, duration

if TYPE_CHECKING:
    from cxr_dicom.cohort.run import Progress

_STAGES_SHOWN = 5
_BAR = 60  # characters
_GPU_SECONDS = 2.0  # between two looks at the GPU


@contextmanager
def live_view() -> Iterator[Callable[[Progress], None]]:
    """Show the view while the block runs, and yield the function that updates it."""
    view = _View()
    with Live(get_renderable=view.render, console=Console(stderr=True), transient=True, refresh_per_second=4):
        try:
            yield view.report
        finally:
            view.close()


class _View:
    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._gpu = ""
        self._closed = threading.Event()
        psutil.cpu_percent()  # the first call measures nothing; later ones the time since the one before
        if shutil.which("nvidia-smi"):
            threading.Thread(target=self._watch_gpu, daemon=True).start()

    def report(self, progress: Progress) -> None:
        self._progress = progress

    def close(self) -> None:
        self._closed.set()

    def render(self) -> RenderableType:
        if self._progress is None:
            return Text("listing the inputs ...")
        tally = self._progress.tally
        kept = f", {tally.reused} kept from earlier" if tally.reused else ""
        rows = Table.grid(padding=(0, 2))
        rows.add_row("", ProgressBar(total=max(tally.total, 1), completed=tally.done, width=_BAR))
        rows.add_row("studies", f"{tally.done} of {tally.total}{kept}")
        rows.add_row("images", ", ".join(counts(tally)))
        rows.add_row("reasons", _listed({reason: count for (_, reason), count in tally.reasons.items()}))
        rows.add_row("time in", _shares(tally.stages))
        rows.add_row("machine", f"CPU {psutil.cpu_percent():.0f} %{self._gpu}, {duration(tally.seconds)} so far")
        return Panel(rows, title="cxr-dicom", expand=False)

    def _watch_gpu(self) -> None:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._closed.is_set():
            found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
            self._gpu = f", GPU {' / '.join(found.stdout.split())} %" if found.stdout.strip() else ""
            self._closed.wait(_GPU_SECONDS)


def _shares(stages: dict[str, float]) -> str:
    total = sum(stages.values())
    largest = sorted(stages.items(), key=lambda item: -item[1])[:_STAGES_SHOWN]
    return ", ".join(f"{stage} {seconds / total:.0%}" for stage, seconds in largest if seconds) or "-"


def _listed(reasons: dict[str, int]) -> str:
    largest = sorted(reasons.items(), key=lambda item: -item[1])[:_STAGES_SHOWN]
    return ", ".join(f"{count} x {reason}" for reason, count in largest) or "-"
