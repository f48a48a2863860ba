"""Ways out: a table ``[[destinations]]`` becomes a destination of its kind, one of those in ``destinations/``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cxr_dicom.plugins import DESTINATIONS

if TYPE_CHECKING:
    from cxr_dicom.config.service import DestinationTable as Described
    from cxr_dicom.deliver.base import Destination


def build_destination(described: Described, open_commitment: Callable[[str], None]) -> Destination:
    """Make the destination that a table ``[[destinations]]`` describes.

    Parameters
    ----------
    described
        The table.
    open_commitment
        Called with the Transaction UID of each storage commitment that is asked for (PS3.4 J.3.2).
    """
    from cxr_dicom.deliver.foreign import ForeignDestination

    choice = DESTINATIONS.choose("destinations.kind", described.kind)
    destination: Destination = choice.build("destinations.kind", described, open_commitment)
    return destination if choice.is_ours else ForeignDestination(destination, described.name, choice)
