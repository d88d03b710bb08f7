"""The version of the package, read from its installed metadata.

The layer contains no package metadata, and `importlib.metadata` would slow down a cold start.
Therefore `make build` replaces this file with one that contains the version as a constant.
"""

from importlib.metadata import version

__version__ = version("oss-tables-encryption-guard")
