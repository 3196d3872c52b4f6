"""Drills without a cluster: every pod of a release runs as a process, with the rendered command,
environment, files and probes. The tests use what the pods offer, stop them, and take servers away."""

import json
import os
import struct
import zlib

import pytest

import chart
import local
from conftest import required

# Seconds until an effect of what was done before must be seen.
SEEN = 60
# Seconds until the next full minute, at which `auth-cron` runs, and that run.
NEXT_MINUTE = 90
PASSWORD = "a slow millwheel by night"


@pytest.fixture(scope="module")
def mill(on_shims, binary, application):
    """All pods of the release; those that others ask come first."""
    redis = os.environ.get("GRISTMILL_TEST_REDIS_SERVER") or required("redis-server")
    postgres = os.environ.get("GRISTMILL_TEST_POSTGRES_BIN") or required("PostgreSQL")
    images = {
        on_shims.values["image"]["repository"]: local.host_image(binary, application),
        on_shims.values["redis"]["image"]["repository"]: local.redis_image(redis),
        on_shims.values["postgresql"]["image"]["repository"]: local.postgres_image(postgres),
    }
    with local.Cluster(on_shims, images) as cluster:
        yield Mill(cluster)


class Mill:
    """The release, by what its pods do."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.release = cluster.release
        self.servers = [self.release.server("redis"), self.release.server("postgresql")]
        self.servers += [pod for pod in self.release.pods() if pod.runs_host("queue")]
        self.start()

    def start(self):
        """What does not run."""
        self.cluster.start(*self.servers)
        self.cluster.start(self.release.runner("auth"))
        self.cluster.start(*self.release.pods())

    def server(self, name):
        return self.cluster.running[self.release.server(name).name]

    @property
    def queue(self):
        return self.cluster.running[self.servers[-1].name]

    def runner(self, component):
        return self.cluster.running[self.release.runner(component).name]

    def ask(self, component, path, body=None, token="", **headers):
        """Status and answer of a service."""
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"content-type": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        status, text = self.runner(component).get(path, body=body, headers=headers)
        return status, json.loads(text) if text.startswith("{") else text

    def login(self, name):
        """The token of a new account."""
        account = {"username": name, "password": PASSWORD}
        assert self.ask("auth", "/auth/register", account)[0] == 201
        status, answer = self.ask("auth", "/auth/login", account)
        assert status == 200, answer
        return answer["token"]

    def upload(self, token):
        status, answer = self.ask("images", "/images/upload", picture(), token, **{"content-type": "image/png"})
        assert status == 201, answer
        return answer["id"]

    def has_thumbnail(self, token, image):
        return self.ask("images", f"/images/{image}/thumbnail", token=token)[0] == 200

    def send(self, number):
        status, answer = self.ask("process-message", "/process_message", {"number": number})
        assert status == 202, answer
        return answer["message_id"]

    def is_stored(self, message):
        return self.ask("process-message", f"/process_message/{message}")[0] == 200

    def dead_letters(self, queue):
        """How many there are, asked as KEDA asks."""
        depths = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        url = f"http://{self.queue.address('sqs')}/000000000000/{queue}-dlq"
        status, text = self.queue.get(
            "/",
            "sqs",
            body=json.dumps({"QueueUrl": url, "AttributeNames": depths}).encode(),
            headers={"content-type": "application/x-amz-json-1.0", "x-amz-target": "AmazonSQS.GetQueueAttributes"},
        )
        assert status == 200, text
        return sum(int(json.loads(text)["Attributes"][depth]) for depth in depths)

    def sql(self, statement, password=None):
        """By `psql` beside the database."""
        names = self.release.values["postgresql"]
        secret = self.release.server("postgresql").owner["metadata"]["name"]
        password = password or self.release.file_of("Secret", secret, "password")
        return self.server("postgresql").execute(
            *["psql", "-h", "127.0.0.1", "-U", names["username"], "-d", names["database"], "-XAtc", statement],
            PGPASSWORD=password,
        )


def picture():
    """A grey one, as PNG."""
    side = 600

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(range(200)) * 3) * side)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture(autouse=True)
def everything_runs(mill):
    """Whatever the drill before has stopped."""
    mill.start()


@pytest.fixture(scope="module", autouse=True)
def expired_session(mill):
    """The token of a session that is over. It comes first: the next full minute passes while
    other drills run."""
    token = mill.login("gone")
    aged = mill.sql("UPDATE sessions SET expires_at = 0 WHERE username = 'gone' RETURNING key")
    assert len(aged.stdout.split()) == 3, aged  # the key and `UPDATE 1`
    return token


def test_every_pod_runs_and_passes_each_of_its_probes(mill):
    assert set(mill.cluster.running) == {pod.name for pod in mill.release.pods()}
    for process in mill.cluster.running.values():
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            local.wait_for(lambda: process.passes(name), SEEN, lambda: f"{name}: {process.probe(name)} {process.told()}")


def test_every_service_reaches_what_it_needs(mill):
    """Each HTTP component says itself whether its stores, its database and its queue answer."""
    for component in sorted(chart.triggers("http")):
        status, answer = mill.ask(component, f"/readyz/{component}")
        assert status == 200, f"{component}: {answer}"


def test_a_service_counts_and_is_measured(mill):
    counts = [mill.ask("counter", "/counter/drill")[1]["count"] for _ in range(5)]
    assert counts == [1, 2, 3, 4, 5]
    status, metrics = mill.runner("counter").get("/metrics", "admin")
    assert status == 200 and "gristmill_" in metrics


def test_a_message_goes_all_the_way_and_none_is_lost_when_a_pod_stops(mill):
    ids = [mill.send(number) for number in range(40)]
    worker = mill.runner("process-message-worker")
    worker.terminate()
    ids += [mill.send(number) for number in range(40, 60)]
    mill.start()
    local.wait_for(lambda: all(map(mill.is_stored, ids)), SEEN, mill.runner("process-message-worker").told)
    assert mill.dead_letters("messages") == 0


def test_an_uploaded_picture_gets_its_thumbnail(mill):
    """From the service over the queue to the worker, with accounts in PostgreSQL and sessions in Redis."""
    token = mill.login("miller")
    assert mill.ask("auth", "/auth/profile", token=token)[1]["username"] == "miller"
    image = mill.upload(token)
    local.wait_for(lambda: mill.has_thumbnail(token, image), SEEN, mill.runner("images-worker").told)
    assert mill.sql("SELECT count(*) FROM accounts WHERE username = 'miller'").stdout.strip() == "1"


def test_redis_keeps_strangers_out(mill):
    redis = mill.server("redis")
    for password in ("wrong", ""):
        answer = redis.execute("redis-cli", "-h", "127.0.0.1", "-e", "get", "x", REDISCLI_AUTH=password)
        assert answer.returncode != 0 and "NOAUTH" in answer.stdout + answer.stderr, answer


def test_postgresql_keeps_strangers_out(mill):
    answer = mill.sql("SELECT 1", "wrong")
    assert answer.returncode != 0 and "password authentication failed" in answer.stderr, answer


def test_the_schedule_sweeps_expired_sessions(mill, expired_session):
    """Out of the database's index and out of the store, which alone decides who is logged in."""
    cron = mill.runner("auth-cron")
    local.wait_for(lambda: mill.ask("auth", "/auth/profile", token=expired_session)[0] == 401, NEXT_MINUTE, cron.told)
    left = mill.sql("SELECT count(*) FROM sessions WHERE username = 'gone'")
    assert left.stdout.strip() == "0", left


def wait_until_unready(process, named):
    """Not ready, with the reason; but alive: a restart would not bring the server back."""

    def refused():
        passed, answer = process.probe("readinessProbe")
        return not passed and answer.startswith("503") and named in answer

    local.wait_for(refused, SEEN, process.told)
    assert process.passes("livenessProbe"), process.told()


def test_without_redis_messages_wait_and_data_survives(mill):
    """A service at rest sees it with the next request."""
    count = mill.ask("counter", "/counter/kept")[1]["count"]
    worker, counter, redis = mill.runner("process-message-worker"), mill.runner("counter"), mill.server("redis")
    redis.terminate()
    waiting = [mill.send(number) for number in range(20)]
    assert mill.ask("counter", "/counter/kept")[0] == 503
    for process in (worker, counter):
        wait_until_unready(process, f"redis {redis.address(6379)}")
    mill.start()
    for process in (worker, counter):
        local.wait_for(process.is_ready, SEEN, process.told)
    local.wait_for(lambda: all(map(mill.is_stored, waiting)), SEEN, worker.told)
    assert mill.ask("counter", "/counter/kept")[1]["count"] == count + 1
    assert mill.dead_letters("messages") == 0


def test_without_its_database_the_backlog_waits(mill):
    """The database leaves a worker with a queue full of work, some of which it has just received."""
    token = mill.login("patient")
    service, worker, database = mill.runner("images"), mill.runner("images-worker"), mill.server("postgresql")
    first = mill.upload(token)
    local.wait_for(lambda: mill.has_thumbnail(token, first), SEEN, worker.told)
    with worker.frozen():
        backlog = [mill.upload(token) for _ in range(6)]
        database.terminate()
    assert mill.ask("images", "/images", token=token)[0] == 503
    for process in (worker, service):
        wait_until_unready(process, f"postgres {database.address(5432)}")
    mill.start()
    for process in (worker, service):
        local.wait_for(process.is_ready, SEEN, process.told)
    local.wait_for(lambda: all(mill.has_thumbnail(token, image) for image in backlog), SEEN, worker.told)
    assert mill.dead_letters("images") == 0


def test_without_the_queue_consumers_wait(mill):
    queue, worker = mill.queue, mill.runner("process-message-worker")
    queue.terminate()
    wait_until_unready(worker, "messages")
    assert mill.ask("process-message", "/process_message", {"number": 0})[0] == 503
    mill.start()
    local.wait_for(worker.is_ready, SEEN, worker.told)
    message = mill.send("again")
    local.wait_for(lambda: mill.is_stored(message), SEEN, worker.told)


def test_every_pod_ends_in_time_when_it_is_told_to(mill):
    """Inside its grace period, with exit code 0; servers last, as others have them open."""
    for process in reversed(list(mill.cluster.running.values())):
        process.terminate()
