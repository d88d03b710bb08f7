"""Encrypts every Alibaba Cloud OSS table bucket from the moment it exists."""

from encryption_guard.version import __version__ as __version__
