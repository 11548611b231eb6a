"""How good and how fast models are for a user: simulated users, protocols, metrics, runs over folders, reports.

From the top: `report` (one HTML page) and `plots` on `summary` (tables), on `runs` (cases, structures and methods,
resumable) and `parallel` (in several processes), on `methods` (who answers) and `protocols` (who asks what), on
`users` and `clicks` (simulated users), `results` (the file), `metrics` and `cases` (images with labels in folders).
"""
