"""The dialect of search filters and message content filters: a subset of XPath 1.0 that is true or false for a document
(IEC 62676-2-32 6.18, ONVIF Core 9.4.4). Sans-I/O.

    expression  = conjunction *( "or" conjunction )
    conjunction = term *( "and" term )
    term        = "(" expression ")" / "not" "(" expression ")" / "boolean" "(" expression ")"
                / "contains" "(" path "," string ")" / path [ operator literal ]
    path        = [ "/" / "//" ] step *( ( "/" / "//" ) step )          in [...]: without the leading slash
    step        = ( name / "*" / "." ) *( "[" expression "]" ) / "@" name
    operator    = "=" / "!=" / "<" / "<=" / ">" / ">="
    literal     = string / number

It accepts somewhat more than the grammar of the standard, with the meaning of XPath 1.0. Names match by their local
part: filters come with the prefix tt, with another, or with none. Typographic quotes, as they stand in the printed
standard, quote as well. Beyond XPath 1.0, two xs:dateTime values compare as instants, so that
EarliestRecording < "2024-01-01T00:00:00Z" means what it says.
"""

from __future__ import annotations

from nvr.model.xpath.evaluation import MAX_VISITS, Document, Filter, Layout, Node, Text, matches
from nvr.model.xpath.expression import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_STEPS,
    And,
    Comparison,
    Contains,
    Expression,
    Not,
    Or,
    Path,
    Step,
    mentions,
    parse,
)

__all__ = [
    "DIALECT",
    "MAX_DEPTH",
    "MAX_LENGTH",
    "MAX_STEPS",
    "MAX_VISITS",
    "And",
    "Comparison",
    "Contains",
    "Document",
    "Expression",
    "Filter",
    "Layout",
    "Node",
    "Not",
    "Or",
    "Path",
    "Step",
    "Text",
    "matches",
    "mentions",
    "parse",
]

DIALECT = "http://www.onvif.org/ver10/tse/searchFilter"
