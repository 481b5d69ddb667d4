"""A configuration from the command line and from YAML, and back to YAML."""

from __future__ import annotations

import difflib
import importlib.resources
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ffcv.ssl.config.whole import Config
from ffcv.ssl.errors import ConfigError


def recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    folder = importlib.resources.files("ffcv.ssl") / "recipes"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def parse(arguments: Sequence[str]) -> Config:
    """Command-line arguments to a configuration.

    Raises:
        ConfigError: an unknown recipe, method or option (the message names the nearest), or a bad value.
        FileNotFoundError: no such `--config` file.
    """
    from jsonargparse import ArgumentError

    arguments = _expand_recipe(list(arguments))
    method = _method_of(arguments)
    parser = _parser(method)
    try:
        namespace = parser.parse_args(arguments)
    except ArgumentError as error:
        raise ConfigError(_explain(error, parser, method)) from None
    namespace.pop("config", None)
    build = getattr(parser, "instantiate", None) or parser.instantiate_classes
    values = dict(build(namespace).items())
    return Config(options=values.pop(method), **values)


def from_yaml(text: str) -> Config:
    """The configuration that `to_yaml` wrote.

    Raises:
        ConfigError: it has an option or a value that this version does not know.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        return parse(["--config", file.name])


def to_yaml(config: Config) -> str:
    """The configuration as text that `--config` and `from_yaml` read back, without the permission to overwrite: it was
    given for one time."""
    import yaml

    values = asdict(config)
    values["logging"]["overwrite"] = False
    values[config.method] = values.pop("options") or {}
    return yaml.safe_dump(_plain(values), sort_keys=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _parser(method: str) -> Any:
    from jsonargparse import ActionConfigFile, ArgumentParser  # pyright: ignore[reportPrivateImportUsage]

    from ffcv.ssl import methods

    parser = ArgumentParser(
        prog="ffcv train",
        exit_on_error=False,
        description=(f"Train an encoder without labels. --recipe NAME starts from one of: {', '.join(recipes())}."),
    )
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file; later options override it")
    parser.add_class_arguments(Config, None, skip={"options"})
    parser.add_class_arguments(methods.load(method).Options, method)
    return parser


def _expand_recipe(arguments: list[str]) -> list[str]:
    """``--recipe NAME`` (or ``--recipe=NAME``) as the ``--config`` file that it stands for."""
    joined = [part for a in arguments for part in (a.split("=", 1) if a.startswith("--recipe=") else [a])]
    if "--recipe" not in joined:
        return joined
    at = joined.index("--recipe")
    name = joined[at + 1] if at + 1 < len(joined) else ""
    if name not in recipes():
        raise ConfigError(f"unknown recipe {name!r}: choose one of {', '.join(recipes())}, or give --config FILE.yaml")
    path = importlib.resources.files("ffcv.ssl") / "recipes" / f"{name}.yaml"
    return [*joined[:at], "--config", str(path), *joined[at + 2 :]]


def _method_of(arguments: list[str]) -> str:
    """The method is looked up ahead of everything else, because it decides which options there are."""
    import yaml

    method = "simclr"
    pairs = [a.split("=", 1) if "=" in a else arguments[i : i + 2] for i, a in enumerate(arguments)]
    for key, *value in pairs:
        if key == "--config" and value:
            if not Path(value[0]).is_file():
                raise FileNotFoundError(f"{value[0]}: no such configuration file")
            method = (yaml.safe_load(Path(value[0]).read_text()) or {}).get("method", method)
        elif key == "--method" and value:
            method = value[0]
    return method


def _explain(error: Exception, parser: Any, method: str) -> str:
    """jsonargparse's message on one line; for an unknown option, the nearest that there are."""
    from ffcv.ssl import methods

    message = " ".join(str(error).split())
    foreign = re.search(rf"\b({'|'.join(methods.names())})\.\w+", message)
    if foreign and foreign[1] != method:
        return (
            f"{foreign[0]} is an option of method {foreign[1]}, but the method is {method}: "
            f"set --method {foreign[1]}, or leave the option (or the recipe that sets it) out"
        )
    unknown = re.search(r"(?:unrecognized arguments?:|[Kk]ey) '?\"?(--)?([\w.]+)", message)
    options = [o.removeprefix("--") for action in parser._actions for o in action.option_strings]
    if unknown and unknown[2] not in options:
        near = difflib.get_close_matches(unknown[2], options, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join('--' + n for n in near)}?" if near else "see ffcv train --help"
        message += f"; {hint}"
    return message
