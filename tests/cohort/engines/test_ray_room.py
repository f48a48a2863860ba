"""How many workers a cluster holds, and which could never find room; Ray itself is not needed."""

import pytest

from cxr_dicom.cohort.cluster.crew import Bounds
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
        Ray(1, gpus_per_worker=2)._expect_room(machines)


@pytest.mark.parametrize(
    ("engine", "machines"),
    [
        (Ray(0, most_workers=8, gpus_per_worker=2), [machine(4.0, 1.0)]),  # somebody said that others will come
        (Ray(), [machine(0.0)]),  # a head without CPUs
        (Ray(2), [machine(0.0)]),
    ],
    ids=["asked for", "head", "head and a number"],
)
def test_what_others_may_bring_is_waited_for(engine, machines):
    engine._expect_room(machines)


@pytest.mark.parametrize(
    ("bounds", "room", "items", "expected"),
    [
        (Bounds(least=0, most=None), 5, 100, 5),
        (Bounds(least=0, most=None), 0, 100, 1),  # it is asked for, so that the cluster knows
        (Bounds(least=0, most=None), 5, 3, 3),
        (Bounds(least=4, most=4), 2, 100, 4),  # two wait
        (Bounds(least=2, most=16), 1, 100, 2),
        (Bounds(least=2, most=16), 7, 100, 7),
        (Bounds(least=2, most=16), 99, 100, 16),
    ],
)
def test_workers_follow_what_the_cluster_offers_within_bounds(bounds, room, items, expected):
    assert bounds.target(room, items) == expected


@pytest.mark.parametrize("gpus", [1.5, 2.25, float("nan"), float("inf")])
def test_a_gpu_and_a_part_of_another_are_refused_before_ray_is_started(gpus):
    with pytest.raises(SettingsError, match="expected a part of one, or a whole number"):
        build_engine("ray", EngineOptions(gpus_per_worker=gpus))
