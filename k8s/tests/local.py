"""A rendered pod as a process of this machine: its volumes are folders, its Secrets and
ConfigMaps files and environment, the names of Services loopback addresses, its image the
programs that are installed here. What the chart wrote is used as it is; only where things are
is replaced."""

import contextlib
import dataclasses
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

import chart

# Seconds. A pod compiles its components while others do, on a machine that has more to do.
STARTED = 90
# Seconds for what takes a good second: a program that is executed in a pod, a request.
ANSWERED = 20

# Of the image of PostgreSQL, which cannot be had without a network: what its entrypoint does
# with the rendered environment.
POSTGRES_ENTRYPOINT = """
if ! test -s "$PGDATA/PG_VERSION"; then
    initdb --no-sync --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS
    echo "CREATE DATABASE \\"$POSTGRES_DB\\"" | postgres --single -j template1
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
fi
exec postgres -c unix_socket_directories=/var/run/postgresql -c listen_addresses=127.0.0.1
"""


@dataclasses.dataclass
class Image:
    """What stands in for a container's image."""

    # Paths of the image, and where that is here.
    paths: dict = dataclasses.field(default_factory=dict)
    # What the image itself has in its environment; `{port}` is the port of this machine.
    environment: dict = dataclasses.field(default_factory=dict)
    # Programs of the image that are told their port: name to shell command.
    programs: dict = dataclasses.field(default_factory=dict)
    # Runs where the pod names no command.
    entrypoint: list = dataclasses.field(default_factory=list)
    # Ends it.
    stop: signal.Signals = signal.SIGTERM
    # Whether it does not run as root.
    refuses_root: bool = False


def host_image(binary, application):
    """That of k8s/images: the host, and the folder of the manifest with its components."""
    return Image(paths={"/usr/local/bin/gristmill": str(binary), "/app": str(application.parent)})


def redis_image(server):
    """`redis-cli` is installed beside the server."""
    client = pathlib.Path(server).with_name("redis-cli")
    return Image(
        programs={
            "redis-server": f'exec {server} "$@" --bind 127.0.0.1 --port {{port}}',
            "redis-cli": f'exec {client} -p {{port}} "$@"',
        }
    )


def postgres_image(folder):
    """Clients and the server read their port from `PGPORT`."""
    return Image(
        environment={"PATH": f"{folder}:{os.environ['PATH']}", "PGPORT": "{port}", "LANG": "C.UTF-8"},
        entrypoint=["sh", "-euc", POSTGRES_ENTRYPOINT],
        # The image's STOPSIGNAL: a fast shutdown. A smart one waits for all clients to leave.
        stop=signal.SIGINT,
        refuses_root=True,
    )


class Cluster:
    """The namespace of one release, and the pods of it that run."""

    def __init__(self, release, images):
        """`images`: their stand-ins, by repository."""
        self.release = release
        self.images = images
        # Short, as a socket's path may have 107 bytes; open, as not all pods are the same user.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="mill-"))
        self.folder.chmod(0o755)
        # Name and port of a Service to an address of this machine.
        self.services = {}
        # Name of a pod and its port to a port of this machine: the same after a restart.
        self.ports = {}
        # Name of a pod to its process.
        self.running = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running.values()):
            process.kill()
        shutil.rmtree(self.folder)

    def image(self, pod):
        return self.images[pod.repository]

    def place(self, pod):
        """The folder of its volumes."""
        return self.folder / pod.owner["metadata"]["name"]

    def local(self, text, paths):
        """Names of Services and paths of a pod replaced by what they are on this machine."""
        domain = re.escape(self.release.values["clusterDomain"])
        for name in sorted({name for name, _ in self.services}, key=len, reverse=True):
            host = rf"(?<![\w.-]){re.escape(name)}(?:\.{chart.NAMESPACE}(?:\.svc(?:\.{domain})?)?)?(?::(\d+))?(?![\w.-])"

            def address(match, name=name):
                return self.services.get((name, int(match[1] or 80)), match[0])

            text = re.sub(host, address, text)
        known = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
        return re.sub(rf"(?<![\w./-])({known})(?=[/\s\"';)]|$)", lambda match: paths[match[1]], text)

    def paths(self, pod):
        """Paths in the pod's container to paths of this machine."""
        mounts = {}
        for mount in pod.containers[0].get("volumeMounts", []):
            place = self.place(pod) / mount["name"] / mount.get("subPath", "")
            place.mkdir(parents=True, exist_ok=True)
            mounts[mount["mountPath"]] = str(place)
        return {**self.image(pod).paths, **mounts}

    def fill(self, pod, paths):
        """Writes the files of ConfigMaps and Secrets."""
        for volume in pod.spec.get("volumes", []):
            for field, kind, name in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
                if field not in volume:
                    continue
                item = self.release.get(kind, volume[field][name])
                keys = [*(item.get("data") or {}), *(item.get("stringData") or {})]
                for one in volume[field].get("items") or [{"key": key, "path": key} for key in keys]:
                    text = self.release.file_of(kind, volume[field][name], one["key"])
                    (self.place(pod) / volume["name"] / one["path"]).write_text(self.local(text, paths))

    def command(self, pod, paths):
        """What runs in the pod; a port that was not chosen yet is 0."""
        container = pod.containers[0]
        command = [*container.get("command", self.image(pod).entrypoint), *container.get("args", [])]

        def listen(match):
            return f"127.0.0.1:{self.ports.get((pod.name, int(match[1])), 0)}"

        return [re.sub(r"^0\.0\.0\.0:(\d+)$", listen, self.local(str(arg), paths)) for arg in command]

    def environment(self, pod, paths):
        image = self.image(pod)
        found = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        if image.programs or image.environment:
            port = self.port_of_server(pod)
            found.update({name: value.format(port=port) for name, value in image.environment.items()})
        if image.programs:
            found["PATH"] = f"{self.write_programs(pod, image, port)}:{found['PATH']}"
        for entry in pod.containers[0].get("env", []):
            source = entry.get("valueFrom", {})
            value = entry.get("value", "")
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if field in source:
                    value = self.release.file_of(kind, source[field]["name"], source[field]["key"])
            found[entry["name"]] = self.local(value, paths)
        return found

    def write_programs(self, pod, image, port):
        folder = self.place(pod) / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        for name, command in image.programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{command.format(port=port)}\n")
            (folder / name).chmod(0o755)
        return folder

    def port_of_server(self, pod):
        """One that is free, for a server that cannot be told to take any."""
        (declared,) = pod.containers[0]["ports"]
        return self.ports.setdefault((pod.name, declared["containerPort"]), free_port())

    def user(self, pod):
        """Options of a process of this pod. What refuses root wants a user that the machine knows,
        and to own its volumes."""
        if not self.image(pod).refuses_root or os.geteuid() != 0:
            return {}
        nobody = pwd.getpwnam("nobody")
        for path in (self.place(pod), *self.place(pod).rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    def launch(self, pod):
        """Its container, started; not waited for."""
        paths = self.paths(pod)
        self.fill(pod, paths)
        process = Process(self, pod, paths)
        self.running[pod.name] = process
        return process

    def start(self, *pods):
        """All of them at once, until each is ready; those that run already stay as they are."""
        started = [self.launch(pod) for pod in pods if not self.runs(pod)]
        for process in started:
            wait_for(process.is_ready, STARTED, process.told)
            self.publish(process)
        return [self.running[pod.name] for pod in pods]

    def runs(self, pod):
        return pod.name in self.running and self.running[pod.name].is_alive()

    def publish(self, process):
        """Whoever asks a Service that selects the pod, asks the process from now on."""
        for service in self.release.services():
            if not chart.matches(service["spec"].get("selector"), process.pod.labels):
                continue
            for port in service["spec"]["ports"]:
                target = process.pod.port(port.get("targetPort", port["port"]))
                self.services[service["metadata"]["name"], port["port"]] = process.address(target)


class Process:
    """A container's main process, and what is executed beside it."""

    def __init__(self, cluster, pod, paths):
        self.cluster = cluster
        self.pod = pod
        self.container = pod.containers[0]
        self.paths = paths
        self.lines = []
        self.options = {
            "env": cluster.environment(pod, paths),
            "cwd": cluster.folder,
            "text": True,
            **cluster.user(pod),
        }
        self.log = cluster.place(pod).with_suffix(".log").open("a+")
        self.process = subprocess.Popen(
            cluster.command(pod, paths), stdout=subprocess.PIPE, stderr=self.log, **self.options
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        """The host says where it listens: by which flag it was told to, names the port."""
        flags = {"Admin": "--admin-listen", "Serving": "--listen", "Queue": "--listen"}
        for line in self.process.stdout:
            self.lines.append(line.strip())
            kind, _, address = line.strip().partition(" http://")
            if address and kind in flags:
                (told,) = self.pod.values_of(flags[kind])
                port = int(told.rsplit(":", 1)[1])
                self.cluster.ports[self.pod.name, port] = int(address.rsplit(":", 1)[1])

    def told(self):
        """For whoever reads that a test failed."""
        log = pathlib.Path(self.log.name).read_text()
        return f"{self.pod.name}: exit {self.process.poll()}\n{self.lines}\n{log[-3000:]}"

    def is_alive(self):
        return self.process.poll() is None

    def address(self, port):
        """Of a port of the container, by name or number; nothing while it is not known."""
        local = self.cluster.ports.get((self.pod.name, self.pod.port(port)))
        return local and f"127.0.0.1:{local}"

    def get(self, path, port="http", **options):
        return fetch(f"http://{self.address(port)}{path}", **options)

    def execute(self, *command, timeout=ANSWERED, **environment):
        """As `kubectl exec`."""
        command = [self.cluster.local(part, self.paths) for part in command]
        options = {**self.options, "env": {**self.options["env"], **environment}}
        return subprocess.run(command, capture_output=True, timeout=timeout, **options)

    def probe(self, name):
        """As the kubelet would ask: whether it passes, and what was answered."""
        probe = self.container[name]
        limit = probe.get("timeoutSeconds", 1)
        if "httpGet" in probe:
            status, text = self.get(probe["httpGet"]["path"], probe["httpGet"]["port"], timeout=limit)
            return status == 200, f"{status} {text}"
        if "tcpSocket" in probe:
            return connects(self.address(probe["tcpSocket"]["port"]), limit), ""
        try:
            answer = self.execute(*probe["exec"]["command"], timeout=limit)
        except subprocess.TimeoutExpired:
            return False, f"no answer in {limit} s"
        return answer.returncode == 0, answer.stdout + answer.stderr

    def passes(self, name):
        return self.probe(name)[0]

    def is_ready(self):
        assert self.is_alive(), self.told()
        known = all(self.address(one["containerPort"]) for one in self.container["ports"])
        return known and all(self.passes(name) for name in ("startupProbe", "livenessProbe", "readinessProbe"))

    @contextlib.contextmanager
    def frozen(self):
        """Gets no time of the machine meanwhile."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def terminate(self):
        """What the kubelet does, behind the `preStop` that lets load balancers know; and the end
        is in time and clean."""
        before = self.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        left = self.pod.spec["terminationGracePeriodSeconds"] - before
        self.process.send_signal(self.cluster.image(self.pod).stop)
        try:
            code = self.process.wait(left)
        except subprocess.TimeoutExpired:
            code = f"still there after {left} s"
        self.reader.join(ANSWERED)
        assert code == 0, self.told()

    def kill(self):
        if self.is_alive():
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.log.close()


def fetch(url, body=None, headers=None, method=None, timeout=ANSWERED):
    """Status and text; nobody there is a status of 0."""
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError:
        return 0, ""


def wait_for(condition, seconds, told):
    """Until the condition holds; too late is an error with what `told` answers."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def connects(address, timeout):
    host, port = address.split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout):
        return True
    return False
