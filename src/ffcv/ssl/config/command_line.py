"""A configuration from the command line and from YAML, and back to YAML."""

from __future__ import annotations

import difflib
import importlib.resources
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from ffcv.errors import one_line
from ffcv.ssl.config.whole import Config
from ffcv.ssl.errors import ConfigError

GROUPS = tuple(field.name for field in fields(Config) if is_dataclass(get_type_hints(Config)[field.name]))
"""Options of `Config` that have options of their own."""


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
    from jsonargparse import ArgumentError, Namespace

    arguments = _expand_recipe(list(arguments))
    method = _method_of(arguments)
    parser = _parser(method)
    try:
        namespace = parser.parse_args(arguments)
    except ArgumentError as error:
        raise ConfigError(_explain(error, parser, method)) from None
    namespace.pop("config", None)
    for group in (*GROUPS, method):
        if not isinstance(namespace[group], Namespace):
            raise ConfigError(f"{group}: expected options such as '{group}: {{...}}', got {namespace[group]!r}")
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

    class Dumper(yaml.SafeDumper):
        """Also quotes texts such as 1e-3 or 1.5e3, which are numbers to jsonargparse and YAML 1.2, not to YAML 1.1."""

    number = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", number, [*"-+0123456789"])
    return yaml.dump(_plain(values), Dumper=Dumper, sort_keys=False)


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
        allow_abbrev=False,
        description=(
            f"Train an encoder without labels. --recipe NAME starts from one of: {', '.join(recipes())}. --method is "
            f"one of: {', '.join(methods.names())}; each has options of its own, which --method NAME --help shows."
        ),
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
    if joined.count("--recipe") > 1:
        raise ConfigError("--recipe was given twice: choose one, and change what it says by further options")
    at = joined.index("--recipe")
    name = joined[at + 1] if at + 1 < len(joined) else ""
    if name not in recipes():
        raise ConfigError(f"unknown recipe {name!r}: choose one of {', '.join(recipes())}, or give --config FILE.yaml")
    path = importlib.resources.files("ffcv.ssl") / "recipes" / f"{name}.yaml"
    return [*joined[:at], "--config", str(path), *joined[at + 2 :]]


def _method_of(arguments: list[str]) -> str:
    """The method is looked up ahead of everything else, because it decides which options there are."""
    method = "simclr"
    pairs = [a.split("=", 1) if "=" in a else arguments[i : i + 2] for i, a in enumerate(arguments)]
    for key, *value in pairs:
        if key == "--config" and value:
            method = _read(Path(value[0])).get("method", method)
        elif key == "--method" and value:
            method = value[0]
    return method


def _read(path: Path) -> dict[str, Any]:
    """What a configuration file says.

    Raises:
        ConfigError: it is no YAML, or no mapping.
        FileNotFoundError: there is none.
    """
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such configuration file")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file ({one_line(error)})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected options such as 'optim: {{lr: 0.001}}', got a {type(values).__name__}")
    return values


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
    of_group = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message)
    alone = re.search(r"(?:unrecognized arguments?:|[Kk]ey|Option) '?\"?(?:--)?([\w.]+)", message)
    unknown = f"{of_group[1]}.{of_group[2]}" if of_group else alone[1] if alone else None
    options = [o.removeprefix("--") for action in parser._actions for o in action.option_strings]
    if unknown is not None and unknown not in options:
        own_name = [o for o in options if o.rpartition(".")[2] == unknown.rpartition(".")[2]]  # --lr for --optim.lr
        near = list(dict.fromkeys([*own_name, *difflib.get_close_matches(unknown, options, n=3, cutoff=0.5)]))[:3]
        hint = f"did you mean {', '.join('--' + n for n in near)}?" if near else "see ffcv train --help"
        message += f"; {hint}"
    return message
