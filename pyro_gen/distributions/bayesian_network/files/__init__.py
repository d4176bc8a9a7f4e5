"""Readers of network files: BIF, XMLBIF and UAI."""
