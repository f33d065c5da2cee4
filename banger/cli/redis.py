"""The group ``banger redis``: who may do what in the farm's Redis, for a Redis that is not the farm's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from banger.cli import options
from banger.cli.columns import print_json
from banger.cli.group import command, group
from banger.cli.session import session_of
from banger.contracts.errors import InvalidInputError

if TYPE_CHECKING:
    from banger.embedded.credentials import Credentials
    from banger.settings import Settings

app = group("The users of the farm's Redis.")


@command(app, "acl")
def acl(ctx: typer.Context, as_json: options.Json = False) -> int:
    """Print the orders that make this host's users in a Redis of your own. Needs root.

    Each host makes its passwords once; the orders hold their hashes alone. Run again after an update: rights
    are replaced, passwords that other hosts gave a user stay. With --json, each right has its reason.

    \b
    Examples:
      sudo banger redis acl | redis-cli --tls --cacert ca.pem -h redis.example --askpass
      sudo banger redis acl --json
    """
    from banger.redis_roles import acl_rules

    farm = _credentials(session_of(ctx).settings)
    rules = acl_rules(farm.host, farm.redis_passwords)
    if as_json:
        print_json([_as_data(farm, *one) for one in zip(farm.redis_passwords, rules.items(), strict=True)])
    else:
        for user, rights in rules.items():
            typer.echo(f"ACL SETUSER {user} {rights}")
    return 0


@command(app, "url")
def url(
    ctx: typer.Context,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="cli, worker, root, flower, metrics, admin.")],
) -> int:
    """Print the URL by which a role of this host reaches Redis. It holds the password. Needs root.

    \b
    Examples:
      sudo banger redis url cli        for BANGER_REDIS_URL on another machine
      sudo banger redis url metrics    for an exporter
    """
    from banger.contracts.broker import roles_here

    settings = session_of(ctx).settings
    roles = roles_here(own_redis=settings.redis_url is None)
    known = next((one for one in roles if one == role), None)
    if known is None:
        raise InvalidInputError(f"there is no role {role!r}", resolution=f"Roles: {', '.join(roles)}.")
    typer.echo(_credentials(settings).url(known))
    return 0


def _credentials(settings: Settings) -> Credentials:
    from banger.embedded import credentials
    from banger.privilege import require_root

    require_root("tell the users of Redis")
    known = credentials.load(settings.farm_file)
    if known and known.redis_passwords:
        return known
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    return credentials.ensure(settings)


def _as_data(farm: Credentials, role: Any, rules: tuple[str, str]) -> dict[str, Any]:
    from banger.redis_roles import grants

    user, text = rules
    rights = [row._asdict() | {"commands": row.commands.split()} for row in grants(role, farm.host)]
    return {"role": role, "user": user, "rules": text, "rights": rights}
