"""What a pod weighs. Every figure is worked out by hand beside the rule that it shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.defaulting import with_defaults
from shared.demand import PlacementClass, QosClass, is_eligible, weigh, whole, without_sidecars
from shared.kep753 import peak
from shared.pod import Container, Pod
from tests.support.pods import asking, container, even, pod, weighed

GIB = 2**30
MIB = 2**20

# KEP-753: the worst moment. Rows: what, init containers as (CPU, restartable), containers' CPU, the peak.

Moment = tuple[str, list[tuple[int, bool]], list[int], int]

MOMENTS: list[Moment] = [
    ("containers run together", [], [2, 3], 2 + 3),
    ("init containers run one after the other", [(4, False), (5, False)], [1], 5),
    ("a small init container changes nothing", [(1, False)], [2, 3], 5),
    ("a restartable one stays beside the app", [(1, True)], [2], 1 + 2),
    ("an init container after it runs beside it", [(2, True), (5, False)], [4], 2 + 5),
    ("an init container before it does not", [(5, False), (2, True)], [1], 5),
    ("the app with all sidecars may still be the worst", [(2, True), (5, False)], [6], 2 + 6),
    ("between two sidecars only the first runs", [(1, True), (7, False), (4, True)], [2], 1 + 7),
    ("after both, both run", [(1, True), (4, True), (7, False)], [2], 1 + 4 + 7),
    ("order matters: the same three another way", [(7, False), (1, True), (4, True)], [2], 1 + 4 + 2),
    ("sidecars alone", [(3, True), (2, True)], [0], 5),
    ("init containers of different size around one sidecar", [(6, False), (2, True), (3, False)], [3], 6),
]


@pytest.mark.parametrize(("about", "inits", "containers", "expected"), MOMENTS, ids=[row[0] for row in MOMENTS])
def test_the_worst_moment(about: str, inits: list[tuple[int, bool]], containers: list[int], expected: int) -> None:
    found = peak([({"cpu": cpu}, stays) for cpu, stays in inits], [{"cpu": cpu} for cpu in containers])
    assert found == {"cpu": expected}


def test_each_resource_has_its_own_worst_moment() -> None:
    found = peak([({"cpu": 9}, False), ({"memory": 2}, True)], [{"cpu": 1, "memory": 3, "nvidia.com/gpu": 1}])
    assert found == {"cpu": 9, "memory": 2 + 3, "nvidia.com/gpu": 1}


def test_nothing_asked_is_not_the_same_as_zero_asked() -> None:
    assert peak([], [{}]) == {}
    assert peak([({"memory": 0}, False)], [{"cpu": 0}]) == {"memory": 0, "cpu": 0}


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=6), st.lists(st.integers(0, 9), max_size=4))
def test_the_worst_moment_is_the_largest_of_all_moments(inits: list[tuple[int, bool]], containers: list[int]) -> None:
    moments = [sum(cpu for cpu, stays in inits if stays) + sum(containers)]
    for turn, (cpu, _) in enumerate(inits):
        moments.append(cpu + sum(before for before, stays in inits[:turn] if stays))
    found = peak([({"cpu": cpu}, stays) for cpu, stays in inits], [{"cpu": cpu} for cpu in containers])
    assert found.get("cpu", 0) == max(moments)


# The whole pod.

PodRow = tuple[str, Pod, dict[str, int]]

TOTALS: list[PodRow] = [
    ("a container that asks for nothing weighs nothing", pod(), {}),
    ("requests count, limits do not", pod(container("a", {"cpu": "1"}, {"cpu": "4"})), {"cpu": 1000}),
    ("a limit without a request is the request", pod(container("a", {}, {"cpu": "400m"})), {"cpu": 400}),
    (
        "only of the resource that has none",
        pod(container("a", {"cpu": "1"}, {"cpu": "4", "memory": "2Gi"})),
        {"cpu": 1000, "memory": 2 * GIB},
    ),
    ("overhead is added", pod(asking("a", "1", "1Gi"), overhead={"cpu": "250m", "memory": "120Mi"}),
     {"cpu": 1250, "memory": GIB + 120 * MIB}),
    ("overhead alone weighs too", pod(overhead={"cpu": "250m"}), {"cpu": 250}),
    (
        "overhead is added to the worst moment, be it an init container's",
        pod(asking("a", "1"), init=(asking("i", "3"),), overhead={"cpu": "500m"}),
        {"cpu": 3500},
    ),
    ("spec.resources stand in for the sum", pod(asking("a", "1", "1Gi"), requests={"cpu": "8"}),
     {"cpu": 8000, "memory": GIB}),
    (
        "each resource by itself: memory from the pod, CPU from the containers",
        pod(asking("a", "1", "1Gi"), asking("b", "2"), requests={"memory": "6Gi"}),
        {"cpu": 3000, "memory": 6 * GIB},
    ),
    ("overhead is added to spec.resources", pod(asking("a", "1"), requests={"cpu": "4"}, overhead={"cpu": "250m"}),
     {"cpu": 4250}),
    ("spec.resources may be huge pages", pod(even("a", "1", hugepages_2Mi="4Mi"), requests={"hugepages-2Mi": "8Mi"}),
     {"cpu": 1000, "memory": GIB, "hugepages-2Mi": 8 * MIB}),
    ("but not devices", pod(container("a", {"nvidia.com/gpu": "1"}), requests={"nvidia.com/gpu": "4"}),
     {"nvidia.com/gpu": 1}),
    ("an empty spec.resources is as good as none", pod(asking("a", "1"), requests={}, limits={}), {"cpu": 1000}),
    (
        "huge pages of every size are their own resources",
        pod(
            even("a", "1", hugepages_2Mi="512Mi", hugepages_1Gi="4Gi"),
            even("b", "1", hugepages_2Mi="512Mi", hugepages_64Ki="1Mi"),
        ),
        {"cpu": 2000, "memory": 2 * GIB, "hugepages-2Mi": GIB, "hugepages-1Gi": 4 * GIB, "hugepages-64Ki": MIB},
    ),
    (
        "devices and storage are added up like the rest",
        pod(
            container("a", {"nvidia.com/gpu": "1", "ephemeral-storage": "5Gi"}),
            container("b", {"nvidia.com/gpu": "2", "rdma/hca": "1"}),
        ),
        {"nvidia.com/gpu": 3, "ephemeral-storage": 5 * GIB, "rdma/hca": 1},
    ),
    ("parts are added before rounding up", pod(*(asking(f"c{i}", "100n") for i in range(3))), {"cpu": 1}),
    ("and a part of a byte is a byte", pod(container("a", {"memory": "100m"})), {"memory": 1}),
    ("what was asked with zero is said with zero", pod(container("a", {"cpu": "0"})), {"cpu": 0}),
    (
        "a native sidecar counts for the app and for the init containers after it",
        pod(
            asking("app", "2", "1Gi"),
            init=(asking("before", "4"), asking("mesh", "500m", "128Mi", restartable=True), asking("after", "3")),
        ),
        {"cpu": 4000, "memory": GIB + 128 * MIB},  # CPU: max(4, 0.5+3, 0.5+2); memory: 1 GiB + 128 MiB
    ),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "expected"), TOTALS, ids=[row[0] for row in TOTALS])
def test_the_demand_of_a_pod(about: str, given: Pod, expected: dict[str, int]) -> None:
    assert whole(weighed(given).total) == expected


WITHOUT: list[PodRow] = [
    ("a pod without sidecars weighs the same", pod(asking("a", "1")), {"cpu": 1000}),
    ("a native sidecar is left out", pod(asking("a", "1"), init=(asking("s", "2", restartable=True),)), {"cpu": 1000}),
    ("a well-known one", pod(asking("a", "1"), asking("istio-proxy", "2")), {"cpu": 1000}),
    (
        "a declared one",
        pod(asking("a", "1"), asking("b", "2"), annotations={"armistice.dev/sidecars": "b"}),
        {"cpu": 1000},
    ),
    (
        "an init container then runs beside fewer",
        pod(asking("a", "1"), init=(asking("s", "2", restartable=True), asking("i", "3"))),
        {"cpu": 3000},
    ),
    ("overhead stays", pod(asking("a", "1"), asking("daprd", "2"), overhead={"cpu": "250m"}), {"cpu": 1250}),
    ("what spec.resources says stays too", pod(asking("a", "1"), asking("daprd", "2"), requests={"cpu": "4"}),
     {"cpu": 4000}),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "expected"), WITHOUT, ids=[row[0] for row in WITHOUT])
def test_the_demand_without_its_sidecars(about: str, given: Pod, expected: dict[str, int]) -> None:
    assert whole(without_sidecars(with_defaults(given))) == expected


def test_the_sidecars_share_is_of_the_pods_demand() -> None:
    demand = weighed(pod(asking("app", "3", "3Gi"), asking("istio-proxy", "1"), overhead={"cpu": "1"}))
    assert demand.share("cpu") == 20.0  # 1 of 3 + 1 + 1
    assert demand.share("memory") == 0.0
    assert demand.share("nvidia.com/gpu") == 0.0


# QoS classes.

QOS: list[tuple[str, Pod, QosClass]] = [
    ("nothing asked", pod(), QosClass.BEST_EFFORT),
    ("zero asked is nothing asked", pod(container("a", {"cpu": "0"}, {"memory": "0"})), QosClass.BEST_EFFORT),
    ("devices and huge pages do not count", pod(container("a", {}, {"nvidia.com/gpu": "1", "hugepages-2Mi": "4Mi"})),
     QosClass.BEST_EFFORT),
    ("storage does not count", pod(container("a", {"ephemeral-storage": "1Gi"})), QosClass.BEST_EFFORT),
    ("overhead does not count", pod(overhead={"cpu": "1"}), QosClass.BEST_EFFORT),
    ("limits equal requests", pod(even("a", "1")), QosClass.GUARANTEED),
    ("fractions are as good", pod(even("a", "100m")), QosClass.GUARANTEED),
    ("limits alone become requests", pod(container("a", {}, {"cpu": "1", "memory": "1Gi"})), QosClass.GUARANTEED),
    ("one amount written two ways",
     pod(container("a", {"cpu": "1", "memory": "1Gi"}, {"cpu": "1000m", "memory": "1024Mi"})),
     QosClass.GUARANTEED),
    ("requests alone", pod(asking("a", "1", "1Gi")), QosClass.BURSTABLE),
    ("CPU alone", pod(container("a", {"cpu": "1"}, {"cpu": "1"})), QosClass.BURSTABLE),
    ("memory alone", pod(container("a", {"memory": "1Gi"}, {"memory": "1Gi"})), QosClass.BURSTABLE),
    ("a limit above the request", pod(container("a", {"cpu": "1", "memory": "1Gi"}, {"cpu": "2", "memory": "1Gi"})),
     QosClass.BURSTABLE),
    ("one container without", pod(even("a", "1"), container("b")), QosClass.BURSTABLE),
    ("an init container without", pod(even("a", "1"), init=(container("i"),)), QosClass.BURSTABLE),
    ("an init container with", pod(even("a", "1"), init=(even("i", "2"),)), QosClass.GUARANTEED),
    ("a native sidecar with a fraction", pod(even("a", "1"), init=(even("s", "100m", restartable=True),)),
     QosClass.GUARANTEED),
    ("the sums agree, the containers do not",
     pod(
         container("a", {"cpu": "1", "memory": "1Gi"}, {"cpu": "2", "memory": "1Gi"}),
         container("b", {"cpu": "2", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}),
     ), QosClass.BURSTABLE),
    ("spec.resources alone", pod(requests={"cpu": "4", "memory": "4Gi"}, limits={"cpu": "4", "memory": "4Gi"}),
     QosClass.GUARANTEED),
    ("spec.resources limits alone", pod(limits={"cpu": "4", "memory": "4Gi"}), QosClass.GUARANTEED),
    ("spec.resources requests alone", pod(requests={"cpu": "4", "memory": "4Gi"}), QosClass.BURSTABLE),
    ("spec.resources of one resource", pod(limits={"cpu": "4"}), QosClass.BURSTABLE),
    ("spec.resources decide, whatever the containers say",
     pod(even("a", "1"), requests={"cpu": "2", "memory": "2Gi"}, limits={"cpu": "4", "memory": "4Gi"}),
     QosClass.BURSTABLE),
    ("spec.resources above burstable containers",
     pod(asking("a", "1"), requests={"cpu": "4", "memory": "4Gi"}, limits={"cpu": "4", "memory": "4Gi"}),
     QosClass.GUARANTEED),
    ("limits in full beside fewer pod requests than container requests",
     pod(asking("a", "1"), limits={"cpu": "4", "memory": "4Gi"}), QosClass.BURSTABLE),  # requests.cpu becomes 1
    ("pod requests, and limits on every container",
     pod(even("a", "4", "4Gi"), requests={"cpu": "4", "memory": "4Gi"}), QosClass.GUARANTEED),
    ("a pod limit for memory, and the one for CPU from the containers",
     pod(even("a", "4", "4Gi"), requests={"cpu": "4", "memory": "4Gi"}, limits={"memory": "4Gi"}), QosClass.GUARANTEED),
    ("pod requests over what the containers' limits come to",
     pod(even("a", "500m"), requests={"cpu": "4"}), QosClass.GUARANTEED),  # the limit becomes 4, too
    ("an empty spec.resources leaves it to the containers", pod(even("a", "1"), requests={}, limits={}),
     QosClass.GUARANTEED),
    ("spec.resources of a device only leaves it to the containers", pod(even("a", "1"), limits={"nvidia.com/gpu": "1"}),
     QosClass.GUARANTEED),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "expected"), QOS, ids=[row[0] for row in QOS])
def test_the_qos_class(about: str, given: Pod, expected: QosClass) -> None:
    assert weighed(given).qos is expected


# Who may own CPUs.

ELIGIBLE: list[tuple[str, Container, int]] = [
    ("one whole CPU, limits equal requests", even("a", "1"), 1),
    ("many", even("a", "48", "256Gi"), 48),
    ("written in millicores", even("a", "2000m"), 2),
    ("written with an exponent", even("a", "2e0"), 2),
    ("written with limits only", container("a", {}, {"cpu": "2", "memory": "1Gi"}), 2),
    ("one amount written two ways",
     container("a", {"cpu": "2", "memory": "1Gi"}, {"cpu": "2.0", "memory": "1024Mi"}), 2),
    ("a fraction", even("a", "1500m"), 0),
    ("a little more than a whole number", even("a", "2000000001n"), 0),
    ("nothing", container("a"), 0),
    ("no CPU", container("a", {"memory": "1Gi"}, {"memory": "1Gi"}), 0),
    ("zero CPUs", even("a", "0"), 0),
    ("no memory", container("a", {"cpu": "2"}, {"cpu": "2"}), 0),
    ("zero bytes", even("a", "2", "0"), 0),
    ("no limits", asking("a", "2", "1Gi"), 0),
    ("a CPU limit above the request", container("a", {"cpu": "2", "memory": "1Gi"}, {"cpu": "4", "memory": "1Gi"}), 0),
    ("a memory limit above the request",
     container("a", {"cpu": "2", "memory": "1Gi"}, {"cpu": "2", "memory": "2Gi"}), 0),
    ("a device more than requested is none of its business",
     container("a", {"cpu": "2", "memory": "1Gi"}, {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": "1"}), 2),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "cpus"), ELIGIBLE, ids=[row[0] for row in ELIGIBLE])
def test_who_may_own_cpus(about: str, given: Container, cpus: int) -> None:
    (weight,) = weighed(pod(given)).containers
    assert (weight.eligible, weight.exclusive_cpus) == (cpus > 0, cpus)


def test_a_standard_init_container_owns_nothing_a_native_sidecar_may() -> None:
    given = pod(even("app", "4"), init=(even("setup", "2"), even("mesh", "1", restartable=True)))
    found = {weight.name: weight.exclusive_cpus for weight in weighed(given).containers}
    assert found == {"setup": 0, "mesh": 1, "app": 4}
    assert is_eligible(given.init_containers[0])


def test_eligibility_is_each_containers_own() -> None:
    found = weighed(pod(even("app", "4"), asking("istio-proxy", "100m", "128Mi")))
    assert (found.qos, found.placement) == (QosClass.BURSTABLE, PlacementClass.EXCLUSIVE)
    assert [weight.exclusive_cpus for weight in found.containers] == [4, 0]


CLASSES: list[tuple[str, Pod, PlacementClass]] = [
    ("BestEffort is not placed", pod(), PlacementClass.NONE),
    ("nor with a device", pod(container("a", {}, {"nvidia.com/gpu": "1"})), PlacementClass.NONE),
    ("requests are bound", pod(asking("a", "1")), PlacementClass.BOUND),
    ("memory alone is bound", pod(container("a", {"memory": "1Gi"})), PlacementClass.BOUND),
    ("Guaranteed with a fraction is bound", pod(even("a", "1500m")), PlacementClass.BOUND),
    ("one eligible container makes it exclusive", pod(even("a", "1"), container("b")), PlacementClass.EXCLUSIVE),
    ("an eligible sidecar does", pod(asking("a", "1"), even("istio-proxy", "1")), PlacementClass.EXCLUSIVE),
    ("an eligible native sidecar does", pod(asking("a", "1"), init=(even("s", "1", restartable=True),)),
     PlacementClass.EXCLUSIVE),
    ("an init container with whole CPUs does not", pod(asking("a", "1"), init=(even("i", "2"),)), PlacementClass.BOUND),
    ("Guaranteed by spec.resources is exclusive, fraction or not", pod(limits={"cpu": "1500m", "memory": "1Gi"}),
     PlacementClass.EXCLUSIVE),
    ("Burstable by spec.resources is bound", pod(requests={"cpu": "2", "memory": "1Gi"}), PlacementClass.BOUND),
    ("Burstable by spec.resources with an eligible container is exclusive",
     pod(even("a", "2"), requests={"cpu": "4", "memory": "4Gi"}), PlacementClass.EXCLUSIVE),
    ("Guaranteed fractions under an empty spec.resources are bound", pod(even("a", "500m"), requests={}, limits={}),
     PlacementClass.BOUND),
]  # fmt: skip


@pytest.mark.parametrize(("about", "given", "expected"), CLASSES, ids=[row[0] for row in CLASSES])
def test_the_placement_class(about: str, given: Pod, expected: PlacementClass) -> None:
    assert weighed(given).placement is expected


def test_weighing_changes_no_pod_and_is_the_same_twice() -> None:
    given = pod(even("app", "2"), init=(asking("s", "1", restartable=True),), overhead={"cpu": "1"})
    copy = replace(given)
    assert weigh(given) == weigh(given)
    assert given == copy
