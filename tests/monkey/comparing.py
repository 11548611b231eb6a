"""Several models on one object, and the question whose voxels they are where two objects overlap."""

from __future__ import annotations

from tests.monkey.acts import act


@act(2.5)
def compare(monkey) -> str:
    monkey.hands.press(monkey.hands.panel.actions_["compare"])
    if monkey.random.random() < 0.2:
        monkey.hands.settle()
        monkey.hands.panel.status.cancel_button.click()
        return "and cancel"
    return "all models"


@act(3)
def use_comparison(monkey) -> str | None:
    """Selects a model's row, takes one over, or closes."""
    view = monkey.hands.panel.comparison
    if view.isHidden() or not view.table.rowCount():
        return None
    deed = monkey.random.choice(("select", "select", "take", "close"))
    if deed == "close":
        monkey.hands.press(view.close_button)
        return deed
    view.table.selectRow(monkey.random.randrange(view.table.rowCount()))
    if deed == "take":
        monkey.hands.press(view.take_button)
    return f"{deed} {view.selected}"


@act(2.5)
def answer_overlap(monkey) -> str | None:
    """Press one of the buttons of the bar, or have a rule decide from now on."""
    bar = monkey.hands.panel.overlaps
    if bar.isHidden():
        return None
    deed = monkey.random.choice(("give", "leave", "look", "always"))
    if deed == "always":
        menu = bar.menu()
        monkey.random.choice(menu.actions()).trigger()
        menu.deleteLater()
    else:
        monkey.hands.press(getattr(bar, f"{deed}_button"))
    return deed
