"""The way of images from the manifest to their results, and where they left it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from cxr_dicom.records import Outcome, Reason
from cxr_dicom.results.pages import number, share
from cxr_dicom.results.schema import Row
from cxr_dicom.results.svg import Drawn, drawing, element, path, points, rectangle, text

GATES: Mapping[
    str, Mapping[Reason, tuple[str, str]]
] = {  # reason -> a few words, and what docs/reasons.md says in short
    "Files": {
        Reason.FETCH_FAILED: ("not fetched", "its files could not be fetched"),
        Reason.NOT_DICOM: ("not DICOM", "the file is something else"),
        Reason.NOT_WRAPPED: ("picture", "a PNG or JPEG picture, and --wrap was not given"),
        Reason.UNREADABLE: ("unreadable", "the file cannot be read, or its end is missing"),
        Reason.DUPLICATE_INSTANCE: ("duplicate", "the same instance was read from another file"),
    },
    "Kind of object": {
        Reason.OWN_OUTPUT: ("own output", "the object was made by cxr-dicom"),
        Reason.WRONG_SOP_CLASS: ("not CR or DX", "not a CR or DX image, and no accepted Secondary Capture"),
        Reason.FOR_PROCESSING: ("raw data", "raw data of the detector"),
        Reason.NOT_GRAYSCALE: ("colour", "a colour image"),
        Reason.MULTI_FRAME: ("several frames", "more than one frame"),
    },
    "What it shows": {
        Reason.NOT_CHEST: ("not a chest", "another part of the body"),
        Reason.NOT_FRONTAL: ("not frontal", "lateral, oblique or another view"),
        Reason.UNKNOWN_BODY_PART: ("part not named", "no attribute names the part of the body"),
        Reason.UNKNOWN_VIEW: ("view not named", "no attribute names the view"),
        Reason.NO_MODELS: ("no models", "no model runs on its route"),
        Reason.CONTRADICTORY_IDENTITY: ("two patients", "the images of the study are not of one patient"),
    },
    "Image data": {
        Reason.INVALID_ATTRIBUTES: ("bad attributes", "required attributes are missing or contradict each other"),
        Reason.MATRIX_TOO_LARGE: ("too large", "more pixels than the limit"),
        Reason.UNDECODABLE_TRANSFER_SYNTAX: ("no decoder", "no decoder for the compression"),
        Reason.CORRUPT_PIXEL_DATA: ("corrupt pixels", "the pixel data are not what the header says"),
    },
    "Content": {
        Reason.NOT_A_CHEST_CONTENT: ("no chest seen", "the picture is no plausible frontal chest"),
        Reason.WRONG_WAY_ROUND: ("wrong way round", "the picture is turned, mirrored or inverted, and does not say so"),
    },
    "Failures": {
        Reason.MODEL_FAILED: ("model failed", "a model broke on this image"),
        Reason.ENCODING_FAILED: ("encoding failed", "an object could not be made"),
        Reason.INTERNAL_ERROR: ("internal error", "an error in cxr-dicom"),
        Reason.WORKER_DIED: ("worker died", "its worker process died, or took too long, three times"),
        Reason.DELIVERY_FAILED: ("not delivered", "the destination did not take its objects"),
        Reason.DESTINATION_UNREACHABLE: ("not sent yet", "the destination could not be reached"),
    },
}

_WIDTH, _TOP, _RIVER, _LANE = 1160.0, 46.0, 150.0, 258.0
_BLOCK, _END = 12.0, 950.0
_MIN_WIDTH = 1.5  # a stream that is there is seen


class Flow:
    """Counts of outcomes and reasons."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()  # reason and outcome
        self.views: Counter[str] = Counter()

    def add(self, row: Row, line: int) -> None:
        """Count one row."""
        self.outcomes[row["outcome"]] += 1
        if row["outcome"] == Outcome.PROCESSED:
            self.views[row["view"] or "not stated"] += 1
        else:
            self.reasons[row["reason"] or "", row["outcome"]] += 1

    @property
    def total(self) -> int:
        """Number of inputs."""
        return self.outcomes.total()

    @property
    def processed(self) -> int:
        """Number of inputs with results."""
        return self.outcomes[Outcome.PROCESSED]

    def table(self) -> list[dict[str, Any]]:
        """Return every reason that occurs, in the order of the checks, with its count and meaning."""
        return [
            {"reason": reason, "outcome": outcome, "meaning": meaning, "count": self.reasons[reason, outcome]}
            for reasons in GATES.values()
            for reason, (_, meaning) in reasons.items()
            for outcome in (Outcome.SKIPPED, Outcome.FAILED)
            if self.reasons[reason, outcome]
        ]

    def picture(self) -> Drawn:
        """Draw the stream of images: at each gate some leave it; its width is their number."""
        lost = [(gate, self._lost(reasons)) for gate, reasons in GATES.items()]
        lost = [(gate, reasons) for gate, reasons in lost if reasons]
        parts = [self._label(0, "Manifest", self.total)]
        step = (_END - 80) / max(len(lost), 1)
        rest, lanes = self.total, []
        banks = [(0.0, self._thick(self.total))]  # where the stream becomes narrower, and how wide it is from there
        for place, (gate, reasons) in enumerate(lost):
            leaves = sum(count for _, count, _ in reasons)
            gate_x = 60 + step * place
            is_failed = gate == "Failures"
            parts.append(self._branch(gate_x, rest, leaves, is_failed))
            lanes.append(self._leaf(gate_x + 40, gate, leaves, reasons, is_failed))
            rest -= leaves
            banks.append((gate_x, self._thick(rest)))
        parts += [
            _stream(banks),
            rectangle(0, _TOP, _BLOCK, self._thick(self.total), "block"),
            rectangle(_END, _TOP, _BLOCK, self._thick(rest), "block"),
            self._label(_END, "Processed", rest, "end"),
        ]
        parts += [*self._delta(), *lanes]
        most = max((len(reasons) for _, reasons in lost), default=0)
        height = _LANE + 62 + 16 * most if lost else _TOP + _RIVER + 20
        return drawing(parts, _WIDTH, height, "Flow of images from the manifest to their results", "wide")

    def _lost(self, reasons: Mapping[Reason, tuple[str, str]]) -> list[tuple[Reason, int, str]]:
        counted = [
            (reason, sum(self.reasons[reason, outcome] for outcome in Outcome), words)
            for reason, (words, _) in reasons.items()
        ]
        return sorted((loss for loss in counted if loss[1]), key=lambda loss: -loss[1])

    def _thick(self, count: int) -> float:
        return max(_MIN_WIDTH, _RIVER * count / self.total) if count else 0.0

    def _branch(self, x: float, before: int, leaves: int, is_failed: bool) -> Drawn:
        """Draw the images that leave: a band from the lower edge of the stream down to their lane."""
        thick = self._thick(leaves)
        middle, end = _TOP + self._thick(before) - thick / 2, x + 40 + thick / 2
        data = f"M{x - 1:.2f} {middle:.2f}H{x:.2f}C{end:.2f} {middle:.2f} {end:.2f} {middle:.2f} {end:.2f} {_LANE:.2f}"
        return path(
            data, "band-of failed" if is_failed else "band-of lost", f"{number(leaves)} images", stroke_width=thick
        )

    def _leaf(
        self, x: float, gate: str, leaves: int, reasons: Sequence[tuple[Reason, int, str]], is_failed: bool
    ) -> Drawn:
        block = rectangle(x, _LANE, max(self._thick(leaves), 3), 5, "block failed" if is_failed else "block lost")
        parts = [
            block,
            text(x, _LANE + 24, gate, class_="t strong"),
            text(x, _LANE + 40, f"{number(leaves)} · {share(leaves, self.total)}", class_="t soft"),
        ]
        for place, (reason, count, words) in enumerate(reasons):
            label = text(x, _LANE + 60 + 16 * place, f"{words} {number(count)}", class_="t link")
            parts.append(element("a", label, href=f"#reason-{reason}"))
        return Markup("").join(parts)

    def _label(self, x: float, words: str, count: int, anchor: str = "start") -> Drawn:
        at = x + _BLOCK if anchor == "end" else x
        percent = "" if count == self.total else f" · {share(count, self.total)}"
        return Markup("").join(
            (
                text(at, 16, words, anchor, "t strong"),
                text(at, 34, f"{number(count)}{percent}", anchor, "t big"),
            )
        )

    def _delta(self) -> list[Drawn]:
        """Draw how what was processed divides into views."""
        parts, start, end = [], _TOP, _TOP
        begin, last, label_at = _END + _BLOCK, _WIDTH - 120, 0.0
        for view, count in sorted(self.views.items(), key=lambda item: (item[0] not in ("PA", "AP"), -item[1])):
            thick = self._thick(count)
            end = max(end, label_at - thick / 2)
            middle = (begin + last) / 2
            data = (
                f"M{begin} {start:.2f}C{middle} {start:.2f} {middle} {end:.2f} {last} {end:.2f}V{end + thick:.2f}"
                f"C{middle} {end + thick:.2f} {middle} {start + thick:.2f} {begin} {start + thick:.2f}Z"
            )
            name = {"PA": "v1", "AP": "v2"}.get(view, "v3")
            parts += [
                path(data, f"stream {name}", f"{view}: {number(count)} images"),
                text(last + 8, end + thick / 2 + 1, view, class_="t strong"),
                text(
                    last + 8, end + thick / 2 + 16, f"{number(count)} · {share(count, self.processed)}", class_="t soft"
                ),
            ]
            start += thick
            label_at = end + thick / 2 + 38
            end += thick + 10
        return parts


def _stream(banks: Sequence[tuple[float, float]]) -> Drawn:
    """Draw what flows on: one shape, whose lower bank rises where images leave."""
    lower = [(x, _TOP + thick) for x, thick in banks]
    steps = [point for (_, before), (x, y) in pairwise(lower) for point in ((x, before), (x, y))]
    return path(points([(0, _TOP), lower[0], *steps, (_END, lower[-1][1]), (_END, _TOP)]) + "Z", "stream")
