"""The click network's head: clicks are found, their kinds told apart, batches and fillers make no difference."""

from __future__ import annotations

import pytest
import torch

from napari_sammed.networks.click_head import SQUASHED, ClickHead


@pytest.fixture(scope="module")
def head() -> ClickHead:
    torch.manual_seed(0)
    return ClickHead(embed_dim=8, widths=(8, 8, 16, 16), heads=2, head_dim=4).eval()


@pytest.fixture(scope="module")
def seen() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(1, 8, 16, 16), torch.rand(1, 3, 64, 64)


POINTS = torch.tensor([[[20.0, 30.0], [50.0, 10.0]]])
LABELS = torch.tensor([[1.0, 0.0]])


def test_sizes(head, seen):
    masks, iou = head(*seen, POINTS.expand(3, -1, -1), LABELS.expand(3, -1))
    assert masks.shape == (3, 4, 32, 32)
    assert iou.shape == (3, 4)
    assert ((iou >= 0) & (iou <= 1)).all()


def test_objects_of_a_batch_do_not_see_each_other(head, seen):
    points = torch.cat([POINTS, POINTS + 9])
    together = head(*seen, points, LABELS.expand(2, -1))
    alone = head(*seen, points[1:], LABELS)
    torch.testing.assert_close(together[0][1:], alone[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[1][1:], alone[1], rtol=1e-4, atol=1e-5)


def test_a_filler_says_nothing(head, seen):
    filled = head(*seen, torch.cat([POINTS, torch.zeros(1, 1, 2)], 1), torch.cat([LABELS, -torch.ones(1, 1)], 1))
    torch.testing.assert_close(filled[0], head(*seen, POINTS, LABELS)[0])


def test_the_order_of_clicks_does_not_matter(head, seen):
    turned = head(*seen, POINTS.flip(1), LABELS.flip(1))
    torch.testing.assert_close(turned[0], head(*seen, POINTS, LABELS)[0])


def test_kinds_places_and_the_answer_before_matter(head, seen):
    usual = head(*seen, POINTS, LABELS)[0]
    before = torch.full((1, 1, 32, 32), 3.0)
    for other in (
        head(*seen, POINTS, 1 - LABELS)[0],
        head(*seen, POINTS + 5, LABELS)[0],
        head(*seen, POINTS, LABELS, before)[0],
    ):
        assert (usual - other).abs().max() > 1e-3


def test_walks_matter_and_none_is_none_at_all(head, seen):
    usual = head(*seen, POINTS, LABELS)[0]
    none, some = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    torch.testing.assert_close(head(*seen, POINTS, LABELS, None, none)[0], usual)
    for number in range(3):
        some[:, number, 8:16, 4:20] = 1
        other = head(*seen, POINTS, LABELS, None, some)[0]
        assert (usual - other).abs().max() > 1e-3
        usual = other


def test_mask_0_is_drawn_or_kept_or_mended_by_the_walk(seen):
    torch.manual_seed(0)
    head = ClickHead(embed_dim=8, widths=(8, 8, 16, 16), heads=2, head_dim=4).eval().requires_grad_(False)
    before = torch.linspace(-6, 6, 1024).reshape(1, 1, 32, 32)
    walks = torch.zeros(1, 3, 32, 32)
    walks[:, 2] = (before[:, 0].flip(-1) / SQUASHED).tanh()

    def only(way: int) -> torch.Tensor:
        head.trust.bias.fill_(-30)
        head.trust.bias[way] = 30
        return head(*seen, POINTS, LABELS, before, walks)[0]

    drawn, kept, mended = only(0), only(1), only(2)
    torch.testing.assert_close(kept[:, :1], before)
    torch.testing.assert_close(mended[:, :1], before.flip(-1), rtol=1e-3, atol=1e-3)
    assert min((drawn[:, :1] - other[:, :1]).abs().max() for other in (kept, mended)) > 0.1
    torch.testing.assert_close(drawn[:, 1:], kept[:, 1:], msg="the readings of a first click are drawn")


def test_no_answer_before_is_an_undecided_one(head, seen):
    undecided = head(*seen, POINTS, LABELS, torch.zeros(1, 1, 32, 32))[0]
    torch.testing.assert_close(undecided, head(*seen, POINTS, LABELS)[0])


def test_differences_are_nought_where_one_clicks(seen):
    from napari_sammed.networks.click_head import _differences

    fine = torch.nn.functional.avg_pool2d(seen[1], 2)
    place = (torch.tensor([[[2 * 7 + 0.5, 2 * 12 + 0.5]]]) + 0.5) / 64  # the middle of cell (row 12, column 7)
    inside, outside = _differences(fine, place, torch.ones(1, 1))
    assert inside[0, 0, 12, 7] < 1e-3
    assert (inside > 1e-3).float().mean() > 0.95
    assert (outside == 1).all()


def test_it_learns_to_draw_a_disc_around_a_click(seen):
    """Gradients reach everything, and the sum of squares falls by a lot."""
    torch.manual_seed(0)
    head = ClickHead(embed_dim=8, widths=(8, 8, 16, 16), heads=2, head_dim=4)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    targets = torch.stack([((rows - y).square() + (columns - x).square() < 36).float() for y, x in ((8, 8), (20, 22))])
    points = torch.tensor([[[16.5, 16.5]], [[44.5, 40.5]]])
    optimizer = torch.optim.Adam(head.parameters(), 5e-3)
    for step in range(60):
        masks, iou = head(*seen, points, torch.ones(2, 1))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(masks, targets[:, None].expand_as(masks))
        loss = loss + 0.1 * (iou - 1).square().mean()
        if step == 0:
            first = loss.item()
            loss.backward()
            assert all(p.grad is not None and p.grad.abs().max() > 0 for p in head.parameters())
        else:
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.2 * first
