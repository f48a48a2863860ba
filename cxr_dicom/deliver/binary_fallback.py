"""What goes to a destination in place of a label map whose SOP class it does not take.

Service and cohort ask here, so that both decide alike and send the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cxr_dicom.encode.segments import LABEL_MAP_STORAGE
from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt
from cxr_dicom.system import telemetry


def replaced(
    receipt: Receipt,
    about: EncodedObject,
    *,
    sibling: Callable[[], EncodedObject | None],
    make: Callable[[], EncodedObject],
) -> tuple[Receipt, EncodedObject | None]:
    """Find what says the same as a refused label map in a SOP class that every archive knows, or make it.

    Parameters
    ----------
    sibling
        Returns the BINARY segmentation of the same structures, if one was made anyway.
    make
        Makes the twin with `make_twin`, and puts it where it belongs.

    Returns
    -------
    receipt
        It says what is sent instead; FAILED where nothing could be made; else it is as it was.
    twin
        What is sent instead; None where nothing is.
    """
    if receipt.delivery_status is not DeliveryStatus.UNSUPPORTED or about.sop_class_uid != LABEL_MAP_STORAGE:
        return receipt, None
    try:
        twin = sibling() or make()
    except Exception as error:  # a full disk, a damaged file: neither may hold up other objects
        uid = receipt.sop_instance_uid
        telemetry.failure("twin", error, destination=receipt.destination, sop_instance_uid=uid)
        detail = f"BINARY twin not made: {telemetry.safe_description(error)}"
        return replace(receipt, delivery_status=DeliveryStatus.FAILED, detail=detail), None
    detail = f"SOP class not supported; BINARY twin {twin.sop_instance_uid} sent instead"
    return replace(receipt, detail=detail), twin
