"""What the operator of the app chooses; what is unsafe is refused before anything listens."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from lora_gen.assets import asset_path, default_generator
from lora_gen.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """How the app is served and with which models.

    Raises:
        ConfigError: It would listen beyond this machine without a password, or a number is out of
            range.
    """

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs `auth`."""

    port: int = 7860
    """Port to listen on; 0 takes a free one."""

    auth: tuple[str, str] | None = None
    """Name and password that every visitor must give."""

    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """Host names under which the app may be reached; others are refused (DNS rebinding)."""

    generator: str = field(default_factory=lambda: str(default_generator()))
    """Folder or hub id of the generator."""

    bases: tuple[str, ...] = field(default_factory=lambda: ("tiny_lm", *embedded_generators()))
    """The only base models that visitors may choose."""

    zoo: Path = field(default_factory=lambda: asset_path("tiny_lm", "zoo"))
    """Zoo to show and to search; never written."""

    encoder: Path | None = field(default_factory=lambda: asset_path("tiny_lm", "encoder"))
    """Folder of the encoder that predicts quality; where there is none, the app says so."""

    reports: Path = field(default_factory=lambda: asset_path("tiny_lm", "reports"))
    """Folder with the generator's `report.json` and `report.md`."""

    quarantine: Path | None = None
    """Zoo folder that uploads are kept in until an operator accepts them; None refuses uploads."""

    max_queue: int = 32
    """Requests that may wait; one more is told when to come back."""

    requests_per_minute: int = 600
    """Requests that one address may make in a minute."""

    mcp: bool = False
    """Whether the endpoints are MCP tools too."""

    embed: bool = False
    """Whether other pages may show the app in a frame, as a Space needs."""

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and self.auth is None:
            raise ConfigError(
                f"`host` is {self.host}, which others can reach, but no visitor needs a password. "
                "Pass `--auth NAME` with the password in LORA_GEN_APP_PASSWORD, or listen on "
                "127.0.0.1."
            )
        for name, low, high in (
            ("port", 0, 65_535),
            ("max_queue", 1, 10_000),
            ("requests_per_minute", 1, 1_000_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"`{name}` must be between {low} and {high:,}, but is {value}. Choose another."
                )


def embedded_generators() -> dict[str, str]:
    """Embedded base -> its generator, for those that `generator` does not serve."""
    from lora_gen.adapter.base_model import EMBEDDED_BASES

    folders = {base: asset_path(base, "generator") for base in EMBEDDED_BASES if base != "tiny_lm"}
    return {
        base: str(folder)
        for base, folder in folders.items()
        if (folder / "model_index.json").is_file()
    }


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
