"""Runs one event in a fresh interpreter; prints each module that it loads and what asked for it.

A program of its own, started with -I -S: site-packages would load more than a function has. Its
arguments are the folder with index.py, the folders to import from, and a file with the event. Of
what lies in those folders only the packages of the layer can be imported.
"""

import sys

BEFORE = {*sys.modules, "__future__"}
LAYER = {
    *("annotated_types", "anyio", "aws_lambda_powertools", "certifi", "encryption_guard"),
    *("exceptiongroup", "h11", "httpcore", "httpx", "idna", "index", "jmespath", "pydantic"),
    *("pydantic_core", "typing_extensions", "typing_inspection"),
}


class Witness:
    """Finds no module, but is asked first; what the layer lacks cannot be found behind it."""

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}

    def find_spec(self, name: str, path: object, target: object = None) -> None:  # noqa: ARG002
        """The import system's question, https://docs.python.org/3/reference/import.html ."""
        if name.partition(".")[0] not in {*LAYER, *sys.stdlib_module_names}:
            raise ModuleNotFoundError(name, name=name)
        frame = sys._getframe(1)
        while frame.f_back and "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        self.asked.setdefault(name, frame.f_globals.get("__name__", "?"))


def main() -> None:
    """Run the event, and only then load what is needed to tell of it."""
    code, *folders, event = sys.argv[1:]
    witness = Witness()
    sys.meta_path.insert(0, witness)
    sys.path[:0] = [code]
    sys.path += folders
    from pathlib import Path
    from types import SimpleNamespace

    import index  # type: ignore[import-not-found]  # it is where the arguments say

    context = SimpleNamespace(
        request_id="cold",
        function=SimpleNamespace(name="cold", timeout=60),
        account_id="1234567890123456",
        region="cn-hangzhou",
    )
    index.initialize(context)
    index.handler(Path(event).read_bytes(), context)
    loaded = {name: witness.asked.get(name, "?") for name in sys.modules if name not in BEFORE}
    import json

    print(json.dumps(loaded))


if __name__ == "__main__":
    main()
