"""The SOAP 1.2 services."""

from nvr.soap.spyne_repair import import_spyne, quieten

quieten()
import_spyne()
