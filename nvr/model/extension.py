"""What a client has put into a configuration beyond what this edition knows (xs:any, xs:anyAttribute of the schema).

It has no meaning here. It is kept with the object that it was given for, and told again in the place where it stood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Extension:
    """What stood in one element of a configuration.

    `path` leads from the configuration to that element: names joined by slashes, empty for the configuration itself.
    `attributes` and `elements` are XML text that holds every declaration of a namespace that it needs, also of those
    whose prefixes stand in values; each attribute has a space before it.
    """

    path: str
    attributes: str = ""
    elements: str = ""

    def __len__(self) -> int:
        """Characters of its text."""
        return len(self.attributes) + len(self.elements)


LONGEST = 8192
"""Characters of all extensions of one configuration, those of the sources and tracks of a job included."""

Extensions: TypeAlias = tuple[Extension, ...]
"""At most one for each path; those without text are left out."""
