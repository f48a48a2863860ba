"""Studies of the ledger as lines for a terminal of 80 columns: UIDs first and whole, all else below them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from cxr_dicom.cli._words import wrapped

Row = dict[str, Any]

_INDENT = "    "


def summary(row: Row) -> Iterator[str]:
    """Yield the lines of one study in a list."""
    yield f"{row['study_instance_uid']}  {row['state']}{'  urgent' if row['urgent'] else ''}"
    yield from _below(
        f"{when(row['changed_at'])}, {count(row['instances'], 'image')}, {count(row['objects'], 'object')}"
    )
    yield from _why(row)


def story(row: Row) -> Iterator[str]:
    """Yield the lines of all that is known of a study."""
    yield f"{row['study_instance_uid']}  {row['state']}{'  urgent' if row['urgent'] else ''}"
    yield from _why(row)
    if row["models"]:
        yield from _below(f"with the models that were asked for: {', '.join(row['models'])}")
    yield from _below(f"received {when(row['received_at'])}, changed {when(row['changed_at'])}")
    yield from _section("Images", row["instances"], _image)
    yield from _section("Runs", row["jobs"], _run)
    yield from _section("Objects", row["objects"], _object)


def when(seconds: float) -> str:
    """Write a time of this place."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _section(title: str, rows: list[Row], lines: Any) -> Iterator[str]:
    if rows:
        yield ""
        yield title
    for row in rows:
        yield from lines(row)


def _why(row: Row) -> Iterator[str]:
    """Say why a study is where it is, and what it waits for."""
    if row["reason"]:
        yield from _below(row["reason"])
    if row["state"] == "COMPLETE" and row["next_attempt_at"]:
        yield from _below(f"next attempt {when(row['next_attempt_at'])}")
    for each in row["waits_for"]:
        yield from _below(_wait(each))


def _wait(row: Row) -> str:
    asks = "to keep" if row["state"] == "delivered" else "to take"
    said = ": ".join(filter(None, (row["status"], row["detail"])))
    parts = [f"waits for {row['destination']} {asks} {count(row['objects'], 'object')}"]
    if row["paused_since"]:
        parts.append(f"paused since {when(row['paused_since'])}, until `jobs resume`")
    if row["out_since"]:
        parts.append(f"no answer since {when(row['out_since'])} ({row['out_cause']})")
    elif said:
        parts.append(f"it said {said}")
    if row["attempts"]:
        parts.append(count(row["attempts"], "failed attempt"))
    if row["next_attempt_at"] and not row["paused_since"]:
        parts.append(f"next attempt {when(row['next_attempt_at'])}")
    return "; ".join(parts)


def _image(row: Row) -> Iterator[str]:
    yield row["sop_instance_uid"]
    said = [row["outcome"] or "waits"]
    for key, before in (("sender", "from"), ("called_ae_title", "called"), ("route", "route")):
        if row[key]:
            said.append(f"{before} {row[key]}")
    yield from _below(", ".join(said))
    if row["reason"]:
        yield from _below(f"{row['reason']}: {row['detail']}")


def _run(row: Row) -> Iterator[str]:
    names = ", ".join(model["name"] for model in row["models"])
    took = f"{sum(row['seconds'].values()):.1f} s"
    yield from _below(f"{when(row['finished_at'])}  {row['outcome']}, {took}{': ' if names else ''}{names}")


def _object(row: Row) -> Iterator[str]:
    yield row["sop_instance_uid"]
    model = f" of {row['model']}" if row["model"] else ""
    yield from _below(f"{row['kind']}{model}{'' if row['deliveries'] else ', goes nowhere'}")
    for each in row["deliveries"]:
        said = ": ".join(filter(None, (each["status"], each["detail"])))
        parts = [f"{each['destination']} {each['state']}", said]
        if each["attempts"]:
            parts.append(count(each["attempts"], "failed attempt"))
        if each["next_attempt_at"]:
            parts.append(f"next attempt {when(each['next_attempt_at'])}")
        yield from _below("; ".join(filter(None, parts)))


def count(number: int, one: str, several: str = "") -> str:
    """Write a number of things."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


def _below(text: str) -> Iterable[str]:
    return wrapped(text, first=_INDENT, rest=_INDENT)
