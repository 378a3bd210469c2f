"""Edgeloop's library: what each stage of the loop does, without Airflow."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("edgeloop")
except PackageNotFoundError:  # a source tree on PYTHONPATH that was never installed
    __version__ = "0+uninstalled"
