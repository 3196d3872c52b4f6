"""What the tests share: where things are, and each set of values rendered once."""

import os
import pathlib

import pytest

import chart

ROOT = pathlib.Path(__file__).resolve().parents[2]


def required(what):
    """Skips a test, or fails it where nothing may be missing (continuous integration)."""
    if os.environ.get("GRISTMILL_TEST_REQUIRE_SERVERS"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def binary():
    """The host, as `cargo xtask build` leaves it."""
    path = pathlib.Path(
        os.environ.get("GRISTMILL_TEST_BINARY", ROOT / "target/release/gristmill")
    )
    if not path.is_file():
        required(f"the host at {path}")
    return path


@pytest.fixture(scope="session")
def application(binary):
    """The manifest beside the components that the host was built with."""
    folder = pathlib.Path(os.environ.get("GRISTMILL_TEST_APPLICATION", ROOT))
    if not (folder / "target/wasm32-wasip2/release/auth.wasm").is_file():
        required(f"the components below {folder}")
    return folder / "spin.toml"


@pytest.fixture(scope="session", params=chart.cases(), ids=lambda case: case.name)
def release(request):
    """Every set of values of the matrix, rendered."""
    return chart.rendered(request.param)


@pytest.fixture(scope="session")
def laptop():
    """The defaults, rendered."""
    return chart.rendered(chart.case("laptop"))


@pytest.fixture(scope="session")
def on_shims():
    """The defaults with every service on the shim: all of it can run as processes."""
    return chart.rendered(chart.case("shim"))


@pytest.fixture(scope="session")
def aws():
    """Production on AWS, rendered."""
    return chart.rendered(chart.case("aws"))
