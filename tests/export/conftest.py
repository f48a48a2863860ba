"""A real radiograph, a turned one, one painted by hand, and one on which nothing was found."""

import pytest

from cxr_dicom import synthetic
from cxr_dicom.export import build_exporters
from cxr_dicom.pipeline import Pipeline
from tests import painted
from tests.export.results_to_export import SETTINGS, SOURCES, chest_image, painted_result, processed, uid


@pytest.fixture(scope="session")
def pipeline():
    pipeline = Pipeline(SETTINGS)
    yield pipeline
    pipeline.close()


@pytest.fixture(scope="session", params=SOURCES)
def result(request, pipeline, tmp_path_factory):
    """The result of one study with one image, its segmentations written."""
    return processed(SOURCES[request.param](), request.param, pipeline, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def without_masks(tmp_path_factory):
    """The result of an image on which nothing was found."""
    folder = tmp_path_factory.mktemp("without")
    image = chest_image(synthetic.radiograph(64, 48, seed=7), folder)
    return painted_result(painted.analysis(image, (painted.anatomy(image, masks=()),)), folder)


@pytest.fixture(scope="session")
def all_results(pipeline, tmp_path_factory, without_masks):
    """Several studies, in an order that is not that of their UIDs."""
    results = [processed(make(), name, pipeline, tmp_path_factory.mktemp(name)) for name, make in SOURCES.items()]
    results.append(without_masks)
    return sorted(results, key=lambda each: uid(each), reverse=True)


@pytest.fixture
def exported(tmp_path):
    """Export results in some formats and collect them; return the folder of all formats."""

    def export(results, *names, folder="also"):
        for exporter in build_exporters(names, SETTINGS):
            for each in results:
                for path in exporter.export(each, tmp_path / folder / exporter.name):
                    assert path.is_file()
            exporter.collect(tmp_path / folder / exporter.name)
        return tmp_path / folder

    return export
