"""How many workers a cluster holds, and which could never find room; Ray itself is not needed."""

import pytest

from cxr_dicom.cohort.engine import EngineOptions, build_engine
from cxr_dicom.cohort.engines.ray import Ray
from cxr_dicom.errors import SettingsError


def machine(cpus, gpus=0, *, is_alive=True):
    """A machine as ``ray.nodes()`` tells of it: what it has none of is not named."""
    return {"Alive": is_alive, "Resources": {"CPU": cpus, **({"GPU": gpus} if gpus else {}), "memory": 1e9}}


@pytest.mark.parametrize(
    ("machines", "gpus", "expected"),
    [
        ([machine(2.0), machine(3.0)], None, 5),
        ([machine(4.0, 1.0), machine(4.0, 1.0)], 1, 2),
        ([machine(8.0, 1.0), machine(2.0, 1.0)], 0.25, 6),  # of the second, two: it has two CPUs
        ([machine(8.0, 1.0)], 0.1, 8),
        ([machine(100.0, 1.0)], 0.1, 10),
        ([machine(8.0, 3.0), machine(8.0, 1.0)], 2, 1),
        ([machine(8.0, 2.0), machine(8.0, 2.0, is_alive=False)], 2, 1),
    ],
)
def test_workers_lie_on_one_machine_each(machines, gpus, expected):
    assert Ray(gpus_per_worker=gpus)._room(machines) == expected


@pytest.mark.parametrize(
    "machines",
    [
        [machine(4.0, 1.0), machine(4.0, 1.0)],  # two GPUs, but not on one machine
        [machine(4.0), machine(0.0, 2.0)],  # the GPUs are where no CPUs are
        [machine(4.0, 2.0, is_alive=False)],
        [],
    ],
)
def test_what_no_machine_can_ever_give_is_refused(machines):
    with pytest.raises(SettingsError, match="needs 1 CPUs and 2 GPUs on one machine"):
        Ray(1, gpus_per_worker=2)._room(machines)


@pytest.mark.parametrize("gpus", [1.5, 2.25, float("nan"), float("inf")])
def test_a_gpu_and_a_part_of_another_are_refused_before_ray_is_started(gpus):
    with pytest.raises(SettingsError, match="expected a part of one, or a whole number"):
        build_engine("ray", EngineOptions(gpus_per_worker=gpus))
