"""The compiled loops: polygons to spans, spans to pixel values, pixel values to statistics.

The only door to numba in extraction/. Kernels hold no lock (nogil), know nothing of files or
databases, and work on plain arrays; `extraction.spans` and `extraction.reduction` give them
meaning.
"""
