"""Drills without a cluster: the commands and the environment of rendered pods, as processes."""

import json
import os
import time

import pytest

import chart
import local
from conftest import required


def deployment_of(release, component):
    for pod in release.pods():
        if component in pod.components():
            return pod
    raise AssertionError(f"nothing runs {component}")


@pytest.fixture(scope="module")
def cluster(on_shims, binary, application, tmp_path_factory):
    """The queue server of the chart, and a Redis with the chart's password."""
    redis = os.environ.get("GRISTMILL_TEST_REDIS_SERVER")
    if not redis:
        required("redis-server")
    with local.Cluster(on_shims, binary, application, tmp_path_factory.mktemp("drill")) as cluster:
        pods = on_shims.pods()
        image = on_shims.values["redis"]["image"]["repository"]
        cluster.redis(redis, next(pod for pod in pods if pod.containers[0]["image"].startswith(image + ":")))
        queue = cluster.start(next(pod for pod in pods if pod.runs_host("queue")))
        for service in on_shims.all("Service"):
            if chart.matches(service["spec"].get("selector"), queue.pod.labels):
                cluster.publish(service["metadata"]["name"], 9324, queue.addresses["Queue"])
        yield cluster


def post(service, number):
    status, text = local.fetch(
        f"http://{service.addresses['Serving']}/process_message",
        json.dumps({"number": number}).encode(),
        {"content-type": "application/json"},
    )
    assert status == 202, text
    return json.loads(text)["message_id"]


def stored(service, ids):
    return [one for one in ids if service.get(f"/process_message/{one}", "Serving")[0] == 200]


def test_a_message_goes_all_the_way_and_none_is_lost_when_a_pod_stops(cluster, on_shims):
    service = cluster.start(deployment_of(on_shims, "process-message"))
    worker = cluster.start(deployment_of(on_shims, "process-message-worker"))
    ids = [post(service, number) for number in range(40)]
    code, seconds = worker.terminate()
    assert code == 0, worker.told()
    assert seconds < int(worker.pod.values_of("--grace-period")[0]), seconds
    ids += [post(service, number) for number in range(40, 60)]
    again = cluster.start(worker.pod)
    local.wait_for(lambda: len(stored(service, ids)) == len(ids), 60, again.told)
    assert again.terminate()[0] == 0, again.told()
    assert service.terminate()[0] == 0, service.told()


def test_a_service_answers_its_probes_and_drains(cluster, on_shims):
    counter = cluster.start(deployment_of(on_shims, "counter"))
    counts = [json.loads(counter.get("/counter/drill", "Serving")[1])["count"] for _ in range(5)]
    assert counts == [1, 2, 3, 4, 5]
    metrics = counter.get("/metrics")
    assert metrics[0] == 200 and "gristmill_" in metrics[1]
    assert counter.terminate()[0] == 0, counter.told()


def test_a_pod_is_not_ready_without_its_queue(cluster, on_shims):
    """But alive: a restart would not bring the queue back."""
    worker = cluster.start(deployment_of(on_shims, "process-message-worker"))
    queue = cluster.running[0]
    assert queue.terminate()[0] == 0, queue.told()
    local.wait_for(lambda: not worker.probe("readinessProbe"), 60, worker.told)
    assert worker.probe("livenessProbe")
    code, _ = worker.terminate()
    assert code is not None, worker.told()
