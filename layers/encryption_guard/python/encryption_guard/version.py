"""The version of the guard, which pyproject.toml states.

`make build` replaces this file by one that states it too: in the layer there are no metadata of
the package, and what reads them would cost a cold start.
"""

from importlib.metadata import version

__version__ = version("oss-tables-encryption-guard")
