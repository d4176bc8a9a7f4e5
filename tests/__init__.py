"""The test suite: a package of its own, lest another distribution's ``tests`` stands in its place."""
