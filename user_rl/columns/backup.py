"""The columns' part of a backup: each one as it was at one commit, while its owner goes on.

Taken after the manifest, so a restored run has at least the commits that its checkpoint names.
"""

from contextlib import closing
from pathlib import Path

from user_rl.columns.file import ColumnFile
from user_rl.columns.owner import OWNER, names_in
from user_rl.log.vault import Kept, Vault

COLUMNS = "columns/"  # where they stand in a backup


def keep_columns(path: Path, vault: Vault) -> list[Kept]:
    """Takes the columns in `path` into the vault; a folder that is not there has none."""
    kept = [_keep(path / identity, vault) for identity in names_in(path)]
    if (path / OWNER).is_file():
        kept.append(vault.keep(f"{COLUMNS}{OWNER}", path / OWNER))
    return kept


def _keep(path: Path, vault: Vault) -> Kept:
    with closing(ColumnFile(path)) as file:
        return vault.write(f"{COLUMNS}{path.name}/data.mdb", lambda into: file.copy(into.fileno()))
