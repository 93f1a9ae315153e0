"""The contract as it is served: the files of wsdl/, with the address of the device written into them.

In an installed package they lie in nvr/wsdl, in a checkout in wsdl/ beside nvr/.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.sax.saxutils import quoteattr

import nvr
from nvr.model.errors import OperatorError

_ADDRESS = re.compile(r'(<soap:address\s+location=)"[^"]*"')


def contract_directory() -> Path:
    """Raises OperatorError when the package has been installed without the files."""
    package = Path(nvr.__file__).parent
    for directory in (package / "wsdl", package.parent / "wsdl"):
        if (directory / "devicemgmt.wsdl").is_file():
            return directory
    raise OperatorError(f"the WSDL files are missing beside {package}: install the package again")


class Contract:
    """All files, read once; they are small."""

    def __init__(self, directory: Path) -> None:
        self._documents = {
            path.name: path.read_text(encoding="utf-8")
            for path in sorted(directory.iterdir())
            if path.suffix in (".wsdl", ".xsd")
        }

    @property
    def schemas(self) -> tuple[str, ...]:
        """Names of the files that WSDL files import; they are served beside the services' paths."""
        return tuple(name for name in self._documents if name.endswith(".xsd"))

    def schema(self, name: str) -> bytes:
        """Raises KeyError."""
        return self._documents[name].encode()

    def wsdl(self, name: str, address: str) -> bytes:
        """A WSDL file whose service stands at `address`. Raises KeyError."""
        location = quoteattr(address)
        return _ADDRESS.sub(lambda m: m[1] + location, self._documents[name]).encode()
