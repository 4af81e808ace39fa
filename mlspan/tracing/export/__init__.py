"""Where finished spans go: one queue, and a sink for each kind of backend."""
