"""The SOAP 1.2 services."""

from nvr.soap.spyne_repair import quieten, repair_importers

quieten()
repair_importers()
