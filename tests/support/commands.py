"""Commands of the command line, in this process."""

from __future__ import annotations

import pytest

from nvr.cli import main


def status_of(*arguments: str) -> object:
    """Runs a command to its end; its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code
