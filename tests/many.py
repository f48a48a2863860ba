"""Images by number, for tests of very many: with UIDs as long as those of archives, and as unlike."""

from cxr_dicom.records import StoredInstance


def uid(number):
    return f"1.2.826.0.1.3680043.8.498.{number * 7919**5 % 10**35:035}"


def instance(path, number):
    study = uid(number)
    return StoredInstance(
        path=path,
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        sop_instance_uid=f"{study}.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
    )
