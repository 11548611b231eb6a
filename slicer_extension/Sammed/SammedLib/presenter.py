"""Between a face (the module's panel, the Segment Editor effect) and the logic: what is said, asked and offered.

Knows no Qt: a face is a `View`, tests give one of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import slicer

from . import markups, volumes
from .delivery import Listener, Mailbox
from .fetching import Fetching
from .logic import SammedLogic
from .offers import Offer, automatic, of_models, of_server, of_windows, window_of
from .opening import local_backend
from .placing import Placing, placed_before, view_of
from .prompting import AUTO
from .serving import Serving
from .texts import tr

if TYPE_CHECKING:
    from napari_sammed.backend.base import Backend, Prediction
    from napari_sammed.backend.remote_choice import Place
    from napari_sammed.prompts import Point, Prompt


class View(Protocol):
    """What a face can do for the presenter; always called on the main thread."""

    def say(self, message: str, remark: str = "") -> None:
        """Show a sentence, and a remark below it."""

    def show_progress(self, text: str, share: float) -> None:
        """Show what is being done and how far it is, 0 to 1."""

    def refresh(self) -> None:
        """Segments, prompts, weights, the tool in hand, or whether something is on its way may have changed."""

    def agrees(self, question: str, conditions: str) -> bool:
        """Ask a question that nothing happens without a yes to; what it means is shown with it."""


class Presenter(Listener):
    """One face's conversation with the logic. All methods belong to the main thread and refuse nothing by exceptions:
    what the user cannot do is said in the view.

    Parameters
    ----------
    view : View
    make_backend : callable, optional
        Of this computer, as for `SammedLogic`; default: in this process, on the device of `set_device`.

    Attributes
    ----------
    logic : SammedLogic
    placing : Placing
    serving : Serving
        Where questions go: this computer until `Serving.follow` is called.
    mailbox : Mailbox
        The face runs it by a timer.
    """

    def __init__(self, view: View, make_backend: Callable[[], Backend] | None = None) -> None:
        self._view = view
        self._make_backend = make_backend
        self._device = AUTO
        self._window = "auto"
        self._custom = (40.0, 400.0)
        self.slice_boxes = True
        self.mailbox = Mailbox()
        self.logic = SammedLogic(self.mailbox.post, self, make_backend=self._backend_maker(None))
        self.placing = Placing(slicer.mrmlScene, self)
        self.serving = Serving(self, self._use_place)
        self._background = ThreadPoolExecutor(4, "sammed-panel")
        self._fetching = Fetching(self)
        self._jobs = 0

    def close(self) -> None:
        """End sessions and downloads; segments and journals stay in the scene."""
        self._fetching.stop()
        self.serving.close()
        self.placing.close()
        self.logic.close()
        self._background.shutdown(wait=False)

    @property
    def busy(self) -> bool:
        """Whether something is on its way."""
        return self.logic.busy or self._jobs > 0

    # ---- what is offered -----------------------------------------------------------------------------------------

    def models(self) -> list[Offer]:
        """See `offers.of_models` and `offers.of_server`; what stands in the way is said."""
        from napari_sammed.errors import InputError

        if self.serving.place is not None:
            check = self.serving.check
            return of_server(self.serving.place.host, None if check is None else check.models, self.logic.model)
        try:
            return of_models(self._fetching.on_its_way)
        except InputError as error:  # the folder of weights that the user names is not there
            self._view.say(_sentence(error))
            return [automatic()]

    def windows(self) -> list[Offer]:
        """See `offers.of_windows`."""
        return of_windows()

    # ---- what is chosen ------------------------------------------------------------------------------------------

    def open(
        self, volume: slicer.vtkMRMLVolumeNode | None, segmentation: slicer.vtkMRMLSegmentationNode | None, **how: Any
    ) -> slicer.vtkMRMLSegmentationNode | None:
        """Segment a volume; the segmentation that results are written to, a new one unless given."""
        if volume is None:
            return None
        return self.attempt(lambda: self.logic.open(volume, segmentation, **how))

    def set_device(self, device: str) -> None:
        """Compute on another device from now on: a key of `DEVICES`."""
        if device != self._device:
            self._device = device
            if self.serving.place is None:
                self._use_place()

    def set_window(self, key: str, custom: tuple[float, float] = (40.0, 400.0)) -> None:
        """Map grey values like this from now on: a key of `windows`, and level and width for `CUSTOM`."""
        self._window, self._custom = key, custom

    # ---- what the user does --------------------------------------------------------------------------------------

    def take(self, tool: str) -> None:
        """Take a tool in hand (`placing.POINTS`, `placing.DRAWINGS`), or put it down with ""."""
        if tool and self.logic.volume is None:
            self._view.say(tr("Choose a volume first."))
            tool = ""
        self.placing.take(tool)
        self._view.refresh()

    def add(self, prompt: Prompt, *, axis: int | None = None) -> None:
        """Have a prompt in index coordinates answered."""
        self._ask(prompt, lambda: self.logic.add(prompt, axis=axis))

    def next_segment(self, name: str = "") -> None:
        self.attempt(lambda: self.logic.next_segment(name))

    def select(self, segment_id: str) -> None:
        if segment_id and segment_id != self.logic.segment_id:
            self.attempt(lambda: self.logic.select(segment_id))

    def undo(self) -> None:
        self.attempt(self.logic.undo)
        self._say_state()

    def redo(self) -> None:
        self.attempt(self.logic.redo)
        self._say_state()

    def next_reading(self, step: int = 1) -> None:
        """Show another reading of an ambiguous answer."""
        self.attempt(lambda: self.logic.next_reading(step))
        self._say_state()

    def propagate(self) -> None:
        """Carry the current segment through the stack of slices, both ways."""
        self._ask(None, lambda: self.logic.propagate())

    def look_closer(self) -> None:
        """Segment the current segment again, magnified."""
        self._ask(None, lambda: self.logic.refine())

    def cancel(self) -> None:
        """Stop what is running; the prompts stay."""
        self._fetching.stop()
        self.serving.stop_test()
        self.attempt(self.logic.cancel)

    def fetch(self, model: str) -> None:
        """Fetch a model's weights if the user agrees to their licence; called again meanwhile, stop."""
        if model in self._fetching.on_its_way:
            self._fetching.on_its_way[model].set()
        elif model != AUTO:
            self.attempt(lambda: self._fetching.fetch(model, lambda: None))

    def run(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do work beside the main thread, and hand its result to a function on it; failures are said."""
        self._jobs += 1

        def done(future: Future[Any]) -> None:
            self._jobs -= 1
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self.failed(error)
            elif not future.cancelled():
                then(future.result())
            self._view.refresh()

        self._background.submit(work).add_done_callback(lambda future: self.mailbox.post(done, future))
        self._view.refresh()

    def say(self, message: str) -> None:
        self._view.say(message)

    def agrees(self, question: str, conditions: str) -> bool:
        return self._view.agrees(question, conditions)

    def post(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.mailbox.post(function, *arguments)

    # ---- what is placed (`placing.Placer`) -----------------------------------------------------------------------

    def placed(self, node: slicer.vtkMRMLMarkupsNode, number: int, positive: bool) -> None:
        def take_over() -> None:
            prompt = markups.point(node, number, self._volume(), positive=positive)
            self._ask(prompt, lambda: self.logic.add(prompt, axis=self._axis(node, number)))

        self._later(take_over)

    def moved(self, node: slicer.vtkMRMLMarkupsNode, number: int, positive: bool) -> None:
        def take_over() -> None:
            prompt = markups.point(node, number, self._volume(), positive=positive)
            place = self._points(positive)[placed_before(node, number)]
            self._ask(prompt, lambda: self.logic.replace(place, prompt, axis=self._axis(node, number)))

        self._later(take_over)

    def deleted(self, number: int, positive: bool) -> None:
        places = self._points(positive)
        if number < len(places):
            self._later(lambda: self.logic.remove(places[number]))

    def drawn(self, tool: str, node: slicer.vtkMRMLMarkupsNode) -> None:
        def take_over() -> None:
            volume = self._volume()
            if tool == "region":
                self._ask(None, lambda: self.logic.refine(node))
            elif tool == "box":
                on = self._slice_of_box(node) if self.slice_boxes else None
                prompt = markups.box(node, volume, on=on)
                self._ask(prompt, lambda: self.logic.add(prompt, axis=None if on is None else on[0]))
            elif tool == "lasso":
                prompt = markups.lasso(node, volume)
                self._ask(prompt, lambda: self.logic.add(prompt))
            else:
                prompt = markups.stroke(node, volume, positive=tool == "stroke")
                self._ask(prompt, lambda: self.logic.add(prompt))

        self.attempt(take_over)  # now: the node leaves the scene afterwards

    def put_down(self) -> None:
        self._view.refresh()

    # ---- what the logic says (`Listener`) ------------------------------------------------------------------------

    def progressed(self, what: str, share: float) -> None:
        self._view.show_progress(what, share)

    def answered(self, prediction: Prediction) -> None:
        from napari_sammed import messages

        session, state = self.logic.session, self.logic.state
        if session is None or state is None:
            return
        voxels = 0 if state.mask is None else int(state.mask.mask.sum())
        text = messages.answered(state, voxels, session.session.image.grid, prediction)
        self._view.say(text, " ".join(prediction.reductions))

    def failed(self, error: BaseException) -> None:
        text = _sentence(error)
        if text:
            self._view.say(text)

    def changed(self) -> None:
        session, volume = self.logic.session, self.logic.volume
        if session is not None or volume is None:  # while it opens, what was placed waits in its nodes
            self.placing.show(self.logic.prompts() or (), volume)
        self._view.refresh()

    # ---- inside --------------------------------------------------------------------------------------------------

    def _use_place(self) -> None:
        """Have the place that was chosen answer from now on."""
        self.attempt(lambda: self.logic.use_backend(self._backend_maker(self.serving.place)))

    def _backend_maker(self, place: Place | None) -> Callable[[], Backend]:
        if place is not None:
            return self.serving.backend_at(place)
        return self._make_backend or partial(local_backend, self._device)

    def _volume(self) -> slicer.vtkMRMLVolumeNode:
        volumes.check_kind(self.logic.volume)
        return self.logic.volume

    def _points(self, positive: bool) -> list[int]:
        """Places among the prompts of the points of one sign."""
        from napari_sammed.prompts import Point

        prompts: Sequence[Prompt | Point] = self.logic.prompts() or ()
        return [n for n, p in enumerate(prompts) if isinstance(p, Point) and p.positive == positive]

    def _axis(self, node: slicer.vtkMRMLMarkupsNode, number: int) -> int | None:
        view = view_of(slicer.mrmlScene, node.GetNthControlPointPositionWorld(number))
        return None if view is None else volumes.axis_across(self.logic.volume, view)

    def _slice_of_box(self, node: slicer.vtkMRMLMarkupsROINode) -> tuple[int, int] | None:
        view = view_of(slicer.mrmlScene, node.GetCenterWorld())
        return None if view is None else volumes.slice_shown(self.logic.volume, view)

    def _later(self, action: Callable[[], None]) -> None:
        """Do it when the event of the scene is over: nodes are not to be changed while they tell of a change."""
        self.mailbox.post(self.attempt, action)

    def _ask(self, prompt: Prompt | None, question: Callable[[], Any]) -> None:
        """Put a question, after the user has agreed to fetch what its model needs."""

        def ask() -> None:
            self.logic.window = window_of(self._window, self._custom, self.logic)
            routed = prompt if self._make_backend is None else None
            at_server = self.serving.place is not None
            missing = None if at_server else self._fetching.missing(self.logic.model, routed)
            if missing is None:
                question()
            elif not self._fetching.fetch(missing, lambda: self.attempt(question)):
                self.changed()  # takes points away that were placed for this question

        self.attempt(ask)

    def _say_state(self) -> None:
        """The current segment and its size; after an action that no answer follows."""
        from napari_sammed import messages

        session, state = self.logic.session, self.logic.state
        if session is None:
            return
        if state is None:
            self._view.say(tr("There is nothing left to undo.") if not session.session.history.done else "")
            return
        grid = session.session.image.grid
        voxels = 0 if state.mask is None else int(state.mask.mask.sum())
        if len(state.readings) > 1:
            self._view.say(messages.read(state, voxels, grid))
        else:
            self._view.say(f"{state.name}: {messages.size(voxels, grid) or tr('empty')}.")

    def attempt(self, action: Callable[[], Any]) -> Any:
        """Do something that may be refused; the refusal is said."""
        try:
            return action()
        except Exception as error:
            self.failed(error)
            self.changed()
            return None


def segmentation_of(volume: slicer.vtkMRMLVolumeNode) -> slicer.vtkMRMLSegmentationNode | None:
    """The first segmentation in the scene that was made on a volume."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    nodes = slicer.mrmlScene.GetNodesByClass("vtkMRMLSegmentationNode")
    return next((node for node in nodes if node.GetNodeReference(role) is volume), None)


def _sentence(error: BaseException) -> str:
    """What to say about an error; empty for work that was called off."""
    if isinstance(error, ModuleNotFoundError):
        return tr("The package {name} is not installed: press Install first.").format(name=error.name)
    from napari_sammed import messages

    return messages.failure(error) or ""
