"""What a plain server answers, a server on a cluster answers: the same tests."""

from __future__ import annotations

import pytest

from tests.remote import test_remote
from tests.server import test_questions

pytestmark = pytest.mark.full

_PLAIN_ONLY = {
    "test_a_session_at_a_server_gives_the_masks_of_one_here",
    "test_a_session_survives_servers_that_are_killed",
}

for _module in (test_questions, test_remote):
    for _name in vars(_module):
        if _name.startswith("test_") and _name not in _PLAIN_ONLY and callable(getattr(_module, _name)):
            assert _name not in globals(), _name
            globals()[_name] = getattr(_module, _name)
