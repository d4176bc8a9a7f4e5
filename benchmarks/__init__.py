"""Side by side with peers in one run, on a green gate only: ``python -m benchmarks
MODE --json FILE``.
"""
