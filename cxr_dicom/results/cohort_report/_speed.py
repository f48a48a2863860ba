"""How fast a run was: images over time, and where the seconds went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cxr_dicom.results.pages import number, share
from cxr_dicom.results.svg import Drawn, Plot, drawing, line, path, points, round_ticks

_MAX_STEPS = 60  # of a session; finer ones would show single images

_Piece = tuple[float, float, float]  # from, to in seconds of work, and images per second between them


def total_seconds(run: Mapping[str, Any]) -> float:
    """Seconds of all sessions."""
    return float(sum(session["seconds"] for session in run.get("sessions", ())))


def per_second(run: Mapping[str, Any]) -> float | None:
    """Images per second over all sessions; None when nothing was done."""
    seconds, images = total_seconds(run), sum(session["images"] for session in run.get("sessions", ()))
    return images / seconds if seconds and images else None


def picture(run: Mapping[str, Any]) -> Drawn | None:
    """Draw images per second over working time; a vertical line marks each restart."""
    sessions = run.get("sessions", ())
    pieces, starts = _pieces(sessions)
    if not pieces:
        return None
    end = max(piece[1] for piece in pieces)
    most = max(piece[2] for piece in pieces) or 1
    plot = Plot(width=520, height=210, x=(0, end), y=(0, most * 1.1), left=48, top=24)
    scale, unit = next((scaled for scaled in ((3600, "hours"), (60, "minutes")) if end > 2 * scaled[0]), (1, "seconds"))
    parts = plot.axes(
        [(tick * scale, f"{tick:g}") for tick in round_ticks(end / scale, 8)],
        [(tick, f"{tick:g}") for tick in round_ticks(most)],
        f"{unit} at work",
        "images per second",
    )
    for number_of, start in enumerate(starts):
        stop = starts[number_of + 1] if number_of + 1 < len(starts) else end
        own = [piece for piece in pieces if start <= piece[0] < stop]
        if own:
            edges = [own[0][0], *(piece[1] for piece in own)]
            outline = points(plot.steps(edges, [piece[2] for piece in own]))
            parts.append(path(outline + "Z", "area"))
        if start:
            parts.append(line(plot.at_x(start), plot.top, plot.at_x(start), plot.height - plot.bottom, "limit"))
    return drawing(parts, plot.width, plot.height, "Images per second over time")


def stages(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the seconds of each stage, the longest first."""
    spent = {stage: float(seconds) for stage, seconds in run.get("seconds_per_stage", {}).items()}
    total, longest = sum(spent.values()), max(spent.values(), default=0.0)
    return [
        {"stage": stage, "seconds": seconds, "share": share(seconds, total), "width": 100 * seconds / (longest or 1)}
        for stage, seconds in sorted(spent.items(), key=lambda item: (-item[1], item[0]))
    ]


def duration(seconds: float) -> str:
    """Write a duration for people."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{number(minutes // 60)} h {minutes % 60:02d} min"


def _pieces(sessions: Sequence[Mapping[str, Any]]) -> tuple[list[_Piece], list[float]]:
    """Put all sessions one after the other on one axis of time."""
    pieces: list[_Piece] = []
    starts, offset = [], 0.0
    for session in sessions:
        starts.append(offset)
        before, done, least = 0.0, 0, max(session["images"] / _MAX_STEPS, 1)
        last = session["timeline"][-1:]
        for point in session["timeline"]:
            seconds, images = point
            if seconds > before and (images - done >= least or [point] == last):
                pieces.append((offset + before, offset + seconds, max(images - done, 0) / (seconds - before)))
                before, done = seconds, images
        offset += session["seconds"]
    return pieces, starts
