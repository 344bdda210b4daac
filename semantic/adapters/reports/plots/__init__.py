"""Plots as inline SVG that takes its colours from the page, so that it is legible in light and dark (ADR 0019)."""
