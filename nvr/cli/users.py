"""`nvr user`: the accounts of the services."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from nvr.cli.arguments import add_data, add_password_sources, print_json, print_table, read_password, recorder
from nvr.data_directory import is_recorder

_ROLES = ("administrator", "operator", "user")
_WHAT_ROLES_MAY = "administrator: everything; operator: recordings and replay; user: search and replay"


def add_users(commands: Any) -> None:
    """`commands` is what `add_subparsers` has returned."""
    user = commands.add_parser("user", help="users of the services").add_subparsers(required=True, metavar="ACTION")

    add = user.add_parser(
        "add",
        help="make a user",
        description="Makes a user, on a running or stopped recorder. Asks for the password, or reads it from stdin.",
    )
    add.add_argument("name", metavar="NAME")
    add.add_argument("--role", required=True, choices=_ROLES, help=_WHAT_ROLES_MAY)
    add_password_sources(add)
    add_data(add, makes=True)
    add.set_defaults(run=_add)

    shown = user.add_parser("list", help="who there is", description="Shows the users and their roles.")
    shown.add_argument("--json", action="store_true", help="one JSON object a line")
    add_data(shown)
    shown.set_defaults(run=_list)

    password = user.add_parser(
        "password",
        help="give a user another password",
        description="Gives a user another password, on a running or stopped recorder. What was begun with the old one "
        "ends: subscriptions, searches, RTSP connections.",
    )
    password.add_argument("name", metavar="NAME")
    add_password_sources(password)
    add_data(password)
    password.set_defaults(run=_password)

    role = user.add_parser("role", help="give a user another role", description="Gives a user another role.")
    role.add_argument("name", metavar="NAME")
    role.add_argument("role", choices=_ROLES, help=_WHAT_ROLES_MAY)
    add_data(role)
    role.set_defaults(run=_role)

    remove = user.add_parser(
        "remove",
        help="remove a user",
        description="Removes a user. What the user has begun ends. The last administrator stays.",
    )
    remove.add_argument("name", metavar="NAME")
    add_data(remove)
    remove.set_defaults(run=_remove)


def _add(arguments: argparse.Namespace) -> int:
    password = read_password(arguments)
    new = not is_recorder(arguments.data)
    with recorder(arguments, existing=False) as asked:
        asked.ask("user add", {"name": arguments.name, "role": arguments.role, "password": password})
    if new:
        print(f"nvr: {arguments.data} is a new data directory", file=sys.stderr)
    print(f"user {arguments.name} ({arguments.role}) added")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    with recorder(arguments) as asked:
        rows = asked.ask("user list", {})
    if arguments.json:
        print_json({**row, "locked": bool(row["locked"])} for row in rows)
        return 0
    print_table(("name", "role"), rows)
    for row in rows:
        if row["locked"]:
            print(
                f"nvr: user {row['name']} is locked, since the key of the stored password is not there: "
                "`nvr user password` gives another",
                file=sys.stderr,
            )
    return 0


def _password(arguments: argparse.Namespace) -> int:
    password = read_password(arguments, "New password: ")
    with recorder(arguments) as asked:
        asked.ask("user change", {"name": arguments.name, "password": password})
    print(f"user {arguments.name} has another password")
    return 0


def _role(arguments: argparse.Namespace) -> int:
    with recorder(arguments) as asked:
        asked.ask("user change", {"name": arguments.name, "role": arguments.role})
    print(f"user {arguments.name} is {arguments.role} now")
    return 0


def _remove(arguments: argparse.Namespace) -> int:
    with recorder(arguments) as asked:
        asked.ask("user remove", {"name": arguments.name})
    print(f"user {arguments.name} removed")
    return 0
