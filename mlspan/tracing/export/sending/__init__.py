"""Sending: from the spools to one sink, batch by batch, with backoff and several at a time."""
