"""Find misspelt keys in template.yaml and member.yaml (`make check`, and each deployment).

`s verify` accepts any key: the schema of the component fc3 allows every name, and the component ros
has no schema. A deployment would ignore the misspelt setting, or fail halfway.
fc3_keys.json and ros_keys.json list the known keys, and name their sources. In these trees `{}` is
a value without keys, "any key" accepts everything, "*" stands for every name, and "by NAME" chooses
a tree by the value of the key NAME beside it.

Exit status 0: every key is known. 1: some are not. 2: the template could not be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click
import yaml

# The known keys of a place: a mapping, or ANY_KEY.
Tree = Any
COMPONENTS = ("fc3", "ros")
ANY_KEY, ANY_NAME, BY = "any key", "*", "by "


class UnknownKey(NamedTuple):
    """A key that a component does not know, by its dotted path, and the most similar known key."""

    path: str
    similar: str | None

    def __str__(self) -> str:
        suggestion = f"; did you mean {self.similar}?" if self.similar else ""
        return f"{self.path} is unknown{suggestion}"


def find_unknown_keys(component: str, props: Mapping[str, Any]) -> list[UnknownKey]:
    """Return the keys of a resource's `props` that its component does not know.

    `component` may name a version (`fc3@0.1.22`).
    """
    name = _name_of(component)
    return list(_walk(_without_functions(props) if name == "ros" else props, read_keys(name), ()))


def _name_of(component: str) -> str:
    return component.partition("@")[0]


@cache
def read_keys(component: str) -> Tree:
    """Return the known keys of a component."""
    return json.loads(Path(__file__).with_name(f"{component}_keys.json").read_text("utf-8"))["keys"]


def _walk(node: Any, known: Tree, place: tuple[str, ...]) -> Iterator[UnknownKey]:
    if known == ANY_KEY:
        return
    if isinstance(node, list):
        for number, each in enumerate(node):
            yield from _walk(each, known, (*place, str(number)))
    elif isinstance(node, Mapping):
        for key, value in node.items():
            path = (*place, str(key))
            if key in known or ANY_NAME in known:
                yield from _walk(value, _choose(known.get(key, known.get(ANY_NAME)), node), path)
            else:
                yield UnknownKey(".".join(path), _find_similar(str(key), known))


def _find_similar(key: str, known: Tree) -> str | None:
    """Return the most similar known key; a difference in case or underscores counts for little."""
    names = {_plain(name): name for name in known}
    similar = get_close_matches(_plain(key), names, n=1)
    return names[similar[0]] if similar else None


def _plain(key: str) -> str:
    return key.lower().replace("_", "")


def _choose(known: Tree, siblings: Mapping[str, Any]) -> Tree:
    """Return the tree for a key; one with "by NAME" depends on the key NAME among its siblings.

    A value without a tree is not checked: `s verify` and the service refuse a misspelt type.
    """
    name = next(iter(known), "")
    if known == ANY_KEY or not name.startswith(BY):
        return known
    return known[name].get(str(siblings.get(name.removeprefix(BY))), ANY_KEY)


def _without_functions(node: Any) -> Any:
    """Return a stack's template with each function replaced by the values that it can return.

    Of the functions, only those of Fn::If can have keys.
    """
    if isinstance(node, list):
        return [_without_functions(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    name = str(next(iter(node))) if len(node) == 1 else ""
    if name == "Fn::If":
        return _without_functions(node[name][1:])
    if name == "Ref" or name.startswith("Fn::"):
        return None
    return {key: _without_functions(value) for key, value in node.items()}


def read_resources(text: str) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return the component and the props of each resource of a template, unresolved.

    The template of a stack alone is one resource. Raises ValueError if the text is no template, or
    has a component without a list of keys.
    """
    try:
        document = yaml.safe_load(text)
        if "ROSTemplateFormatVersion" in document:
            return {"stack": ("ros", {"template": document})}
        resources = document["resources"]
        found = {name: (str(one["component"]), one["props"]) for name, one in resources.items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no template of Serverless Devs: {error!r}") from error
    for name, (component, _) in found.items():
        if _name_of(component) not in COMPONENTS:
            raise ValueError(f"{name}: there is no list of the keys of {component}")
    return found


@click.command()
@click.argument("template", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(template: Path) -> NoReturn:
    """Print each key of a template that its component does not know."""
    try:
        resources = read_resources(template.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{template}: {error}") from None
    unknown = [
        f"{template}: {name}: {key}"
        for name, (component, props) in resources.items()
        for key in find_unknown_keys(component, props)
    ]
    click.echo("\n".join(unknown or [f"{template}: every key is known"]))
    raise SystemExit(1 if unknown else 0)


if __name__ == "__main__":
    main()
