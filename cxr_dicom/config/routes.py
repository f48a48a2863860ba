"""Conditions on an image and its way here: which studies are urgent, and which models, objects and destinations."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from cxr_dicom.config.table import AeTitle, Name, Table, Word

DEFAULT = "default"  # the route of an image for which no other holds
MOST_ROUTES = 1000


class Conditions(Table):
    """What may be asked of one image; each condition is a list of alternatives, and an empty list asks nothing."""

    senders: tuple[Annotated[Word, Field(max_length=68)], ...] = ()
    """It came from one of these: calling AE titles, archives, users of the pages (`WEB:` and the name, `WEB`: all)."""
    called_ae_titles: tuple[AeTitle, ...] = ()
    """Its sender called us by one of these names."""
    modalities: tuple[Word, ...] = ()
    """Modality is one of these."""
    views: tuple[Word, ...] = ()
    """View Position is one of these; `PA` and `AP` also where only View Code Sequence, or a longer word, says so."""
    stations: tuple[Word, ...] = ()
    """Station Name is one of these."""
    words: tuple[Word, ...] = ()
    """One of these stands in a description, a priority or the body part of its header, as a whole word."""


class UrgentSettings(Conditions):
    """``[assembly.urgent]``: which studies go before all others, for one image of them that any of these is true of.

    The listener answers to ``called_ae_titles`` besides its own.
    """


class RouteSettings(Conditions):
    """``[[routes]]``: what becomes of the images for which all of its conditions hold, and no route before it."""

    name: Name
    """Your name for it; `jobs show` says which images took it."""
    models: tuple[Word, ...] | None = None
    """Models that run, in their order; without it `models.names`; empty: none, the images are skipped."""
    objects: Annotated[tuple[Word, ...], Field(min_length=1)] | None = None
    """Kinds of objects to write; without it `encode.objects`."""
    destinations: tuple[Name, ...] | None = None
    """Where the objects go, as far as the `rules` there let them; without it everywhere; empty: nowhere."""

    @field_validator("name")
    @classmethod
    def _own(cls, name: str) -> str:
        if name == DEFAULT:
            raise ValueError("expected another name: this is that of all images without a route")
        return name

    @property
    def has_conditions(self) -> bool:
        """Whether anything is asked; a route that asks nothing holds for every image."""
        return any(getattr(self, condition) for condition in Conditions.model_fields)
