"""A monkey at the plugin: random but sensible work in a real napari window, and a watch over what goes wrong.

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m tests.monkey --minutes 30
    xvfb-run -a -s "-screen 0 1600x1000x24" python -m tests.monkey --seed 7 --steps 150

It clicks, draws, paints and presses what users do, through canvas, keys and the widgets of the panel, and checks after
every step that layers, panel and session say the same. Work is done in rounds: each has its own images, and at its end
the dock is closed and everything deleted, after which nothing of ours may be left. What counts as a fault, see
`tests.monkey.faults`, `tests.monkey.checks` and `tests.monkey.remains`; for blocked event loops
`tests.monkey.heartbeat`.

Every step draws from its own seed, so a failing run can be repeated with the seed and number of steps that it prints.
"""
