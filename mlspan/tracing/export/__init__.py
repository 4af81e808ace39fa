"""The export of ended spans: one queue on disk or in memory, and one sender for each kind of backend."""
