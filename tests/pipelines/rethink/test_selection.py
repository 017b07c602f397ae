"""Fact selection: steps that say the same get one fact."""

import numpy as np

from pipelines.rethink.selection import clusters, replaced, select

EMBEDDING = np.array([[1, 0], [0.9, 0.43589], [0, 1], [0.6, 0.8]], dtype=np.float32)


def test_clusters_are_led_by_the_first_and_meet_their_threshold():
    assert clusters(EMBEDDING, threshold=0.85).tolist() == [0, 0, 1, 2]
    assert clusters(EMBEDDING[[0, 3]], threshold=float(EMBEDDING[0] @ EMBEDDING[3])).tolist() == [0, 0]


def test_the_best_supported_fact_stands_for_its_cluster_whatever_the_order():
    value, fact = np.array([0.2, 0.9, 0.5, -1.0]), np.array([7, 8, 9, -1])
    chosen = select(EMBEDDING, value, fact, threshold=0.85)
    assert chosen.tolist() == [8, 8, 9, 8]
    order = np.array([3, 1, 0, 2])
    assert select(EMBEDDING[order], value[order], fact[order], threshold=0.85).tolist() == chosen[order].tolist()


def test_a_step_without_a_fact_stays():
    assert replaced(["a", "b"], np.array([1, -1]), ["x", "y"]) == ["y", "b"]
