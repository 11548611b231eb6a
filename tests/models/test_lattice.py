"""Walks on the lattice that know an answer: without seeds it stays, seeds change it as far as the next edge."""

from __future__ import annotations

import numpy as np

from napari_sammed.models.lattice import edge_weights, walk

GREY = np.zeros((12, 30), np.float32)
GREY[:, 15:] = 3  # an edge
WEIGHTS = edge_weights(GREY, (1.0, 1.0), 25.0, 1e-4)
LEAK = np.full(GREY.shape, 1e-3, np.float32)
NONE = np.zeros(GREY.shape, bool)


def test_without_seeds_a_constant_answer_stays():
    for chance in (0.0, 0.3, 1.0):
        p = walk(WEIGHTS, LEAK, NONE, NONE, prior=np.full(GREY.shape, chance, np.float32))
        np.testing.assert_allclose(p, chance, atol=1e-3)


def test_without_seeds_an_answer_is_evened_out_within_edges():
    answer = np.random.default_rng(0).random(GREY.shape).astype(np.float32)
    answer[:, 15:] *= 0.2
    p = walk(WEIGHTS, LEAK, NONE, NONE, prior=answer, tolerance=1e-6)
    np.testing.assert_allclose(p.sum(), answer.sum(), rtol=1e-3)
    assert p[:, :15].std() < 0.02
    assert p[:, 15:].max() < p[:, :15].min()


def test_a_seed_that_contradicts_changes_one_side_of_the_edge():
    answer = np.where(GREY > 0, 0.9, 0.1).astype(np.float32)
    inside = NONE.copy()
    inside[5:7, 5:7] = True
    p = walk(WEIGHTS, LEAK, inside, NONE, prior=answer)
    assert p[:, :15].min() > 0.5
    outside = NONE.copy()
    outside[5:7, 22:24] = True
    p = walk(WEIGHTS, LEAK, NONE, outside, prior=answer)
    assert p.max() < 0.5
    assert (p[5:7, 22:24] == 0).all()


def test_no_answer_is_one_of_nothing():
    inside = NONE.copy()
    inside[5:7, 5:7] = True
    plain = walk(WEIGHTS, LEAK, inside, NONE)
    np.testing.assert_allclose(walk(WEIGHTS, LEAK, inside, NONE, prior=np.zeros_like(GREY)), plain, atol=1e-5)
