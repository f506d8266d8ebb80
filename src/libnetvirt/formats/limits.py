"""How large a document may be. A hostile one is refused before it costs more than reading it."""

from __future__ import annotations

#: Octets of a document. A network of 100,000 endpoints takes about 15 MiB of XML.
MAX_OCTETS = 16 * 2**20

#: Characters of YAML outside plain block style, whose parser takes seconds for a MiB.
MAX_YAML = 4 * 2**20

#: Networks of one document.
MAX_NETWORKS = 10_000

#: How deep elements may be nested. A description needs six levels.
MAX_DEPTH = 64

#: Nodes that YAML aliases may add to a document by repeating what they name.
MAX_ALIASED = 100_000

#: Faults listed of one document; the rest is counted.
MAX_FAULTS = 1000
