"""The dock that leads through a folder of images."""

from __future__ import annotations

from tests.monkey.acts import act


@act(1, session=False)
def open_series(monkey) -> str | None:
    """Add the dock if it is not there, and open the folder of the round, with classes or those of the last time."""
    if monkey.series is None:
        monkey.add_series_dock()
    view = monkey.series.view
    view.folder.setText(str(monkey.images_folder))
    view.classes.setText(monkey.random.choice(("", "liver, spleen", "2: spleen #ff8000, tumour", "a, a")))
    monkey.hands.press(view.open_button)
    monkey.hands.qtbot.wait(monkey.random.choice((0, 500)))
    return view.classes.text()


@act(5, session=False)
def step_series(monkey) -> str | None:
    """Next, previous, skip or done, sometimes several at once; or an image by a double click."""
    view = None if monkey.series is None else monkey.series.view
    if view is None or not view.buttons["next"].isEnabled():
        return None
    deeds = [monkey.random.choice((*view.buttons, "row")) for _ in range(monkey.random.choice((1, 1, 1, 3)))]
    for deed in deeds:
        if deed == "row":
            view.images.itemDoubleClicked.emit(view.images.item(monkey.random.randrange(view.images.count())))
        else:
            monkey.hands.press(view.buttons[deed])
    monkey.hands.qtbot.wait(monkey.random.choice((0, 200, 800)))
    return ", ".join(deeds)


@act(1.5, session=False)
def object_of_class(monkey) -> str | None:
    view = None if monkey.series is None else monkey.series.view
    if view is None or not view.class_list.count():
        return None
    item = view.class_list.item(monkey.random.randrange(view.class_list.count()))
    view.class_list.itemDoubleClicked.emit(item)
    return item.text()


@act(0.5, session=False)
def series_of_all(monkey) -> str | None:
    if monkey.series is None:
        return None
    monkey.series.view.only_open.click()
    return f"only open: {monkey.series.view.only_open.isChecked()}"


@act(0.4, session=False)
def close_series(monkey) -> str | None:
    if monkey.series is None:
        return None
    monkey.close_series_dock()
    return "the dock"
