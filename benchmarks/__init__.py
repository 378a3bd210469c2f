"""Figures that Edgeloop is held to: one module per figure, each measured in pairs against a named peer or limit."""
