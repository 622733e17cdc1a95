"""The only room that knows Lightning: data module, training module, callbacks."""
