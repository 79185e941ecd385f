"""What the trainings of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.forked_ranks import prepare
from tests.training_runs import Sources


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A tiny model and 48 rows."""
    return Sources(tmp_path_factory.mktemp("sources")).make()


@pytest.fixture
def forked() -> Iterator[None]:
    """Lets the test use `run_ranks`."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        prepare(monkeypatch)
        yield
