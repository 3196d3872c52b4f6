"""The file system of the image, put together by its own script from what is built here, and run:
what the libraries, the application and the user are missing shows without a container."""

import json
import os
import re
import shutil
import subprocess

import pytest

import chart
import local

USER = 65532


@pytest.fixture(scope="module")
def rootfs(binary, application, tmp_path_factory):
    """`/` of the image. The bills of materials are stand-ins: their tool is not built here."""
    tree = tmp_path_factory.mktemp("build")
    shutil.copytree(chart.ROOT / "k8s/images", tree / "k8s/images")
    for name in ("spin.toml", "LICENSE"):
        shutil.copy(chart.ROOT / name, tree / name)
    for name in ("runtime-shim/gristmill_x86_64-unknown-linux-gnu", "components/auth/auth_wasm32-wasip2"):
        (tree / name).parent.mkdir(parents=True)
        (tree / f"{name}.cdx.json").write_text("{}")
    release = tree / "target/release"
    release.mkdir(parents=True)
    (tree / "target/wasm32-wasip2").symlink_to(application.parent / "target/wasm32-wasip2")
    shutil.copy(binary, release / "gristmill")
    # As the Dockerfile says.
    text = (chart.ROOT / "k8s/images/Dockerfile").read_text().replace("\\\n", " ")
    compile_probe = re.search(r"rustc .*?probe\.rs", text)[0].split()
    subprocess.run(compile_probe, cwd=tree, check=True, timeout=300)
    root = tmp_path_factory.mktemp("image") / "root"
    script = ["k8s/images/rootfs.sh", str(root), str(root / "state")]
    subprocess.run(script, cwd=tree, check=True, timeout=60, env={**os.environ, "SOURCE_DATE_EPOCH": "1000000000"})
    return root


def test_its_files_have_the_time_of_the_commit(rootfs):
    times = {path.lstat().st_mtime for path in rootfs.rglob("*")}
    assert times == {1000000000.0}


def test_every_library_is_there(rootfs):
    """Also for whom may not change the root."""
    for name in ("gristmill", "probe"):
        said = subprocess.run(["ldd", rootfs / "usr/local/bin" / name], capture_output=True, text=True, check=True).stdout
        libraries = re.findall(r"(/\S+) \(0x", said)
        assert libraries
        assert all((rootfs / library.lstrip("/")).is_file() for library in libraries), said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the root folder")
def test_it_serves_and_answers_its_health_check(rootfs):
    os.chown(rootfs / "state", USER, USER)
    text = (chart.ROOT / "k8s/images/Dockerfile").read_text().replace("\\\n", " ")
    command = [json.loads(re.search(rf"^{word} (\[.*\])$", text, re.M)[1]) for word in ("ENTRYPOINT", "CMD")]
    command = [re.sub(r"^0\.0\.0\.0:\d+$", "127.0.0.1:0", word) for word in sum(command, [])]
    environment = dict(re.findall(r"(HOME|GRISTMILL_\w+)=(\S+)", text))
    assert set(environment) == {"HOME", "GRISTMILL_CACHE_DIR", "GRISTMILL_LOG_FORMAT"}

    def enter():
        os.chroot(rootfs)
        os.chdir("/state")
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)

    process = subprocess.Popen(command, env=environment, preexec_fn=enter, text=True, stdout=subprocess.PIPE)
    try:
        addresses = {}
        for line in process.stdout:
            if line.strip() == "Ready":
                break
            kind, _, address = line.strip().partition(" http://")
            addresses[kind] = address
        for path, expected in (("/livez", 0), ("/nowhere", 1)):
            probe = ["/usr/local/bin/probe", addresses["Admin"], path]
            assert subprocess.run(probe, env={}, preexec_fn=enter, timeout=30).returncode == expected
        status, said = local.fetch(f"http://{addresses['Serving']}/counter/image")
        assert (status, json.loads(said)["count"]) == (200, 1)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
