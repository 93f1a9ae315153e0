"""Types of the operations on users, scopes and the system (devicemgmt.wsdl)."""

from __future__ import annotations

from nvr.model.device import DiscoveryMode
from nvr.soap.model import Open, String, Struct, list_of, optional, required, words
from nvr.soap.names import TT

UserLevel = words(("Administrator", "Operator", "User", "Anonymous", "Extended"), "UserLevel")
Discovery = words(DiscoveryMode)
FactoryDefault = words(("Hard", "Soft"), "FactoryDefaultType")


class UserExtension(Struct):
    __namespace__ = TT
    __open__ = Open.ELEMENTS

    Roles = required(list_of(String))


class User(Struct):
    __namespace__ = TT
    __open__ = Open.ATTRIBUTES

    Username = required(String)
    Password = optional(String)
    UserLevel = required(UserLevel)
    Extension = optional(UserExtension)
