"""Sessions: one image, its objects, and everything that the user did to them; imports no torch.

From the top: `session` (what a face calls) on `comparing` (with other models; `agreement` measures it), `previewing`
and `prompting`, on `arranging` (the list of objects) and `objects` (what else needs no model), on `conversation`
(questions and answers, the journal of both), `routing` (which model, which slice), `asking` (the backend), `records`
(to and from JSON), `journal` (the file), `history` (pure bookkeeping), `roster` (which objects there are, and which
lies on top) and `actions` (what can be done).
"""

from __future__ import annotations

from napari_sammed.session.actions import Change
from napari_sammed.session.comparing import Comparison
from napari_sammed.session.conversation import Step
from napari_sammed.session.routing import AUTO
from napari_sammed.session.session import Session

__all__ = ["AUTO", "Change", "Comparison", "Session", "Step"]
