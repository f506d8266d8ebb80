"""Limits of a document, which bound the work for hostile input."""

from __future__ import annotations

#: bytes of a document; a network of 100,000 endpoints is about 15 MiB of XML
MAX_BYTES = 16 * 2**20

#: characters of YAML that is not in plain block style; its parser takes seconds for each MiB
MAX_YAML = 4 * 2**20

#: networks in a document
MAX_NETWORKS = 10_000

#: levels of nesting; a description needs six
MAX_DEPTH = 64

#: values that YAML aliases may add to a document by repetition
MAX_ALIASED = 100_000

#: faults that are listed for a document; a last one says that there are more
MAX_FAULTS = 1000
