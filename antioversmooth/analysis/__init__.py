"""Measures of a model's layers, and their figures.

hooks         tokens and attention maps of an unchanged model
similarity, spectra, bounds    measures of tokens and maps
measures      all measures over a stream of images
record        measures as values and files; this and all below need no torch
panels        the curves of a panel
overview      the figures of one analysis
drawing       figures as PNG, SVG, JSON and CSV
"""
