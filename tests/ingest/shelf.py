"""An archive in memory, for tests of the poller."""

from io import BytesIO

from cxr_dicom.errors import ConnectionFailedError, FetchError
from cxr_dicom.ingest.archive import RemoteInstance, RemoteStudy
from cxr_dicom.synthetic import radiograph


class Shelf:
    """An archive in memory that answers as a real one does, and breaks off when it is told to."""

    name = "shelf"

    def __init__(self):
        self.images = []
        self.fetched = []
        self.wanted = []
        self.modalities = set()
        self.listed = []
        self.trouble = None
        self.says_how_many = True
        self.sop_class_uid = ""
        self.breaks_after = None
        self.withheld = set()
        self.forgotten = set()
        self.troubled = {}  # by Study or SOP Instance UID: what is raised when it is asked for
        self.answers = {}  # by SOP Instance UID: bytes instead of the image
        self.checked = 0

    def studies(self, query, modalities):
        self.wanted.append(query)
        self.modalities.add(modalities)
        if self.trouble:
            raise self.trouble
        found = {}
        for image in self.images:
            is_wanted = query.study_instance_uid in (None, image.StudyInstanceUID)
            if is_wanted and (not query.since or image.StudyDate >= query.since):
                found.setdefault(image.StudyInstanceUID, []).append(image)
        for uid, images in sorted(found.items()):
            many = len(images) if self.says_how_many else None
            yield RemoteStudy(study_instance_uid=uid, study_date=images[0].StudyDate, instances=many)

    def instances(self, study, modalities):
        self.listed.append(study.study_instance_uid)
        if trouble := self.troubled.get(study.study_instance_uid):
            raise trouble
        self.modalities.add(modalities)
        for image in self.images:
            if image.StudyInstanceUID == study.study_instance_uid:
                yield RemoteInstance(
                    study_instance_uid=image.StudyInstanceUID,
                    series_instance_uid=image.SeriesInstanceUID,
                    sop_instance_uid=image.SOPInstanceUID,
                    sop_class_uid=self.sop_class_uid,
                )

    def fetch(self, each, store):
        if self.breaks_after is not None and len(self.fetched) >= self.breaks_after:
            raise ConnectionFailedError("UNREACHABLE", "pulled the plug")
        if each.sop_instance_uid in self.withheld:
            raise FetchError("HTTP 404")
        if trouble := self.troubled.get(each.sop_instance_uid):
            raise trouble
        if each.sop_instance_uid in self.forgotten:
            return  # as C-GET that succeeds with no sub-operation: the file lies on a tape
        image = next(image for image in self.images if image.SOPInstanceUID == each.sop_instance_uid)
        file = BytesIO()
        image.save_as(file, enforce_file_format=True)
        self.fetched.append(each.sop_instance_uid)
        store((self.answers.get(each.sop_instance_uid, file.getvalue()),), each)

    def check(self):
        self.checked += 1
        if self.trouble:
            raise self.trouble
        return "is there"


def image(day, seed=0, study="1"):
    return radiograph(32, 32, seed=seed, study=study, StudyDate=day)
