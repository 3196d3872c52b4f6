"""Every rule of policies.py, for every set of values."""

import pytest

import policies


@pytest.mark.parametrize("rule", policies.ALL, ids=lambda rule: rule.__name__)
def test_policy(rule, release):
    broken = list(rule(release))
    assert not broken, "\n".join(broken)
