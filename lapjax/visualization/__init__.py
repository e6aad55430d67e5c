"""Figures and pages: single plots, training curves, charts, galleries of samples, the report of a run, Markdown tables."""
