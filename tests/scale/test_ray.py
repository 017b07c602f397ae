"""A Ray cluster gives the bytes of the local engine, also when it loses a worker and then a node in mid-run."""

import functools
import signal

import polars as pl
import pytest

from pipelines import artefacts, shards
from pipelines import prepare as preparing
from pipelines import score as verb
from pipelines.cluster import Cluster
from tests.chain import write_records
from tests.faults.kill import digests
from tests.pipelines import cohorts
from tests.scale import nodes

pytest.importorskip("ray", reason="needs the extra cluster")
FILES = 24
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # Ray leaves files and sockets of its daemons to the end of the process.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Return records that make 24 shards."""
    monkeypatch.setattr(shards, "divide", functools.partial(shards.divide, shard_events=1))
    return write_records(cohorts.events(4800), tmp_path / "records", files=FILES)


def test_score_loses_nothing_and_doubles_nothing(chain, records, tmp_path):
    whole, target = tmp_path / "whole", tmp_path / "scores"
    verb.score(chain.release, records, whole, workers=1)
    with nodes.nodes(3) as cluster:
        count = nodes.parts_in(artefacts.partial(target) / "predictions")
        losses = nodes.Losses(cluster, count, 2, 6)
        losses.start()
        verb.score(chain.release, records, target, engine="ray")
    assert losses.lost == ["worker", "node"]
    assert nodes.lost_and_doubled(whole, target) == (0, 0)
    assert digests(target) == digests(whole)


def test_prepare_makes_the_same_cohort(chain, records, tmp_path):
    whole, target = tmp_path / "whole", tmp_path / "cohort"
    settings = ["--outcomes", str(chain.outcomes), "--min-patients", "2"]
    assert preparing.main([str(records), str(whole), *settings, "--workers", "1"]) == 0
    with nodes.nodes(3) as cluster:
        losses = nodes.Losses(cluster, nodes.parts_in(artefacts.partial(target) / "events"), 2, 6)
        losses.start()
        assert preparing.main([str(records), str(target), *settings, "--engine", "ray"]) == 0
    assert losses.lost == ["worker", "node"]
    assert digests(target) == digests(whole)


def test_what_a_task_refuses_is_said_in_one_line(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "divide", functools.partial(shards.divide, shard_events=1))
    records = write_records(cohorts.events(60), tmp_path / "records", files=3)
    frame = pl.read_parquet(records / "data" / "1.parquet")
    frame.reverse().write_parquet(records / "data" / "1.parquet")
    with nodes.nodes(1), pytest.raises(ValueError, match=r"1\.parquet: row \d+ is not in order"):
        verb.score(chain.release, records, tmp_path / "scores", engine="ray")
    assert not artefacts.partial(tmp_path / "scores").exists()


def test_a_shard_that_takes_every_worker_with_it_ends_in_one_line():
    with nodes.nodes(1), pytest.raises(ValueError, match="a shard was lost 6 times with its worker"):
        list(Cluster(None).map(signal.raise_signal, [signal.SIGKILL]))
