"""One entry to its state: fetch, process, export, deliver. It always ends in a state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxr_dicom.cohort import reuse
from cxr_dicom.cohort.delivery import NotDeliveredError
from cxr_dicom.cohort.options import EXPORT_FOLDER, Tools
from cxr_dicom.cohort.states import State, changed_at
from cxr_dicom.errors import FetchError, PlaceError
from cxr_dicom.export import marked
from cxr_dicom.infer.device import device_name
from cxr_dicom.ingest.folder import STATE_FOLDER, is_uid
from cxr_dicom.ingest.manifest import Entry, fetched
from cxr_dicom.records import EncodedObject, ImageAnalysis, Outcome, Reason, Skipped, StoredInstance, Study, StudyResult
from cxr_dicom.results import embeddings, report
from cxr_dicom.results import rows as result_rows
from cxr_dicom.results.schema import ExportRow, Row
from cxr_dicom.system import atomic, telemetry, wants, watch


@dataclass(frozen=True, kw_only=True)
class _Processed:
    """What became of the studies of an entry."""

    results: Sequence[StudyResult]
    skipped: Sequence[Skipped]
    exports: Mapping[str, Sequence[ExportRow]]  # by SOP Instance UID
    origins: Mapping[str, str]  # URL that an instance was fetched from, by SOP Instance UID

    @property
    def objects(self) -> list[EncodedObject]:
        """Each once: a report on a study belongs to every image of it."""
        made = (encoded for study in self.results for instance in study.instances for encoded in instance.objects)
        return list({encoded.sop_instance_uid: encoded for encoded in made}.values())


def process(
    entry: Entry, earlier: State | None, tools: Tools, note: Callable[[list[str]], None] = lambda uids: None
) -> State:
    """Process an entry; objects that its ``earlier`` state records as delivered are not sent again.

    Parameters
    ----------
    note
        Is told the UIDs of what was fetched, before anything is written for it.
    """
    access, max_pixels = tools.options.access, tools.settings.select.max_pixels
    watch.pause()  # fetching has limits of its own
    try:
        with fetched(entry, tools.out / STATE_FOLDER, access=access, max_pixels=max_pixels) as (studies, skipped):
            watch.begin()
            note(
                [study.study_instance_uid for study in studies]
                + [each.sop_instance_uid for each in _instances(studies)]
            )
            made = _make(entry, studies, skipped, tools)
    except FetchError as error:
        return without_result(entry, earlier, tools, Reason.FETCH_FAILED, str(error))
    except PlaceError:
        raise
    except Exception as error:  # one bad study never stops a run, a machine that cannot go on does
        wants.raise_if_lacking(error, tools.out)
        telemetry.failure("study", error, study_instance_uid=entry.key)
        return without_result(entry, earlier, tools, Reason.INTERNAL_ERROR, telemetry.safe_description(error))
    return _delivered(_state(entry, earlier, made, tools), made.objects, tools)


def without_result(entry: Entry, earlier: State | None, tools: Tools, reason: Reason, detail: str) -> State:
    """Return the state of an entry that failed as a whole."""
    rows = [result_rows.skipped_row(failed, tools.settings) for failed in _failed(entry, reason, detail)]
    if entry.sources:
        study = entry.key if is_uid(entry.key) else None
        rows = [{**row, "path": entry.sources[0], "study_instance_uid": study} for row in rows]
    taken = earlier.taken if earlier else {}
    return State(key=entry.key, stamp=reuse.stamp(entry, tools), job_key="", rows=rows, taken=taken)


def _failed(entry: Entry, reason: Reason, detail: str) -> Iterator[Skipped]:
    for instance in entry.study.instances if entry.study else ():
        yield Skipped(path=instance.path, reason=reason, detail=detail, outcome=Outcome.FAILED, instance=instance)
    if entry.study is None:
        path = entry.picture or Path(entry.sources[0])
        yield Skipped(path=path, reason=reason, detail=detail, outcome=Outcome.FAILED)


# --- studies -------------------------------------------------------------------------------------


def _make(entry: Entry, studies: Sequence[Study], skipped: Sequence[Skipped], tools: Tools) -> _Processed:
    if entry.picture:
        studies = [_keep_wrapped(study, tools.out) for study in studies]
    there, missing = _without_missing(studies)
    results = [tools.pipeline.process(study, _folder(study, tools.out)) for study in there]
    watch.begin()
    exports = _exported(results, tools)
    if entry.picture:
        for instance in _instances(there):
            exports.setdefault(instance.sop_instance_uid, []).append(_export_row(instance.path, "wrapped", tools))
    return _Processed(
        results=results,
        skipped=[*skipped, *missing],
        exports=exports,
        origins={instance.sop_instance_uid: instance.sender for instance in _instances(there) if instance.sender},
    )


def _keep_wrapped(study: Study, out: Path) -> Study:
    """Keep an instance that was made from a picture, because the objects refer to it."""
    folder = _folder(study, out)
    atomic.make_folder(folder)
    kept = [
        replace(instance, path=folder / f"radiograph-{instance.sop_instance_uid}.dcm") for instance in study.instances
    ]
    for instance, moved in zip(study.instances, kept, strict=True):
        atomic.move(instance.path, moved.path)
    return replace(study, instances=tuple(kept))


def _without_missing(studies: Sequence[Study]) -> tuple[list[Study], list[Skipped]]:
    """Skip instances whose file was removed since it was listed."""
    kept, missing = [], []
    for study in studies:
        there = {instance: instance.path.is_file() for instance in study.instances}
        missing += [_missing(instance) for instance in there if not there[instance]]
        if any(there.values()):
            kept.append(replace(study, instances=tuple(instance for instance in there if there[instance])))
    return kept, missing


def _missing(instance: StoredInstance) -> Skipped:
    detail = "expected the file that was listed, found none"
    return Skipped(path=instance.path, reason=Reason.UNREADABLE, detail=detail, instance=instance)


def _analyses(results: Iterable[StudyResult]) -> Iterator[ImageAnalysis]:
    return (instance.analysis for study in results for instance in study.instances if instance.analysis)


def _folder(study: Study, out: Path) -> Path:
    return result_rows.study_folder(out, study.study_instance_uid)


def _instances(studies: Iterable[Study]) -> Iterator[StoredInstance]:
    return (instance for study in studies for instance in study.instances)


# --- exports -------------------------------------------------------------------------------------


def _exported(results: Sequence[StudyResult], tools: Tools) -> dict[str, list[ExportRow]]:
    """Write all formats; return their files by SOP Instance UID."""
    rows: dict[str, list[ExportRow]] = {}
    for exporter in tools.exporters:
        folder = tools.out / EXPORT_FOLDER / exporter.name
        for uid, result in _image_by_image(results):
            files = sorted(exporter.export(result, folder))
            rows.setdefault(uid, []).extend(_export_row(path, exporter.name, tools) for path in files)
    return rows


def _image_by_image(results: Iterable[StudyResult]) -> Iterator[tuple[str, StudyResult]]:
    """Yield the SOP Instance UID of each image with results, and what became of that image only."""
    for study in results:
        for instance in study.instances:
            if instance.analysis:
                yield instance.analysis.image.instance.sop_instance_uid, replace(study, instances=(instance,))


def _export_row(path: Path, kind: str, tools: Tools) -> ExportRow:
    return {"path": result_rows.path_text(path.relative_to(tools.out)), "kind": kind}


# --- the state -----------------------------------------------------------------------------------


def _state(entry: Entry, earlier: State | None, made: _Processed, tools: Tools) -> State:
    rows = _rows(entry, made, tools)
    return State(
        key=entry.key,
        stamp=reuse.stamp(entry, tools),
        job_key=reuse.job_key(result.job_key for result in made.results),
        rows=rows,
        figures=_figures(made, tools),
        embeddings=_embeddings(made),
        device=_device(tools) if any(row["models"] for row in rows) else "",
        also=marked(tools.options.also),
        taken=earlier.taken if earlier else {},
        folders=_times_of_folders(made.objects, tools.out),
    )


def _device(tools: Tools) -> str:
    return tools.client.device if tools.client else device_name(tools.settings.models)


def _times_of_folders(objects: Iterable[EncodedObject], out: Path) -> dict[str, int]:
    """Return when names in the folders of objects changed last; of those only whose file system keeps such a time."""
    newest: dict[Path, int] = {}
    for encoded in objects:
        newest[encoded.path.parent] = max(changed_at(encoded.path), newest.get(encoded.path.parent, 0))
    times = {folder: changed_at(folder) for folder in newest}
    return {
        result_rows.path_text(folder.relative_to(out)): times[folder]
        for folder in newest
        if times[folder] >= newest[folder]
    }


def _rows(entry: Entry, made: _Processed, tools: Tools) -> list[Row]:
    rows = [row for result in made.results for row in result_rows.study_rows(result, tools.settings, tools.out)]
    rows += [result_rows.skipped_row(skipped, tools.settings) for skipped in made.skipped]
    for row in rows:
        uid = row["sop_instance_uid"] or ""
        row["exports"] = list(made.exports.get(uid, ()))
        if entry.picture:
            row["path"] = result_rows.path_text(entry.picture)
        elif entry.sources:
            row["path"] = named_source(made.origins.get(uid) or entry.sources[0], entry.sources)
    return rows


def named_source(url: str, sources: Sequence[str]) -> str:
    """Return the source of the manifest that an instance came from: that of its study, not the server's base URL."""
    return next((source for source in sources if source.startswith(url)), url)


def _embeddings(made: _Processed) -> dict[str, dict[str, str]]:
    found = {each.image.instance.sop_instance_uid: embeddings.packed(each) for each in _analyses(made.results)}
    return {uid: vectors for uid, vectors in found.items() if vectors}


def _figures(made: _Processed, tools: Tools) -> dict[str, list[report.Figure]]:
    draw = report.figures if tools.options.has_figures else report.thumbnail
    return {analysis.image.instance.sop_instance_uid: draw(analysis) for analysis in _analyses(made.results)}


# --- delivery ------------------------------------------------------------------------------------


def _delivered(state: State, objects: Sequence[EncodedObject], tools: Tools) -> State:
    """Send the objects, where a destination was named."""
    destination = tools.options.destination
    if tools.delivery is None or destination is None:
        return state
    rows = state.rows
    watch.pause()
    try:
        taken = tools.delivery.send(objects, state.taken.get(destination, {}), tools.out / STATE_FOLDER)
    except NotDeliveredError as error:
        taken = error.delivered
        rows = [_undelivered(row, error) if row["objects"] else row for row in rows]
    return replace(state, rows=rows, taken=state.taken | {destination: taken})


def _undelivered(row: Row, error: NotDeliveredError) -> Row:
    return {**row, "outcome": str(Outcome.FAILED), "reason": str(error.reason), "detail": str(error)}
