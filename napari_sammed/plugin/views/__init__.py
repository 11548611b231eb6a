"""Qt widgets that know neither napari nor sessions: they show what they are told and emit what the user wants."""
