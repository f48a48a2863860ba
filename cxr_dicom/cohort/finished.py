"""What a worker returns of a finished entry: its summary, and its state where it is not kept already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cxr_dicom.cohort.states import State
from cxr_dicom.results import embeddings
from cxr_dicom.results.rows import STUDY_STAGES
from cxr_dicom.results.schema import ModelRow, Row


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The summary of one finished entry."""

    key: str
    studies: int
    index: tuple[tuple[str, str], ...]  # path and SOP Instance UID of each row, in their order
    outcomes: Counter[tuple[str, str | None]]  # images by outcome and reason
    objects: int
    models: tuple[tuple[str, str, str | None], ...]  # name, version, SHA-256 of the weights
    device: str  # that computed; empty where nothing was
    has_scores: bool
    embeddings: tuple[tuple[str, int], ...] = ()  # models that gave vectors, and how long they are
    seconds: dict[str, float] = field(default_factory=dict)  # per stage; empty when nothing was computed
    is_reused: bool = False  # taken from its state
    unsent: str = ""  # why the destination could not be reached
    host: str = ""  # the machine that did it


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What became of one entry."""

    done: Done
    state: State | None = None  # to be kept; None: the one that is kept holds
    obsolete: frozenset[str] = frozenset()  # files of the earlier state that are not in this one
    is_repeated: bool = False  # an attempt before it may have left something


def summarise(state: State, *, is_reused: bool = False) -> Done:
    """Summarise a state."""
    rows = state.rows
    return Done(
        key=state.key,
        studies=len({row["study_instance_uid"] for row in rows} - {None}),
        index=tuple((row["path"], row["sop_instance_uid"] or "") for row in rows),
        outcomes=Counter((row["outcome"], row["reason"]) for row in rows),
        objects=len({object_row["path"] for row in rows for object_row in row["objects"]}),
        models=tuple(dict.fromkeys(_model(model) for row in rows for model in row["models"])),
        device=state.device,
        has_scores=any(row["scores"] for row in rows),
        embeddings=tuple(dict.fromkeys(_widths(state))),
        seconds={} if is_reused else _seconds(rows),
        is_reused=is_reused,
        unsent=state.unsent,
        host=state.host,
    )


def _seconds(rows: Sequence[Row]) -> dict[str, float]:
    """Add up the stages of the images, and once each study those that serve it as a whole."""
    total = Counter[str]()
    of_study: dict[str | None, Row] = {}
    for row in rows:
        total.update({stage: value for stage, value in row["seconds"].items() if stage not in STUDY_STAGES})
        of_study.setdefault(row["study_instance_uid"], row)
    for row in of_study.values():
        total.update({stage: value for stage, value in row["seconds"].items() if stage in STUDY_STAGES})
    return dict(total)


def _widths(state: State) -> Iterator[tuple[str, int]]:
    for vectors in state.embeddings.values():
        for model, text in vectors.items():
            yield model, embeddings.width(text)


def _model(model: ModelRow) -> tuple[str, str, str | None]:
    return model["name"], model["version"], model["weights_sha256"]
