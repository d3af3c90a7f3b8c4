"""What a server that infers can be told."""

from dataclasses import dataclass

from user_rl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """Bounds and times of one server."""

    line: int = 64  # requests that wait at most; then those whose deadline is the latest are turned away
    each: int = 2  # of one cell
    tick_s: float = 0.02  # between looks at stop when nothing arrives
    threads: int = 1  # of torch
    weights_every_s: float = 0.3  # between two looks for a newer version
    part_bytes: int = 512 * 2**10  # of one message of weights
    keep_versions: int = 3
    answer_s: float = 5.0  # without an answer for so long: ask for weights again

    def __post_init__(self) -> None:
        if not (self.line >= self.each >= 1 and self.threads >= 1 and self.keep_versions >= 1):
            raise ConfigError(
                f"inference: line = {self.line}, each = {self.each}, threads = {self.threads}, keep_versions = "
                f"{self.keep_versions}, allowed 1 or more, and line not below each; mend the one that is not"
            )
