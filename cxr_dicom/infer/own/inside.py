"""The main program of the process apart, see `apart`: it gives up what it does not need, then loads and computes."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any, BinaryIO

from numpy.typing import NDArray

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.infer.own import messages, network
from cxr_dicom.system import confinement, heap, telemetry

_Question = tuple[dict[str, Any], dict[str, NDArray[Any]]]


def main() -> None:
    """Answer until who asks is gone, whatever happens to be computed then."""
    for each in ("SIGINT", "SIGTERM", "SIGHUP"):  # who asks decides
        if hasattr(signal, each):
            signal.signal(getattr(signal, each), signal.SIG_IGN)
    heap.keep()
    confinement.confine(())  # threads that are there already would stay free
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print
    questions: SimpleQueue[_Question] = SimpleQueue()
    threading.Thread(target=_listen, args=(asked, questions), daemon=True).start()
    loaded: dict[int, network.Loaded] = {}
    while True:
        said, given = questions.get()
        try:
            messages.send(answers, *_answer(said, given, loaded))
        except CxrDicomError as error:
            messages.send(answers, {"error": type(error).__name__, "text": str(error)}, {})
        except Exception as error:  # as of a network
            messages.send(answers, {"error": "ModelError", "text": _text(error)}, {})


def _listen(asked: BinaryIO, questions: SimpleQueue[_Question]) -> None:
    while True:
        try:
            questions.put(messages.receive(asked))
        except messages.BrokenMessageError:
            os._exit(0)


def _answer(said: Mapping[str, Any], given: Mapping[str, NDArray[Any]], loaded: dict[int, network.Loaded]) -> _Question:
    match said["do"]:
        case "load":
            made = network.load(*pickle.loads(given["packed"].tobytes()))  # noqa: S301  from who started this
            loaded[said["number"]] = made
            return {"runtime": made.runtime, "batch": made.batch}, {} if made.weight is None else {
                "weight": made.weight
            }
        case "compute":
            return {}, loaded[said["number"]].compute(given["pixels"])
        case _:
            del loaded[said["number"]]
            return {}, {}


def _text(error: Exception) -> str:
    """The line of a library that says why; of anything else only its type and place."""
    if isinstance(error, RuntimeError) and (lines := str(error).strip().splitlines()):
        is_traceback = lines[0].startswith("The following operation failed in the TorchScript")
        return f"the network failed: {lines[-1 if is_traceback else 0]}"
    return f"the network failed: {telemetry.safe_description(error)}"


if __name__ == "__main__":
    main()
