"""A rendered pod as a process of this machine: its volumes are folders, its Secrets and
ConfigMaps files and environment, the names of Services loopback addresses. What the chart wrote
is used as it is; only where things are is replaced."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import chart

STARTED = 90


class Cluster:
    """The namespace of one release, below one folder."""

    def __init__(self, release, binary, application, folder):
        self.release = release
        self.binary = binary
        self.folder = pathlib.Path(folder)
        self.paths = {"/app": str(application.parent)}
        self.addresses = {}
        self.running = []
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.kill()
        self.stack.close()

    def publish(self, service, port, address):
        """Whoever asks this Service from now on, asks the address."""
        self.addresses[service, port] = address

    def local(self, text):
        """Names of Services replaced by addresses of this machine."""
        services = sorted({name for name, _ in self.addresses}, key=len, reverse=True)
        domain = re.escape(self.release.values["clusterDomain"])
        for name in services:
            host = rf"(?<![\w.-]){re.escape(name)}(?:\.{chart.NAMESPACE}(?:\.svc(?:\.{domain})?)?)?(?::(\d+))?(?![\w.-])"

            def address(match, name=name):
                return self.addresses.get((name, int(match[1] or 80)), match[0])

            text = re.sub(host, address, text)
        return text

    def volumes(self, pod):
        """Folders for the mounts of a pod, filled: mount path to folder."""
        own = self.folder / pod.owner["metadata"]["name"]
        sources = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
        mounts = {}
        for mount in pod.containers[0].get("volumeMounts", []):
            place = own / mount["name"]
            place.mkdir(parents=True, exist_ok=True)
            mounts[mount["mountPath"]] = str(place / mount["subPath"] if mount.get("subPath") else place)
        for mount in pod.containers[0].get("volumeMounts", []):
            volume = sources.get(mount["name"], {})
            for field, kind, name in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
                if field in volume:
                    self.fill(own / mount["name"], kind, volume[field][name], volume[field].get("items"), mounts)
        return mounts

    def fill(self, place, kind, name, items, mounts):
        item = self.release.get(kind, name)
        keys = [*(item.get("data") or {}), *(item.get("stringData") or {})]
        for one in items or [{"key": key, "path": key} for key in keys]:
            text = self.local(self.release.file_of(kind, name, one["key"]))
            for path in sorted(mounts, key=len, reverse=True):
                text = text.replace(f'"{path}/', f'"{mounts[path]}/')
            (place / one["path"]).write_text(text)

    def environment(self, pod):
        found = {}
        for entry in pod.containers[0].get("env", []):
            source = entry.get("valueFrom", {})
            value = entry.get("value", "")
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if field in source:
                    value = self.release.file_of(kind, source[field]["name"], source[field]["key"])
            found[entry["name"]] = self.local(value)
        return found

    def arguments(self, pod):
        """Those of the host, without its own name."""
        mounts = self.volumes(pod)
        paths = {**self.paths, **mounts}
        args = pod.args()
        if args[0] in ("gristmill", "/usr/local/bin/gristmill"):
            args = args[1:]
        return [self.place(self.local(re.sub(r"^(0\.0\.0\.0|\[::\]):\d+$", "127.0.0.1:0", arg)), paths) for arg in args]

    @staticmethod
    def place(text, paths):
        for path in sorted(paths, key=len, reverse=True):
            if text == path or text.startswith(path + "/"):
                return paths[path] + text[len(path) :]
        return text

    def clean_environment(self, pod):
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environment(pod)}

    def start(self, pod):
        command = [str(self.binary), *self.arguments(pod)]
        process = Process(pod, command, self.clean_environment(pod), self.folder)
        self.running.append(process)
        process.wait_until_ready()
        return process

    def redis(self, program, pod):
        """A real Redis with the password that the chart generated."""
        port = free_port()
        name = pod.owner["metadata"]["name"]
        secret = next(k for k in self.release.secret_keys() if k.endswith("-redis"))
        password = self.release.file_of("Secret", secret, "password")
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--requirepass", password]
        process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        wait_for(lambda: connects(port), 20, "redis")
        for service in self.release.all("Service"):
            if chart.matches(service["spec"].get("selector"), pod.labels):
                self.publish(service["metadata"]["name"], 6379, f"127.0.0.1:{port}")
        return name


class Process:
    """A container's main process."""

    def __init__(self, pod, command, environment, folder):
        self.pod = pod
        self.addresses = {}
        self.lines = []
        self.errors = (folder / f"{pod.owner['metadata']['name']}.log").open("a+")
        self.process = subprocess.Popen(
            command, env=environment, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=self.errors
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())
            kind, _, address = line.strip().partition(" http://")
            if address:
                self.addresses[kind] = address

    def told(self):
        self.errors.flush()
        log = pathlib.Path(self.errors.name).read_text()
        return f"{self.pod.name}: exit {self.process.poll()}\n{self.lines}\n{log[-3000:]}"

    def get(self, path, where="Admin"):
        return fetch(f"http://{self.addresses[where]}{path}")

    def probe(self, name):
        """As the kubelet would ask."""
        container = self.pod.containers[0]
        probe = container[name]
        if "httpGet" not in probe:
            return True
        port = self.pod.port(probe["httpGet"]["port"])
        listening = [self.pod.port(v.rsplit(":", 1)[1]) for v in self.pod.values_of("--listen")]
        admin = int(self.pod.values_of("--admin-listen")[0].rsplit(":", 1)[1]) if self.pod.values_of("--admin-listen") else None
        where = "Admin" if port == admin else "Serving" if "Serving" in self.addresses else "Queue"
        assert where == "Admin" or listening, f"nothing listens on {port}"
        return self.get(probe["httpGet"]["path"], where)[0] == 200

    def is_ready(self):
        assert self.process.poll() is None, self.told()
        expected = {"--admin-listen": "Admin"}
        known = all(where in self.addresses for flag, where in expected.items() if self.pod.values_of(flag))
        return bool(self.addresses) and known and all(
            self.probe(name) for name in ("startupProbe", "livenessProbe", "readinessProbe") if name in self.pod.containers[0]
        )

    def wait_until_ready(self):
        wait_for(self.is_ready, STARTED, self.told)

    def terminate(self):
        """SIGTERM, and SIGKILL when the pod's grace period is over: the exit code and the seconds."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(self.pod.spec.get("terminationGracePeriodSeconds", 30))
        except subprocess.TimeoutExpired:
            self.kill()
            code = None
        return code, time.monotonic() - begun

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.errors.close()


def fetch(url, body=None, headers=None):
    """Status and text; nobody there is a status of 0."""
    request = urllib.request.Request(url, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except (urllib.error.URLError, OSError):
        return 0, ""


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what() if callable(what) else f"{what} did not come up"
        time.sleep(0.05)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def connects(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
